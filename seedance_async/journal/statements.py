"""SQL by the names of tables and columns, over one connection. It knows no table.

All rows are fetched at once, because a cursor that an exception keeps alive would keep the file
open. Everything here blocks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class Statements:
    """Statements over an open connection.

    Args:
        connection: a connection in autocommit mode.
        path: its file, for errors.
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

    # Statements are built from names of the code only. Values are always bound as parameters.

    def _run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self.connection.execute(statement, values)

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self.connection.execute(statement, values).fetchall()

    def _value(self, statement: str, *values: Any) -> Any:
        rows = self._rows(statement, *values)
        return rows[0][0] if rows else None

    def _insert(
        self, table: str, values: Mapping[str, Any], *, or_ignore: bool = False
    ) -> int | None:
        """The new row's number; None if it is there already, and that is to be ignored."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        conflict = " ON CONFLICT DO NOTHING" if or_ignore else ""
        statement = f"INSERT INTO {table} ({columns}) VALUES ({marks}){conflict}"  # noqa: S608
        cursor = self._run(statement, *values.values())
        return cursor.lastrowid if cursor.rowcount else None

    def _change(
        self, table: str, number: int, values: Mapping[str, Any], where: str = "true"
    ) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE {table} SET {columns} WHERE number = ? AND {where}"  # noqa: S608
        self._run(statement, *values.values(), number)


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to an existing file in autocommit mode; `mode` is the mode of an SQLite URI."""
    return sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, isolation_level=None)


def _lenient_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
