"""From a path to an open journal: making a new one, and refusing what is none.

What is refused is left byte for byte as it was, with no file added beside it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from seedance_async.api.errors import JournalError
from seedance_async.journal.database import (
    APPLICATION_ID,
    STEPS,
    Database,
    connect,
    migrate,
    version_of,
)
from seedance_async.journal.entry import FIELDS, JournalEntry
from seedance_async.journal.lock import WriteLock, create_private

# Modes of an SQLite URI: with the locks of the log; without any, which leaves no trace.
_WITH_LOG, _ALONE = "ro", "ro&immutable=1"
_Picture = tuple[int, int, int]


class OpenJournal:
    """A journal's file that this thread alone writes.

    Raises:
        JournalError: another run writes it, or it cannot be used as a journal.
    """

    def __init__(self, path: str) -> None:
        with _refusals(path):
            file = locate(path)
            self._lock = WriteLock(file)
            self._lock.acquire()
            try:
                self.database = _open(file, path)
            except BaseException:
                self._lock.undo()
                raise

    def close(self) -> None:
        """Close the file, then let others write it."""
        try:
            self.database.close()
        finally:
            self._lock.release()


def read(path: str) -> list[JournalEntry]:
    """The entries of a journal, be it in use or not; nothing is changed.

    Raises:
        JournalError: there is no journal, or it is damaged or of a newer version.
    """
    with _refusals(path):
        file = locate(path)
        while True:
            before, mode = _picture(file), _reading_mode(file)
            if before is None:
                raise JournalError("there is no such file", path=path)
            try:
                entries = _read(file, mode, path) if before[0] else []
            except (sqlite3.Error, JournalError):
                if not _came_writer(file, mode, before):
                    raise
            else:
                if not _came_writer(file, mode, before):
                    return entries


def _read(file: Path, mode: str, path: str) -> list[JournalEntry]:
    with closing(connect(file, mode)) as connection:
        _check_kind(connection, path)
        with _up_to_date(connection) as current:
            return Database(current, path).entries()


@contextmanager
def _up_to_date(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """The same tables in the latest version: of an older one a copy in memory."""
    if version_of(connection) == len(STEPS):
        yield connection
        return
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as copy:
        connection.backup(copy)
        migrate(copy)
        yield copy


def _came_writer(file: Path, mode: str, before: _Picture) -> bool:
    """Whether a writer came while the file was read without locks: what was read is void."""
    return mode != _WITH_LOG and (_has_wal(file) or _picture(file) != before)


def locate(path: str) -> Path:
    """The file behind the path, through links. Raises JournalError for what can be no file."""
    file = Path(os.path.realpath(path))
    if not file.parent.is_dir():
        raise JournalError(f"there is no folder {file.parent}", path=path)
    if file.is_symlink() or (Path(path).is_symlink() and not file.exists()):
        raise JournalError("it is a link that leads nowhere", path=path)
    if file.exists() and not file.is_file():
        kind = "a folder" if file.is_dir() else "no regular file"
        raise JournalError(f"it is {kind}", path=path)
    return file


def _open(file: Path, path: str) -> Database:
    if _size(file) == 0:
        _create(file, path)
    else:
        _check(file, path)
    connection = connect(file, "rw")
    try:
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return Database(connection, path)


def _create(file: Path, path: str) -> None:
    """Make an empty journal, whole or not at all: beside the place, then moved there."""
    if _has_wal(file):
        log = _beside(file, "-wal")
        words = f"the file is empty or gone, but its log {log} is there: restore it or remove both"
        raise JournalError(words, path=path)
    new = _beside(file, ".new")
    new.unlink(missing_ok=True)
    create_private(new)
    try:
        with closing(connect(new, "rw")) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _check(file: Path, path: str) -> None:
    """Refuse what is no journal, or a damaged one, without changing a byte."""
    with closing(connect(file, _ALONE)) as connection:
        _check_kind(connection, path)
    had_index = _beside(file, "-shm").exists()
    try:
        with closing(connect(file, _reading_mode(file))) as connection:
            _check_kind(connection, path)
            _check_tables(connection, path)
    except BaseException:
        if not had_index:
            with suppress(OSError):
                _beside(file, "-shm").unlink(missing_ok=True)
        raise


def _check_kind(connection: sqlite3.Connection, path: str) -> None:
    kind = connection.execute("PRAGMA application_id").fetchone()[0]
    if kind != APPLICATION_ID:
        raise JournalError("it is a database of another program", path=path)
    version = version_of(connection)
    if version > len(STEPS):
        words = f"it is of version {version}, newer than {len(STEPS)}: update seedance-async"
        raise JournalError(words, path=path)


def _check_tables(connection: sqlite3.Connection, path: str) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise JournalError(f"it is damaged: {found}", path=path)
    with _up_to_date(connection) as current:
        current.execute(f"SELECT {', '.join(FIELDS)} FROM jobs LIMIT 0")  # noqa: S608


def _reading_mode(file: Path) -> str:
    """How to read without leaving a trace: without its log, SQLite would add one to read it."""
    return _WITH_LOG if _has_wal(file) else _ALONE


def _has_wal(file: Path) -> bool:
    return _size(_beside(file, "-wal")) > 0


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _size(file: Path) -> int:
    picture = _picture(file)
    return 0 if picture is None else picture[0]


def _picture(file: Path) -> _Picture | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def _refusals(path: str) -> Iterator[None]:
    """Whatever goes wrong inside is a JournalError that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise JournalError(_told(error), path=path) from error
    except (OSError, ValueError) as error:
        raise JournalError(f"it cannot be opened: {error}", path=path) from error


def _told(error: sqlite3.DatabaseError) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_NOTADB:
        return "it is no SQLite file"
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR):
        return f"it is damaged: {error}"
    return f"it cannot be opened: {error}"
