"""Statements over a connection to Postgres, which is replaced when it breaks.

A transaction is a pipeline: a statement whose rows nobody looks at rides along with the next one
that is waited for. Each wait is a synchronisation: only after one does the server count the
transaction as idle, and throws it out in time if this process is stopped. Whoever writes holds one
lock, so that transactions have the same order as in SQLite; reading takes no lock.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any, NamedTuple

import psycopg

from seedance_async.journal.postgres.schema import Connection
from seedance_async.journal.statements import Statements, insertion

#: What every transaction that writes begins with, once it has the lock.
_STATE = (
    "SELECT extract(epoch FROM clock_timestamp())::float8, version, embargo_until, "
    "(SELECT max(number) FROM attempts), (SELECT batch FROM owners WHERE number = %s) FROM journal"
)
#: Who holds the lock, but has been waited for: its process was stopped, or its machine has gone.
_EVICT = """
SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32) | objid::bigint = %s
    AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - interval '5 s'
"""
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"

#: Numbers are microseconds since then, and random bits below. They last until 2091.
_FIRST_DAY = 1_577_836_800  # 2020-01-01
_RANDOM_BITS = 12


class _State(NamedTuple):
    """What `_STATE` tells: the time, the tables' version, and what was written last."""

    clock: float
    version: int = 0
    embargo_until: float = 0.0
    highest: int | None = None
    batch: int | None = None


class PostgresStatements(Statements):
    """Statements over a connection to Postgres.

    Args:
        path: names the journal in errors.
        lock: the number of the lock of those who write it.
        clock: for tests: returns seconds since the epoch; the server's own clock otherwise.

    Attributes:
        connection: the present one; None while there is none.
        owner: the number of the one who uses it.
        busy_since: when its transaction began, on the monotonic clock; None if there is none.
        socket: its socket, to be cut off by another thread.
    """

    numbers = "string_agg(owner::text, ',')"
    page = 1000

    def __init__(self, path: str, lock: int, clock: Callable[[], float] | None = None) -> None:
        self.path, self._lock, self._clock = path, lock, clock
        self.connection: Connection | None = None
        self._pipeline: AbstractContextManager[psycopg.Pipeline] | None = None
        self._sync: Callable[[], None] = _nothing
        self._asked: psycopg.Cursor[tuple[Any, ...]] | None = None
        self._state: _State | None = None
        self._last = 0
        self.owner = 0
        self.busy_since: float | None = None
        self.socket: socket.socket | None = None

    def use(self, connection: Connection) -> None:
        """From now on, use this connection."""
        self.close()
        self.connection, self.socket = connection, _copy_of_socket(connection)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection that is not known to be broken."""
        return self.connection is not None and not self.connection.closed

    # --- transactions -----------------------------------------------------------------------

    def begin(self, *, writes: bool = True) -> None:  # noqa: D102
        if self.connection is None:
            raise psycopg.OperationalError("there is no connection")
        self._state = self._asked = None
        self.busy_since = time.monotonic()
        self._pipeline = self.connection.pipeline()
        self._sync = self._pipeline.__enter__().sync
        self.connection.execute("BEGIN" if writes else "BEGIN READ ONLY")
        if writes:
            self.connection.execute("SELECT pg_advisory_xact_lock(%s)", (self._lock,))
            self._asked = self.connection.execute(_STATE, (self.owner,))

    def commit(self) -> None:  # noqa: D102
        assert self.connection is not None
        assert self._pipeline is not None
        done = self.connection.execute("COMMIT")
        pipeline, self._pipeline, self._sync = self._pipeline, None, _nothing
        pipeline.__exit__(None, None, None)
        self.busy_since = None
        if done.statusmessage != "COMMIT":
            raise psycopg.errors.InFailedSqlTransaction("the transaction was rolled back")

    def rollback(self) -> None:  # noqa: D102
        pipeline, self._pipeline, self._sync = self._pipeline, None, _nothing
        if self.connection is None:
            return
        try:
            if pipeline is not None:
                with suppress(psycopg.Error):  # which of the statements failed was told before
                    pipeline.__exit__(None, None, None)
            if self.connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                self.connection.execute("ROLLBACK")
        except Exception:
            self.close()
        self.busy_since = None

    def has_news(self) -> bool:
        """Whether the server has said something that nobody asked for."""
        if self.connection is None:
            return False
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection.fileno(), selectors.EVENT_READ)
                return bool(selector.select(0))
        except (OSError, ValueError, psycopg.Error):
            return True

    def evict(self) -> None:
        """The lock was not to be had: end the session that holds it and does nothing."""
        if self.connection is not None:
            with suppress(psycopg.Error):
                self.connection.execute(_EVICT, (self._lock,))

    def close(self) -> None:  # noqa: D102
        self._pipeline = self.busy_since = None
        if self.socket is not None:
            self.socket.close()
        if self.connection is not None:
            with suppress(Exception):
                self.connection.close()
        self.connection = None

    # --- what the journal says of itself ----------------------------------------------------

    def now(self) -> float:  # noqa: D102
        return self._state_now().clock if self._clock is None else self._clock()

    @property
    def version(self) -> int:
        """The version of the tables, in a transaction that writes."""
        return self._state_now().version

    @property
    def embargo_until(self) -> float:
        """When claims are made again, in a transaction that writes."""
        return self._state_now().embargo_until

    @property
    def batch(self) -> int | None:
        """What this owner has marked its last transaction with, in one that writes."""
        return self._state_now().batch

    def _state_now(self) -> _State:
        if self._state is None and self._asked is not None:
            self._sync()
            rows = self._asked.fetchall()
            if len(rows) != 1:
                raise psycopg.DataError("the table `journal` does not have one row")
            self._state = _State(*rows[0])
        elif self._state is None:
            self._state = _State(self.value(_CLOCK))
        return self._state

    def next_number(self, table: str) -> int:  # noqa: D102
        state = self._state_now()
        passed = int((state.clock - _FIRST_DAY) * 1e6)
        least = (passed << _RANDOM_BITS) + secrets.randbits(_RANDOM_BITS)
        self._last = max(least, 1 + secrets.randbits(4) + max(self._last, state.highest or 0))
        return self._last

    # --- statements -------------------------------------------------------------------------

    def run(self, statement: str, *values: Any) -> None:  # noqa: D102
        self._execute(statement, values)

    def run_each(self, statement: str, values: Iterable[tuple[Any, ...]]) -> int:  # noqa: D102
        asked = [self._execute(f"{statement} RETURNING 1", each) for each in values]
        self._sync()
        return sum(len(each.fetchall()) for each in asked)

    def rows(self, statement: str, *values: Any) -> list[Any]:  # noqa: D102
        cursor = self._execute(statement, values)
        self._sync()
        return cursor.fetchall()

    def insert_numbered(self, table: str, values: Mapping[str, Any]) -> int | None:  # noqa: D102
        statement = f"{insertion(table, values)} ON CONFLICT DO NOTHING RETURNING number"
        number: int | None = self.value(statement, *values.values())
        return number

    def _execute(self, statement: str, values: tuple[Any, ...]) -> psycopg.Cursor[tuple[Any, ...]]:
        assert self.connection is not None
        return self.connection.execute(_with_marks(statement), values)


def _nothing() -> None:
    """Outside of a pipeline, there is nothing to wait for."""


def _copy_of_socket(connection: Connection) -> socket.socket | None:
    """The connection's socket, which stays itself even when its number is another one's."""
    try:
        return socket.socket(fileno=os.dup(connection.fileno()))
    except OSError:  # Windows
        return None


@cache
def _with_marks(statement: str) -> str:
    """The statement with the marks of psycopg for values. No text in it has any mark."""
    return statement.replace("?", "%s")
