"""One URL for a queue and its journal: where DBOS keeps the one, and the workers the other."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbos import DBOS, DBOSClient
from dbos import error as dbos_error
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from seedance_async import ConfigurationError
from seedance_async.engines.contract import QueueError
from seedance_async.engines.dbos.names import APPLICATION
from seedance_async.engines.dbos.old_sqlite import mend_clock
from seedance_async.engines.dbos.threads import in_thread
from seedance_async.journal import SQLiteJournal
from seedance_async.journal.owner import DOUBT_SECONDS

#: Seconds after which Postgres ends the transaction of a process that was stopped in the middle.
IDLE_SECONDS = 5.0

#: Seconds that a writer of an SQLite queue waits for the others.
_BUSY = 30.0

if TYPE_CHECKING:
    from seedance_async.journal import PostgresJournal

#: Of DBOS's connections, unless the URL says otherwise: a server that vanished without a word is
#: noticed in seconds, and one that takes no writes is none.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
    "target_session_attrs": "read-write",
}


class _NoCancellations(logging.Filter):
    """Leaves out that a workflow was cancelled: that is how a worker leaves, one line a task."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Asyncio task cancelled")


# Whoever configures logging has DBOS's messages, too; without this it writes to stderr by itself.
logging.getLogger("dbos").addHandler(logging.NullHandler())
logging.getLogger("dbos").addFilter(_NoCancellations())


def checked_url(url: str) -> str:
    """The URL. Raises ConfigurationError, which does not show it, if no queue can be there."""
    scheme, _, rest = url.partition("://")
    try:
        database = make_url(url).database
    except (ValueError, ArgumentError):
        database = None
    if scheme == "sqlite" and database:
        mend_clock(url)
        return url
    if scheme in ("postgresql", "postgres") and database:
        return f"postgresql://{rest}"
    raise ConfigurationError(
        "the queue must be at postgresql://user@host/database or sqlite:///path/run.db; several "
        "hosts are given as postgresql://user@/database?host=one,other&port=5432,5432"
    ) from None


def dbos_url(url: str) -> str:
    """The URL that DBOS is given."""
    if url.startswith("sqlite"):
        return url
    parsed = make_url(url)
    said = {name: value for name, value in _DEFAULTS.items() if name not in parsed.query}
    return parsed.update_query_dict(said).render_as_string(hide_password=False)


def queue_file(url: str) -> Path | None:
    """The file of a queue, not a symbolic link to it; None if it is in a database of Postgres.

    Raises:
        ConfigurationError: no queue can be there.
    """
    file = make_url(checked_url(url)).database
    if not url.startswith("sqlite") or not file:
        return None
    return Path(os.path.realpath(file)) if Path(file).is_symlink() else Path(file)


def journal_at(url: str, *, lease: float = 60.0) -> SQLiteJournal | PostgresJournal:
    """The journal of a queue: in the same database, or in a file beside that of SQLite.

    Args:
        url: the queue's.
        lease: seconds without a sign of life after which a worker counts as dead.
    """
    place = journal_place(url)
    if isinstance(place, Path):
        return SQLiteJournal(place, shared=True)
    from seedance_async.journal import PostgresJournal  # with psycopg behind it: only if needed

    return PostgresJournal(place, lease=lease, doubt=max(DOUBT_SECONDS, 2 * lease))


def journal_place(url: str) -> Path | str:
    """Where the journal of a queue is: a file, or the URL of a database.

    Raises:
        ConfigurationError: no queue can be there.
    """
    file = queue_file(url)
    if file is None:
        return checked_url(url)
    if file.suffix == ".db":
        return file.with_suffix(".journal.db")
    return file.with_name(f"{file.name}.journal")  # that of no other queue


def engine_at(url: str) -> Engine:
    """Connections for what is written in one transaction."""
    if not url.startswith("sqlite"):
        driver = make_url(dbos_url(url)).set(drivername="postgresql+psycopg")
        return create_engine(driver, pool_size=1)
    engine = create_engine(url, connect_args={"timeout": _BUSY})

    @event.listens_for(engine, "connect")
    def _write_at_once(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = "IMMEDIATE"

    return engine


@contextmanager
def reaching() -> Iterator[None]:
    """Around what is asked of the queue. Raises QueueError in place of what DBOS raises."""
    try:
        yield
    except (SQLAlchemyError, dbos_error.DBOSException) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise QueueError(f"the queue cannot be reached, read or written: {reason}") from error


async def client_at(url: str) -> DBOSClient:
    """A client of a queue, whose tables are made if they are missing."""

    def opened() -> DBOSClient:
        DBOS.migrate(dbos_url(url))
        return DBOSClient(
            system_database_url=dbos_url(url),
            application_name=APPLICATION,
            retry_connection_errors=False,
            sys_db_idle_transaction_timeout_sec=IDLE_SECONDS,
        )

    with reaching():
        return await in_thread(opened)
