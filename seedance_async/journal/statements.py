"""SQL by the names of tables and columns, over one connection. It knows no table.

What the rules of a journal need of a database is `Statements`; each kind of database has its own.
Statements are built from names of the code only. Values are always bound as parameters, which are
written `?`. Everything here blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any


class Statements(ABC):
    """Statements over an open connection.

    Attributes:
        path: names the database in errors.
        numbers: SQL for the owners of a group of attempts, with commas between them.
        page: how many rows are read at once at most.
    """

    path: str
    numbers: str
    page: int

    @abstractmethod
    def now(self) -> float:
        """The time by the clock that all who write the database share."""

    @abstractmethod
    def begin(self, *, writes: bool = True) -> None:
        """Start a transaction; nobody else is in one that writes meanwhile."""

    @abstractmethod
    def commit(self) -> None:
        """Make everything since `begin` durable."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo everything since `begin`. Never raises."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def next_number(self, table: str) -> int:
        """The number of the next row of a table: higher than all before, and never given again."""

    @abstractmethod
    def run(self, statement: str, *values: Any) -> None:
        """Run a statement; that it failed may be told later, at the latest by `commit`."""

    @abstractmethod
    def run_each(self, statement: str, values: Iterable[tuple[Any, ...]]) -> int:
        """Run a statement for each tuple of values; how many rows it changed."""

    @abstractmethod
    def rows(self, statement: str, *values: Any) -> list[Any]:
        """All rows that a statement returns."""

    @abstractmethod
    def insert_numbered(self, table: str, values: Mapping[str, Any]) -> int | None:
        """The number that the database gives a new row; None if such a row is there already."""

    def value(self, statement: str, *values: Any) -> Any:
        """The first value of the first row; None if there is none."""
        rows = self.rows(statement, *values)
        return rows[0][0] if rows else None

    def insert(self, table: str, values: Mapping[str, Any]) -> None:
        """Add a row."""
        self.run(insertion(table, values), *values.values())

    def change(
        self, table: str, number: int, values: Mapping[str, Any], where: str = "true", *more: Any
    ) -> None:
        """Change a row by its number, if the condition holds for it; `more` are its values."""
        columns = ", ".join(f"{name} = ?" for name in values)
        statement = f"UPDATE {table} SET {columns} WHERE number = ? AND {where}"  # noqa: S608
        self.run(statement, *values.values(), number, *more)


def insertion(table: str, values: Mapping[str, Any]) -> str:
    """The statement that adds a row with these columns."""
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608
