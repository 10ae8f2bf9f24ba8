"""API requests of one kind, on connections of aiohttp's connector that are kept here.

aiohttp looks up names, connects, verifies TLS and parses answers. What stands around that in
`ClientSession` is left out: cookies, redirects, proxies and traces, of which an API call uses none
and which cost it more than all the rest (`benchmarks/overhead.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from ssl import SSLContext

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from seedance_async.api.protocol import WireRequest, WireResponse
from seedance_async.api.transport.answers import answer
from seedance_async.api.transport.deadlines import Deadlines
from seedance_async.api.transport.direct.exchange import Exchange
from seedance_async.api.transport.direct.requirements import check_needs
from seedance_async.api.transport.failures import FAILURES, Secrets, describe

KEPT_SECONDS = 15.0
_CLOSED_MEANWHILE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class ConnectionPool:
    """Requests of one kind to the API's origin.

    Args:
        base_url: the origin, and a path that precedes all others.
        headers: sent with every request.
        secrets: what no answer and no error shows.
        reuse: whether a connection serves more than one request.
        max_connections: at once.
        ssl: as aiohttp takes it.
        seconds: from sending a request to the end of its answer.
        connect_seconds: for DNS, TCP and TLS of one connection, and for a free one.

    Raises:
        AttributeError, TypeError: aiohttp does not have what this relies on.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        secrets: Secrets,
        reuse: bool,
        max_connections: int,
        ssl: SSLContext | bool,
        seconds: float,
        connect_seconds: float,
    ) -> None:
        check_needs()
        url = URL(base_url, encoded=True)
        if not reuse:
            headers = {**headers, "Connection": "close"}
        # What the connector asks of a request is where it goes, which is the same for all.
        self._destination = aiohttp.ClientRequest(
            "GET", url, headers=headers, loop=asyncio.get_running_loop()
        )
        lines = (f"{name}: {value}\r\n" for name, value in self._destination.headers.items())
        self._head = f" HTTP/1.1\r\n{''.join(lines)}".encode()
        self._prefix = url.raw_path.rstrip("/")
        self._secrets = secrets
        self._connector = aiohttp.TCPConnector(
            limit=max_connections, force_close=not reuse, ssl=ssl
        )
        # Kept here, parser and all, and not given back to the connector: that is the cheaper way.
        # The one that was used last is used first; those at the left have been idle the longest.
        self._idle: deque[tuple[Connection, float]] = deque()
        self._closing: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines(seconds)
        self._connecting = aiohttp.ClientTimeout(connect=connect_seconds)

    async def send(
        self, request: WireRequest, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """One request, and its answer as far as it came.

        A GET that finds its kept connection closed is sent again on another, as HTTP allows.

        Raises:
            TransportError: there is no status line.
            ValueError: the request cannot be sent as it is.
        """
        exchange = Exchange(self._bytes_of(request), self._deadlines, on_sent)
        problem: Exception | None = None
        try:
            try:
                await self._run(exchange)
            except _CLOSED_MEANWHILE:
                repeatable = request.method == "GET" and exchange.may_go_again
                if not repeatable or self._connector.closed:
                    raise
                await self._run(exchange, fresh=True)
        except Exception as error:
            if not exchange.sent and not isinstance(error, FAILURES):
                raise  # no failure of a request, but of the program
            problem = error
        finally:
            self._deadlines.discard(exchange)
            exchange.over()
        return self._outcome(exchange, problem)

    async def aclose(self) -> None:
        """Close all connections; calls in progress end at once."""
        if self._closing is not None:
            self._closing.cancel()
        while self._idle:
            self._idle.pop()[0].close()
        self._deadlines.end_all(aiohttp.ClientConnectionError("the transport was closed"))
        await self._connector.close()

    def _bytes_of(self, request: WireRequest) -> bytes:
        start = f"{request.method} {self._prefix}{request.path}".encode() + self._head
        if request.body is not None:
            size = len(request.body)
            lines = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
            return start + lines + request.body
        return start + (b"\r\n" if request.method == "GET" else b"Content-Length: 0\r\n\r\n")

    async def _run(self, exchange: Exchange, *, fresh: bool = False) -> None:
        connection = (None if fresh else self._kept()) or await self._connect()
        try:
            await exchange.run(connection)
        except BaseException:
            connection.close()
            raise
        if self._connector.force_close or self._connector.closed or _is_spoilt(connection):
            connection.close()
        else:
            self._keep(connection)

    # --- idle connections ------------------------------------------------------------------------

    def _keep(self, connection: Connection) -> None:
        now = asyncio.get_running_loop().time()
        self._idle.append((connection, now))
        self._close_later()

    def _kept(self) -> Connection | None:
        """The kept connection that was used last, if it is sound and has not been kept too long.

        Some proxies send a 408 before they close a kept one: nobody asked for that answer.
        """
        oldest = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._idle:
            connection, since = self._idle.pop()
            if since > oldest and not _is_spoilt(connection):
                return connection
            connection.close()
        return None

    def _close_later(self) -> None:
        """Have the connection that has been idle the longest closed when its time is over."""
        if self._closing is None and self._idle:
            at, loop = self._idle[0][1] + KEPT_SECONDS, asyncio.get_running_loop()
            # One timer for all; not in the context of whoever happens to send.
            self._closing = loop.call_at(at, self._close_idle, context=Context())

    def _close_idle(self) -> None:
        self._closing = None
        oldest = asyncio.get_running_loop().time() - KEPT_SECONDS
        while self._idle and self._idle[0][1] <= oldest:
            self._idle.popleft()[0].close()
        self._close_later()

    # --- new connections -------------------------------------------------------------------------

    async def _connect(self) -> Connection:
        try:
            connection = await self._connector.connect(self._destination, [], self._connecting)
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError("connecting took too long") from None
        if _is_spoilt(connection):
            connection.close()
            raise aiohttp.ClientConnectionError("the server speaks or hangs up before it is asked")
        assert connection.protocol is not None
        # What is set here is the same for every answer, so the parser can be, too.
        connection.protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        return connection

    def _outcome(self, exchange: Exchange, problem: Exception | None) -> WireResponse:
        """The answer, whole or broken; or the error where there is none."""
        message = exchange.message
        if message is None:
            assert problem is not None
            raise self._secrets.failure(problem, "maybe" if exchange.sent else "no")
        body = b"".join(exchange.pieces)
        broken = None if problem is None else self._secrets.hide(describe(problem))
        return answer(message.code, message.headers, body, broken, self._secrets)


def _is_spoilt(connection: Connection) -> bool:
    """Whether it is closed, or anything has come on it that belongs to no request."""
    protocol = connection.protocol
    return protocol is None or protocol.should_close or connection.closed
