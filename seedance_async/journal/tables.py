"""The tables of an SQLite journal, and each operation on them as one statement.

A statement that fails undoes its own changes and no others, so the operations of one transaction
are independent. All rows are fetched at once, because a cursor that an exception keeps alive would
keep the file open. Everything here blocks: it runs in the journal's own thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from seedance_async.api.errors import JournalError
from seedance_async.journal.entry import FIELDS, JournalEntry, entry_from_values

#: "SDJL". Distinguishes a journal from other SQLite files.
APPLICATION_ID = 0x53444A4C

#: The statements that lead from each version of the tables to the next. The number of migrations is
#: the latest version. A released migration is never changed.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY,  -- the order of creation
            key TEXT NOT NULL UNIQUE,
            fingerprint TEXT NOT NULL,
            request TEXT NOT NULL,
            state TEXT NOT NULL,
            request_id TEXT,
            credits_charged INTEGER,
            credits_reserved INTEGER,
            error TEXT,
            path TEXT,
            size INTEGER,
            sha256 TEXT,
            created_at REAL NOT NULL,
            updated_at REAL NOT NULL
        )""",
        "CREATE UNIQUE INDEX jobs_request_id ON jobs (request_id) WHERE request_id IS NOT NULL",
    ),
    ("ALTER TABLE jobs ADD COLUMN credits_doubtful INTEGER",),
    (
        "CREATE TABLE secret (value BLOB NOT NULL)",
        "INSERT INTO secret VALUES (randomblob(32))",
    ),
)

#: Bytes of a journal's secret.
_SECRET = 32

# Statements are built from field names only. Values are always bound as parameters.
_SELECT = f"SELECT {', '.join(FIELDS)} FROM jobs"  # noqa: S608
_INSERT = (
    f"INSERT INTO jobs ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))}) "  # noqa: S608
    "ON CONFLICT (key) DO NOTHING"
)


class Database:
    """The entries of a journal, over an open connection.

    Args:
        connection: a connection in autocommit mode.
        path: the journal's file, for errors.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        # Text that is not UTF-8 is read too, and then refused by the rules of an entry.
        connection.text_factory = _lenient_text
        self.connection = connection
        self.path = path

    def begin(self) -> None:
        """Start a transaction that may write."""
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo everything since `begin`. Never raises."""
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def claim(self, entry: JournalEntry) -> JournalEntry | None:
        """Add the entry and return None; if its key is taken, return the entry that has it."""
        added = self.connection.execute(_INSERT, attrs.astuple(entry)).rowcount
        return None if added else self.find(entry.key)

    def reclaim(self, key: str, expected: str, changes: Mapping[str, Any], now: float) -> bool:
        """Change the entry if its state is `expected`. Returns whether it was."""
        return self._change(changes, now, "key = ? AND state = ?", key, expected) == 1

    def update(self, key: str, changes: Mapping[str, Any], now: float) -> None:
        """Change the entry.

        Raises:
            JournalError: there is no such key, or another entry has the request id.
        """
        request_id = changes.get("request_id")
        try:
            changed = self._change(changes, now, "key = ?", key)
        except sqlite3.IntegrityError:
            holder = self._key_with(request_id)
            message = f"the request id {request_id!r} is that of the entry with key {holder!r}"
            raise JournalError(message, path=self.path, request_id=request_id) from None
        if not changed:
            message = f"no entry has the key {key!r}"
            raise JournalError(message, path=self.path, request_id=request_id)

    def find(self, key: str) -> JournalEntry | None:
        """The entry with this key."""
        rows = self.connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchall()
        return self._entry(rows[0]) if rows else None

    def entries(self) -> list[JournalEntry]:
        """All entries in the order of their creation."""
        rows = self.connection.execute(f"{_SELECT} ORDER BY number").fetchall()
        return [self._entry(row) for row in rows]

    def secret(self) -> bytes:
        """The journal's secret. Raises JournalError if it is missing or damaged."""
        rows = self.connection.execute("SELECT value FROM secret").fetchall()
        if len(rows) != 1 or not isinstance(rows[0][0], bytes) or len(rows[0][0]) != _SECRET:
            raise JournalError("its secret is damaged", path=self.path)
        return rows[0][0]

    def forget(self, keys: Iterable[str]) -> int:
        """Remove entries and return how many there were."""
        rows = ((key,) for key in keys)
        return self.connection.executemany("DELETE FROM jobs WHERE key = ?", rows).rowcount

    def _change(self, changes: Mapping[str, Any], now: float, where: str, *values: str) -> int:
        columns = ", ".join(f"{name} = ?" for name in [*changes, "updated_at"])
        statement = f"UPDATE jobs SET {columns} WHERE {where}"  # noqa: S608
        return self.connection.execute(statement, (*changes.values(), now, *values)).rowcount

    def _key_with(self, request_id: Any) -> object:
        statement = "SELECT key FROM jobs WHERE request_id = ?"
        return self.connection.execute(statement, (request_id,)).fetchall()[0][0]

    def _entry(self, row: Sequence[Any]) -> JournalEntry:
        return entry_from_values(dict(zip(FIELDS, row, strict=True)), journal=self.path)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring the tables to the latest version. If that fails, they are unchanged."""
    version = version_of(connection)
    if version == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in migrations[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing file in autocommit mode; `mode` is the mode of an SQLite URI."""
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _lenient_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
