"""A journal in Postgres for one transaction, without becoming one of its owners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import psycopg

from seedance_async.api.errors import JournalError
from seedance_async.journal.database import Database
from seedance_async.journal.postgres.schema import migrate, version_of
from seedance_async.journal.postgres.statements import PostgresStatements
from seedance_async.journal.postgres.target import Target

_T = TypeVar("_T")

_MAY_ALTER = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'attempts'::regclass"

#: What the triggers would have kept up to date.
_SUMS = (
    "INSERT INTO budgets (name) SELECT DISTINCT budget FROM attempts WHERE budget IS NOT NULL "
    "ON CONFLICT DO NOTHING",
    "UPDATE budgets SET spent = "
    "(SELECT coalesce(sum(cost), 0) FROM attempts WHERE budgets.name IN ('', attempts.budget))",
)


def read_once(dsn: str, read: Callable[[Database], _T]) -> _T | None:
    """What a function reads from a journal, in one transaction; None if there is none yet.

    Args:
        dsn: see `PostgresJournal`.
        read: what is read.

    Raises:
        JournalError: it cannot be reached or read.
    """
    target, statements = _place(dsn)
    with _connected(target, statements):
        assert statements.connection is not None
        if not version_of(statements.connection, target.schema):
            return None
        database = Database(statements, is_shared=True)
        database.begin(writes=False)
        found = read(database)
        database.commit()
        return found


@contextmanager
def writing_once(dsn: str, *, many: bool = False) -> Iterator[Database]:
    """A journal within a transaction that writes, which ends with the block.

    Its tables are made if they are missing.

    Args:
        dsn: see `PostgresJournal`.
        many: whether very many attempts are written; their cost is then summed at the end.

    Raises:
        JournalError: it cannot be reached or written.
    """
    target, statements = _place(dsn)
    with _connected(target, statements):
        assert statements.connection is not None
        migrate(statements.connection, target.schema, target.lock, target.name)
        database = Database(statements, is_shared=True)
        database.begin()
        with _summed_at_the_end(statements) if many else nullcontext():
            yield database
        database.commit()


@contextmanager
def _summed_at_the_end(statements: PostgresStatements) -> Iterator[None]:
    """Count once what the attempts have cost, if this role may.

    A trigger for each of very many would change one row as often, each time more slowly.
    """
    if not statements.value(_MAY_ALTER):
        yield
        return
    statements.run("ALTER TABLE attempts DISABLE TRIGGER USER")
    yield
    statements.run("ALTER TABLE attempts ENABLE TRIGGER USER")
    for statement in _SUMS:
        statements.run(statement)


def _place(dsn: str) -> tuple[Target, PostgresStatements]:
    target = Target(dsn, "default")
    return target, PostgresStatements(target.name, target.lock)


@contextmanager
def _connected(target: Target, statements: PostgresStatements) -> Iterator[None]:
    try:
        statements.use(target.connect())
        yield
    except psycopg.Error as error:
        raise JournalError(f"it cannot be used: {error}", path=target.name) from error
    finally:
        statements.rollback()
        statements.close()
