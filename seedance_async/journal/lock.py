"""The right to write a journal: one holder at a time, and none once its process is dead.

A second small SQLite file beside the journal is held by an open transaction. SQLite knows how to
lock a file on each system so that the lock dies with the process, even one that was killed, and
that two holders in one process are told apart too.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from seedance_async.api.errors import JournalError


class WriteLock:
    """The right to write the journal `path`. Belongs to the thread that acquires it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.with_name(path.name + ".lock")
        self._created = False
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> None:
        """Take the lock or raise JournalError, at once."""
        self._created = create_private(self._file)
        before = self._file.stat()
        uri = f"{self._file.as_uri()}?mode=rw"
        self._connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode = MEMORY")  # no third file
            self._connection.execute("BEGIN EXCLUSIVE")
            # A lock on a file that was removed meanwhile keeps nobody out.
            held = os.path.samestat(before, self._file.stat())
        except (sqlite3.Error, OSError) as error:
            self.release()
            raise self._refusal(error) from error
        if not held:
            self.release()
            raise self._refusal(None)

    def release(self) -> None:
        """Let go; the file stays, for somebody may be waiting to lock it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def undo(self) -> None:
        """Let go, and remove the file if it was not there before.

        For a journal that cannot be used: nobody goes on to write on the strength of this file.
        """
        if self._created:
            with suppress(OSError):  # Windows removes no open file: it is done below
                self._file.unlink()
        self.release()
        if self._created and os.name == "nt":
            with suppress(OSError):
                self._file.unlink()

    def _refusal(self, error: Exception | None) -> JournalError:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            words = f"it is in use: another run writes it and holds {self._file}"
        else:
            words = f"the lock {self._file} cannot be taken: {error}"
        return JournalError(words, path=str(self._path))


def create_private(path: Path) -> bool:
    """Make an empty file that only its owner may read; whether there was none. Raises OSError."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True
