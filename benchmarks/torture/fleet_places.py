"""Where the queue of a fleet is: a file of SQLite, or a PostgreSQL of its own that is restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.support.postgres import PostgresServer
    from tests.support.tcp_proxy import TCPProxy

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
        self._restarting = asyncio.Lock()

    async def restart(self) -> None:
        """Restart the server: once in order, the next time as after a crash."""
        assert self.server is not None
        async with self._restarting:
            mode = min(self.restarts, key=lambda mode: self.restarts[mode])
            self.restarts[mode] += 1
            await asyncio.to_thread(self.server.restart, mode)


class Network:
    """What is between one worker and PostgreSQL.

    Args:
        proxy: passes the bytes.
        url: of the queue, by way of the proxy.
    """

    def __init__(self, proxy: TCPProxy, url: str) -> None:
        self._proxy, self.url = proxy, url

    async def cut(self, seconds: float) -> None:
        """Refuse everything for some time."""
        await asyncio.to_thread(self._proxy.cut)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._proxy.heal()

    async def hang(self) -> None:
        """What is connected hears no more, and is not told; new connections are passed."""
        await asyncio.to_thread(self._proxy.silence)


@contextmanager
def network_to(place: QueuePlace) -> Iterator[Network]:
    """A network of its own for one worker."""
    from tests.support.tcp_proxy import TCPProxy

    assert place.server is not None
    with TCPProxy(place.server.port) as proxy:
        yield Network(proxy, place.url.replace(f":{place.server.port}/", f":{proxy.port}/"))


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
