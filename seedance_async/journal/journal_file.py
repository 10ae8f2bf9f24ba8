"""The file of an SQLite journal: opened for writing, read, moved, and refused if it is no journal.

A file that is refused keeps every byte, and no file is left beside it.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from seedance_async.api.errors import JournalError
from seedance_async.journal.database import Database
from seedance_async.journal.entry import JournalEntry
from seedance_async.journal.lock import SHARED_TIMEOUT, WriteLock, create_private, is_held
from seedance_async.journal.schema import APPLICATION_ID, MIGRATIONS, migrate, version_of
from seedance_async.journal.sqlite_statements import SQLiteStatements, connect

# Modes of an SQLite URI for reading. With `immutable`, SQLite takes no locks and creates no files.
_WITH_LOG, _WITHOUT_LOG = "ro", "ro&immutable=1"
#: Files that SQLite keeps beside a database that was not closed; they hold part of its data.
_COMPANIONS = ("-wal", "-shm")
_Snapshot = tuple[int, int, int]
_T = TypeVar("_T")
#: How long a statement waits for another session's, in milliseconds.
_BUSY_MS = 30_000


class OpenJournal:
    """A journal's file, open for writing in the current thread and locked against other runs.

    Args:
        path: the file.
        is_shared: whether other sessions that say so, too, may write it at the same time.
        clock: returns seconds since the epoch.

    Raises:
        JournalError: another run is writing the file, or it cannot be used as a journal.
    """

    def __init__(
        self, path: str, *, is_shared: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        with _journal_errors(path):
            file = _resolve(path)
            if is_shared and _size(file) == 0:
                _create_alone(file, path)
            self._lock = WriteLock(file, is_shared=is_shared)
            self._lock.acquire()
            try:
                connection = _open(file, path, is_shared=is_shared)
                statements = SQLiteStatements(connection, path, clock)
                self.database = Database(statements, is_shared=is_shared)
                self._register()
                self._file, self._opened = file, file.stat()
            except BaseException:
                self._lock.undo()
                raise

    def _register(self) -> None:
        try:
            self.database.begin()
            self.database.owners.register()
            self.database.commit()
        except BaseException:
            self.database.close()
            raise

    def begin(self, *, writes: bool) -> None:
        """Start a transaction.

        Raises:
            OSError: the file was removed or replaced: what is written would be lost with it.
        """
        self._check_in_place()
        self.database.begin(writes=writes)

    def _check_in_place(self) -> None:
        try:
            in_place = os.path.samestat(self._opened, self._file.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise OSError("the file was removed or replaced while it was in use")

    def close(self) -> None:
        """Close the file, then release the lock."""
        try:
            self.database.owners.leave()
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self.database.close()
        finally:
            self._lock.release()


def read_entries(path: str | os.PathLike[str]) -> list[JournalEntry]:
    """The entries of the journal in a file, in the order of creation. Blocks.

    Another run may be writing the journal: reading needs no lock and changes nothing.

    Raises:
        JournalError: there is no such file, or it is no journal, damaged or of a newer version.
    """
    return read_file(path, Database.entries) or []


def read_charges(path: str | os.PathLike[str], origin: str) -> dict[str, int]:
    """The most that was charged in the journal in a file, by `kind_text`. Blocks.

    Args:
        path: the file; another run may be writing it.
        origin: the API that charged it. What no origin is recorded for counts, too.

    Raises:
        JournalError: see `read_entries`.
    """
    return read_file(path, lambda database: database.spending.charges(origin)) or {}


def read_file(
    path: str | os.PathLike[str],
    read: Callable[[Database], _T],
    *,
    alone: bool = False,
    is_shared: bool = False,
) -> _T | None:
    """What a function reads from the journal in a file; None if there is nothing in it. Blocks.

    Args:
        path: the file.
        read: may be called again, if the file is written meanwhile.
        alone: whether it is refused if a run writes the journal.
        is_shared: whether it tells what other sessions are submitting at this moment.

    Raises:
        JournalError: see `read_entries`; or a run writes it, and that is refused.
    """
    name = os.fspath(path)
    with _journal_errors(name), ExitStack() as stack:
        file = _resolve(name)
        if alone and file.exists():
            lock = WriteLock(file)
            lock.acquire()
            stack.callback(lock.release)
        return _undisturbed(file, lambda mode: _read(file, mode, name, read, is_shared=is_shared))


def move_journal(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a journal's file, with what SQLite keeps beside it. Blocks.

    The file may be damaged or no journal at all.

    Args:
        path: the journal's file.
        target: its new name, in the same folder. Nothing may exist there.

    Raises:
        JournalError: a run is writing the journal, something exists at the new name, or the file
            cannot be renamed.
    """
    name = os.fspath(path)
    file, new = _resolve(name), Path(target)
    lock = WriteLock(file)
    try:
        lock.acquire()
        try:
            # The file goes first. If the move stops halfway, a log without its file is refused,
            # but a file without its log would be taken for a whole journal.
            for suffix in ("", *_COMPANIONS):
                _rename(_beside(file, suffix), _beside(new, suffix))
        finally:
            lock.release()
    except OSError as error:
        raise JournalError(f"it cannot be renamed: {error}", path=name) from error


def _rename(source: Path, target: Path) -> None:
    if source.exists():
        if target.exists():
            raise FileExistsError(17, "a file is there", str(target))
        source.rename(target)


def _undisturbed(file: Path, read: Callable[[str], _T]) -> _T:
    """What `read` returns or raises in a mode of reading, once nobody writes the file meanwhile."""
    while True:
        before, mode = _snapshot(file), _reading_mode(file)
        try:
            found = read(mode)
        except (sqlite3.Error, JournalError):
            if not _was_written(file, mode, before):
                raise
        else:
            if not _was_written(file, mode, before):
                return found


def _read(
    file: Path, mode: str, path: str, read: Callable[[Database], _T], *, is_shared: bool
) -> _T | None:
    """What a function reads from the tables; None if there are none yet."""
    if not file.exists():
        raise JournalError("there is no such file", path=path)
    if _size(file) == 0:
        return None
    with closing(connect(file, mode)) as connection:
        _check_kind(connection, path)
        with _migrated(connection) as current:
            statements = SQLiteStatements(current, path, time.time)
            return read(Database(statements, is_shared=is_shared))


@contextmanager
def _migrated(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """The tables in the latest version; those of an older version are copied into memory."""
    if version_of(connection) == len(MIGRATIONS):
        yield connection
        return
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        connection.backup(copy)
        migrate(copy)
        yield copy


def _was_written(file: Path, mode: str, before: _Snapshot | None) -> bool:
    """Whether a run wrote the file while it was read without locks: then read it again."""
    return mode != _WITH_LOG and (_has_log(file) or _snapshot(file) != before)


def _resolve(path: str) -> Path:
    """The file that the path leads to. Raises JournalError for what cannot be a file."""
    file = Path(os.path.realpath(path))
    if not file.parent.is_dir():
        raise JournalError(f"there is no folder {file.parent}", path=path)
    if file.is_symlink() or (Path(path).is_symlink() and not file.exists()):
        raise JournalError("it is a link to a file that does not exist", path=path)
    if file.exists() and not file.is_file():
        kind = "a folder" if file.is_dir() else "not a regular file"
        raise JournalError(f"it is {kind}", path=path)
    return file


def _open(file: Path, path: str, *, is_shared: bool) -> sqlite3.Connection:
    if _size(file) == 0:
        _create(file, path)
    else:
        _check(file, path, is_shared=is_shared)
    connection = connect(file, "rw")
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_alone(file: Path, path: str) -> None:
    """Create a journal that many will share; one that was created meanwhile is left alone."""
    until = time.monotonic() + SHARED_TIMEOUT
    while _size(file) == 0 and time.monotonic() < until:
        alone = WriteLock(file)
        try:
            alone.acquire()
        except JournalError as error:
            if not is_held(error.__cause__):
                return  # the lock to share meets the same trouble, and tells it
            pause = random.uniform(0.001, 0.02)  # noqa: S311 - of two at once, neither gets it
            time.sleep(pause)
            continue
        try:
            if _size(file) == 0:
                _create(file, path)
        finally:
            alone.release()


def _create(file: Path, path: str) -> None:
    """Create an empty journal under another name and move it to its place, so it is never half."""
    if _has_log(file):
        log = _beside(file, "-wal")
        message = (
            f"the file is empty or missing, but its log {log} is there: restore it or remove both"
        )
        raise JournalError(message, path=path)
    new = _beside(file, ".new")
    new.unlink(missing_ok=True)
    create_private(new)
    try:
        with closing(connect(new, "rw")) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _check(file: Path, path: str, *, is_shared: bool) -> None:
    """Refuse a file that is no journal or is damaged, without changing a byte.

    Other sessions may be writing a file that is shared: its index may be theirs.
    """
    keeps_index = is_shared or _beside(file, "-shm").exists()
    try:
        _undisturbed(file, lambda mode: _check_content(file, mode, path))
    except BaseException:
        if not keeps_index:
            with suppress(OSError):
                _beside(file, "-shm").unlink(missing_ok=True)
        raise


def _check_content(file: Path, mode: str, path: str) -> None:
    with closing(connect(file, mode)) as connection:
        _check_kind(connection, path)
        _check_tables(connection, path)


def _check_kind(connection: sqlite3.Connection, path: str) -> None:
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    if kind != APPLICATION_ID:
        raise JournalError("it is a database of another program", path=path)
    version, latest = version_of(connection), len(MIGRATIONS)
    if version > latest:
        message = f"it is of version {version}, newer than {latest}: update seedance-async"
        raise JournalError(message, path=path)


def _check_tables(connection: sqlite3.Connection, path: str) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise JournalError(f"it is damaged: {found}", path=path)
    with _migrated(connection) as current:
        Database(SQLiteStatements(current, path)).find("")


def _reading_mode(file: Path) -> str:
    """The mode that leaves no trace: unless told not to, SQLite would create a missing log."""
    return _WITH_LOG if _has_log(file) else _WITHOUT_LOG


def _has_log(file: Path) -> bool:
    return _size(_beside(file, "-wal")) > 0


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _size(file: Path) -> int:
    snapshot = _snapshot(file)
    return 0 if snapshot is None else snapshot[0]


def _snapshot(file: Path) -> _Snapshot | None:
    """Size, time of the last change and inode; None if there is no file."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def _journal_errors(path: str) -> Iterator[None]:
    """Turn errors of SQLite and the file system into JournalErrors that name the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise JournalError(_describe(error), path=path) from error
    except (OSError, ValueError) as error:
        raise JournalError(f"it cannot be opened: {error}", path=path) from error


def _describe(error: sqlite3.DatabaseError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "it is no SQLite file"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
        return f"it is damaged: {error}"
    return f"it cannot be opened: {error}"
