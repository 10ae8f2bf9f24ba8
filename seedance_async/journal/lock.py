"""The lock of a journal: one holder, or many that share it; released when its process dies.

The lock is an open transaction on a second, small SQLite file beside the journal. SQLite knows how
to lock a file on each system so that the lock ends with the process, even if it is killed, and so
that two holders in one process exclude each other too.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from seedance_async.api.errors import JournalError

#: Seconds for which a lock that is to be shared waits for one that is not, a new file's creator's.
SHARED_TIMEOUT = 2.0


class WriteLock:
    """The lock of the journal at `path`. Only the thread that acquires it may use it.

    Args:
        path: the journal's file.
        is_shared: whether others that say so, too, may hold it at the same time.
    """

    def __init__(self, path: Path, *, is_shared: bool = False) -> None:
        self._path, self._is_shared = path, is_shared
        self._file = path.with_name(path.name + ".lock")
        self._created = False
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> None:
        """Take the lock, or raise JournalError at once if it is held or cannot be taken."""
        self._created = create_private(self._file)
        before = self._file.stat()
        uri = f"{self._file.as_uri()}?mode=rw"
        timeout = SHARED_TIMEOUT if self._is_shared else 0
        self._connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode = MEMORY")  # creates no third file
            self._begin(self._connection)
            # If the file was removed in the meantime, a lock on it keeps nobody out.
            held = os.path.samestat(before, self._file.stat())
        except (sqlite3.Error, OSError) as error:
            self.release()
            raise self._error(error) from error
        if not held:
            self.release()
            raise self._error(None)

    def _begin(self, connection: sqlite3.Connection) -> None:
        if self._is_shared:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # locks to read
        else:
            connection.execute("BEGIN EXCLUSIVE")

    def release(self) -> None:
        """Release the lock. The file stays, since another run may be about to lock it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def undo(self) -> None:
        """Release the lock, and remove its file if `acquire` created it.

        Only for a journal that cannot be used: no other run writes it because of this lock.
        """
        if self._created:
            with suppress(OSError):  # Windows cannot remove an open file: see below
                self._file.unlink()
        self.release()
        if self._created and os.name == "nt":
            with suppress(OSError):
                self._file.unlink()

    def _error(self, error: Exception | None) -> JournalError:
        if is_held(error):
            message = f"it is in use: another run writes it and holds {self._file}"
        else:
            message = f"the lock {self._file} cannot be taken: {error}"
        return JournalError(message, path=str(self._path))


def is_held(reason: BaseException | None) -> bool:
    """Whether a lock cannot be taken for this reason because somebody has it, or tries to."""
    code: int = getattr(reason, "sqlite_errorcode", sqlite3.SQLITE_BUSY)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def create_private(path: Path) -> bool:
    """Create an empty file that only its owner may read, unless it exists. Raises OSError.

    Returns:
        Whether the file was created.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
