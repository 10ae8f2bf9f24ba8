"""Where the queue of a fleet is: a file of SQLite, or a PostgreSQL of its own that is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer

Kind = Literal["sqlite", "postgres"]


class QueuePlace:
    """A queue's place.

    Args:
        url: of the queue.
        server: the PostgreSQL; None for SQLite.

    Attributes:
        restarts: how often the server was restarted, in each of its two ways.
    """

    def __init__(self, url: str, server: PostgresServer | None = None) -> None:
        self.url, self.server = url, server
        self.restarts = {"fast": 0, "immediate": 0}

    async def restart(self) -> None:
        """Restart the server: once in order, the next time as after a crash."""
        assert self.server is not None
        mode = min(self.restarts, key=lambda mode: self.restarts[mode])
        self.restarts[mode] += 1
        await asyncio.to_thread(self.server.restart, mode)


@asynccontextmanager
async def queue_place(
    kind: Kind, folder: Path, *, durable: bool = True
) -> AsyncIterator[QueuePlace]:
    """An empty place, which is gone afterwards.

    Args:
        kind: of database.
        folder: for the file of SQLite.
        durable: whether PostgreSQL flushes to the disk.
    """
    if kind == "sqlite":
        yield QueuePlace(f"sqlite:///{folder / 'queue.db'}")
        return
    from tests.support.postgres import PostgresServer

    server = await asyncio.to_thread(
        PostgresServer, durable=durable, settings={"max_connections": "200", "autovacuum": "on"}
    )
    try:
        await asyncio.to_thread(server.start)
        name = await asyncio.to_thread(server.new_database)
        yield QueuePlace(server.dsn(name), server)
    finally:
        await asyncio.to_thread(server.close)
