"""Statements over a connection to SQLite.

All rows are fetched at once, because a cursor that an exception keeps alive would keep the file
open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from seedance_async.journal.statements import Statements, insertion


class SQLiteStatements(Statements):
    """Statements over an open connection to SQLite.

    Args:
        connection: a connection in autocommit mode.
        path: its file, for errors.
        clock: returns seconds since the epoch.
    """

    numbers = "group_concat(owner)"
    page = -1  # all

    def __init__(
        self, connection: sqlite3.Connection, path: str, clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        # Text that is not UTF-8 is read too, and then refused by the rules of an entry.
        connection.text_factory = _lenient_text
        self.connection, self.path, self._clock = connection, path, clock

    def now(self) -> float:  # noqa: D102
        return self._clock()

    def begin(self, *, writes: bool = True) -> None:  # noqa: D102
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:  # noqa: D102
        self.connection.execute("COMMIT")

    def rollback(self) -> None:  # noqa: D102
        with suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def close(self) -> None:  # noqa: D102
        self.connection.close()

    def next_number(self, table: str) -> int:  # noqa: D102
        last = self.value("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
        return 1 + (last or 0)

    def run(self, statement: str, *values: Any) -> None:  # noqa: D102
        self.connection.execute(statement, values)

    def run_each(self, statement: str, values: Iterable[tuple[Any, ...]]) -> int:  # noqa: D102
        return self.connection.executemany(statement, values).rowcount

    def rows(self, statement: str, *values: Any) -> list[Any]:  # noqa: D102
        return self.connection.execute(statement, values).fetchall()

    def insert_numbered(self, table: str, values: Mapping[str, Any]) -> int | None:  # noqa: D102
        statement = f"{insertion(table, values)} ON CONFLICT DO NOTHING"
        cursor = self.connection.execute(statement, tuple(values.values()))
        return cursor.lastrowid if cursor.rowcount else None


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing file in autocommit mode; `mode` is the mode of an SQLite URI."""
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _lenient_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
