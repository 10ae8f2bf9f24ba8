"""The tables of a journal in SQLite, and each operation on them as one statement.

A statement that fails takes back what it did and nothing else, so the operations of one
transaction do not touch each other. Rows are fetched at once: a cursor that an error keeps alive
would keep the file open. All of this blocks: it runs in the journal's own thread.
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

#: "SDJL": tells a journal from every other SQLite file.
APPLICATION_ID = 0x53444A4C

#: The steps from each version of the tables to the next; their number is the version. A step is
#: never changed once released.
STEPS: tuple[tuple[str, ...], ...] = (
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
)

# Only names of this module's own stand in the statements; values are always bound.
_SELECT = f"SELECT {', '.join(FIELDS)} FROM jobs"  # noqa: S608
_INSERT = (
    f"INSERT INTO jobs ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))}) "  # noqa: S608
    "ON CONFLICT (key) DO NOTHING"
)


class Database:
    """The entries of a journal over one open connection.

    Args:
        connection: one in autocommit mode.
        path: the journal's file, for errors.
    """

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        # What is no UTF-8 is left for the rules of an entry to refuse.
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
        """Take back everything since `begin`; never raises."""
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def claim(self, entry: JournalEntry) -> JournalEntry | None:
        """Add the entry; else the one that holds its key."""
        added = self.connection.execute(_INSERT, attrs.astuple(entry)).rowcount
        return None if added else self.find(entry.key)

    def reclaim(self, key: str, expected: str, changes: Mapping[str, Any], now: float) -> bool:
        """Change the entry if its state is `expected`; whether it was."""
        return self._change(changes, now, "key = ? AND state = ?", key, expected) == 1

    def update(self, key: str, changes: Mapping[str, Any], now: float) -> None:
        """Change the entry. Raises JournalError for an unknown key or another's request id."""
        lost = changes.get("request_id")
        try:
            changed = self._change(changes, now, "key = ?", key)
        except sqlite3.IntegrityError:
            holder = self._holder(lost)
            words = f"the request id {lost!r} is that of the entry with key {holder!r}"
            raise JournalError(words, path=self.path, request_id=lost) from None
        if not changed:
            words = f"no entry has the key {key!r}"
            raise JournalError(words, path=self.path, request_id=lost)

    def find(self, key: str) -> JournalEntry | None:
        """The entry with this key."""
        rows = self.connection.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchall()
        return self._entry(rows[0]) if rows else None

    def entries(self) -> list[JournalEntry]:
        """All entries in the order of their creation."""
        rows = self.connection.execute(f"{_SELECT} ORDER BY number").fetchall()
        return [self._entry(row) for row in rows]

    def forget(self, keys: Iterable[str]) -> int:
        """Remove entries; how many there were."""
        rows = ((key,) for key in keys)
        return self.connection.executemany("DELETE FROM jobs WHERE key = ?", rows).rowcount

    def _change(self, changes: Mapping[str, Any], now: float, where: str, *values: str) -> int:
        columns = ", ".join(f"{name} = ?" for name in [*changes, "updated_at"])
        statement = f"UPDATE jobs SET {columns} WHERE {where}"  # noqa: S608
        return self.connection.execute(statement, (*changes.values(), now, *values)).rowcount

    def _holder(self, request_id: Any) -> object:
        where = "SELECT key FROM jobs WHERE request_id = ?"
        return self.connection.execute(where, (request_id,)).fetchall()[0][0]

    def _entry(self, row: Sequence[Any]) -> JournalEntry:
        return entry_from_values(dict(zip(FIELDS, row, strict=True)), journal=self.path)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, steps: Sequence[Sequence[str]] = STEPS) -> None:
    """Bring the tables from the version they have to the last one, or leave them as they are."""
    version = version_of(connection)
    if version == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode; `mode` is that of an SQLite URI. Creates no file."""
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _lenient_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
