"""One API request and its answer, on a connection of aiohttp's connector.

aiohttp looks up names, connects, verifies TLS, keeps connections and parses answers. What stands
around that in `ClientSession` is left out: cookies, redirects, proxies and traces, of which an API
call uses none and which cost it more than all the rest (`benchmarks/overhead.py`). What is gained
besides is to know exactly when the first byte goes out.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from yarl import URL

from seedance_async.api.errors import TransportError
from seedance_async.api.protocol import MAX_BODY, WireRequest, WireResponse
from seedance_async.api.transport.deadlines import Deadlines
from seedance_async.api.transport.failures import (
    FAILURES,
    holds,
    is_transient,
    told,
    without_secrets,
)

_HIDDEN = "[api key]"
_KEPT_SECONDS = 15.0
_CLOSED_MEANWHILE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class Line:
    """Requests of one kind to the API's origin.

    Args:
        base_url: the origin, and a path that precedes all others.
        headers: sent with every request.
        secret: what no answer gets into our errors and logs, should a server echo it.
        connector: aiohttp's; it decides whether a connection is used again.
        seconds: from sending a request to the end of its answer.
        connect_seconds: for DNS, TCP and TLS of one connection.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        secret: str,
        connector: aiohttp.BaseConnector,
        seconds: float,
        connect_seconds: float,
    ) -> None:
        _keep_receive_buffers()
        url = URL(base_url, encoded=True)
        if connector.force_close:
            headers = {**headers, "Connection": "close"}
        # What the connector asks of a request is where it goes, which is the same for all.
        self._destination = aiohttp.ClientRequest(
            "GET", url, headers=headers, loop=asyncio.get_running_loop()
        )
        lines = (f"{name}: {value}\r\n" for name, value in self._destination.headers.items())
        self._head = f" HTTP/1.1\r\n{''.join(lines)}".encode()
        self._prefix = url.raw_path.rstrip("/")
        self._secret = secret
        self._connector = connector
        # Kept here, parser and all, and not given back to the connector: that is the cheaper way.
        self._idle: list[tuple[aiohttp.connector.Connection, float]] = []
        self._deadlines = Deadlines(seconds)
        self._connecting = aiohttp.ClientTimeout(connect=connect_seconds)

    async def send(
        self, request: WireRequest, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """One request, and its answer as far as it came.

        A GET that finds its kept connection closed is sent again on another, as HTTP allows.

        Raises:
            TransportError: there is no status line.
        """
        exchange = _Exchange(self._bytes_of(request), self._deadlines, on_sent)
        try:
            try:
                await self._run(exchange)
            except _CLOSED_MEANWHILE:
                harmless = request.method == "GET" and not request.charges
                if not harmless or not exchange.may_go_again or self._connector.closed:
                    raise
                await self._run(exchange, fresh=True)
        except Exception as error:
            if not exchange.sent and not isinstance(error, FAILURES):
                raise  # no failure of a request, but of the program
            return self._explain(exchange, error)
        finally:
            self._deadlines.discard(exchange)
            exchange.over()
        return self._answer(exchange)

    async def aclose(self) -> None:
        """Close all connections; what is out ends at once."""
        while self._idle:
            self._idle.pop()[0].close()
        self._deadlines.end_all(aiohttp.ClientConnectionError("the transport was closed"))
        await self._connector.close()

    def _bytes_of(self, request: WireRequest) -> bytes:
        path = request.path
        printable = path.isascii() and path.isprintable() and " " not in path
        if not (printable and path.startswith("/")):  # it could end the request line
            raise ValueError(f"no path of a request: {path!r}")
        start = f"{request.method} {self._prefix}{path}".encode() + self._head
        if request.body is not None:
            size = len(request.body)
            told = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
            return start + told + request.body
        return start + (b"\r\n" if request.method == "GET" else b"Content-Length: 0\r\n\r\n")

    async def _run(self, exchange: _Exchange, *, fresh: bool = False) -> None:
        connection = (None if fresh else self._kept()) or await self._connect()
        try:
            await exchange.run(connection)
        except BaseException:
            connection.close()
            raise
        if self._connector.force_close or _is_spoilt(connection):
            connection.close()
        else:
            self._idle.append((connection, asyncio.get_running_loop().time()))

    def _kept(self) -> aiohttp.connector.Connection | None:
        """The kept connection that was used last, if it is sound and has not been kept too long.

        Some proxies send a 408 before they close a kept one: nobody asked for that answer.
        """
        oldest = asyncio.get_running_loop().time() - _KEPT_SECONDS
        while self._idle:
            connection, since = self._idle.pop()
            if since > oldest and not _is_spoilt(connection):
                return connection
            connection.close()
        return None

    async def _connect(self) -> aiohttp.connector.Connection:
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

    def _answer(self, exchange: _Exchange) -> WireResponse:
        message, secret = exchange.message, self._secret
        assert message is not None
        body = b"".join(exchange.pieces).replace(secret.encode(), _HIDDEN.encode())
        headers = {
            name.lower(): value.replace(secret, _HIDDEN) for name, value in message.headers.items()
        }
        return WireResponse(message.code, headers, body, exchange.broken)

    def _explain(self, exchange: _Exchange, error: Exception) -> WireResponse:
        """What a failure means: a broken answer, or none."""
        text = told(error).replace(self._secret, _HIDDEN)
        if exchange.message is not None:
            exchange.broken = text
            return self._answer(exchange)
        raise TransportError(
            text, delivered="maybe" if exchange.sent else "no", transient=is_transient(error)
        ) from (None if holds(error, self._secret) else without_secrets(error))


class _Exchange:
    """How far a request and its answer have come."""

    __slots__ = (
        "_bytes",
        "_deadlines",
        "_ended",
        "_on_sent",
        "_reader",
        "broken",
        "message",
        "pieces",
        "sent",
    )

    def __init__(
        self, request: bytes, deadlines: Deadlines, on_sent: Callable[[], None] | None
    ) -> None:
        self._bytes, self._deadlines, self._on_sent = request, deadlines, on_sent
        self._reader: ResponseHandler | aiohttp.StreamReader | None = None
        self._ended: Exception | None = None
        self.sent = False
        self.message: RawResponseMessage | None = None
        self.pieces: list[bytes] = []
        self.broken: str | None = None

    @property
    def may_go_again(self) -> bool:
        """Whether it was sent, had no answer at all, and has time for another."""
        return self.sent and self.message is None and self._ended is None

    async def run(self, connection: aiohttp.connector.Connection) -> None:
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        assert transport is not None
        if not self.sent:
            self.sent = True
            self._deadlines.add(self)
            if self._on_sent is not None:
                self._on_sent()
        if self._ended is not None:
            raise self._ended
        self._reader = protocol
        transport.write(self._bytes)
        message, content = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, content = await protocol.read()
        self.message = message
        self._reader = content
        if self._ended is not None and not content.is_eof():  # what is there is taken all the same
            asyncio.get_running_loop().call_later(0, content.set_exception, self._ended)
        encoding = message.headers.get("Content-Encoding", "identity")
        await self._read_bounded(encoding, content)

    def end(self, error: Exception) -> None:
        """What has not been answered by now will not be."""
        self._ended = error
        if self._reader is not None:
            self._reader.set_exception(error)

    def over(self) -> None:
        """Let go of all that leads back to this, as errors do by their frames."""
        self._ended = self._reader = None

    async def _read_bounded(self, encoding: str, content: aiohttp.StreamReader) -> None:
        encoding = encoding.lower()
        inflate = None if encoding in ("identity", "") else _inflater(encoding)
        room = MAX_BODY + 1
        while not content.at_eof():
            piece = await content.readany()
            piece = inflate.decompress(piece, room) if inflate else piece[:room]
            self.pieces.append(piece)
            room -= len(piece)
            if room <= 0:
                self.broken = f"it is longer than {MAX_BODY} bytes"
                return
        if inflate is not None and not inflate.eof:
            self.broken = f"its {encoding} stream ends early"


def _keep_receive_buffers() -> None:
    """Have the buffers that answers are received in taken from memory that is at hand.

    asyncio receives into a new buffer of 256 KiB each time. glibc maps one as large as that, and
    unmaps it, which takes three calls of the system and a page fault; but once such a block was
    freed, it keeps them (`mallopt(3)`, M_MMAP_THRESHOLD). Elsewhere this does nothing.
    """
    bytes(1 << 20)


def _is_spoilt(connection: aiohttp.connector.Connection) -> bool:
    """Whether it is closed, or anything has come on it that belongs to no request."""
    protocol = connection.protocol
    return protocol is None or protocol.should_close or connection.closed


def _inflater(encoding: str) -> Any:
    """A decompressor that can be bounded; none was asked for, but some proxies compress anyway."""
    if encoding not in ("gzip", "deflate"):
        raise ValueError(f"content encoding {encoding!r} was not asked for")
    return zlib.decompressobj(zlib.MAX_WBITS | 32)
