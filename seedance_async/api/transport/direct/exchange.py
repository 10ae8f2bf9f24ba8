"""One API request and its answer on a connection of aiohttp's connector."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage

from seedance_async.api.protocol import MAX_BODY
from seedance_async.api.transport.deadlines import Deadlines


class Exchange:
    """How far a request and its answer have come.

    Args:
        request: its bytes.
        deadlines: where the time for its answer is kept, from when it is sent.
        on_sent: called once, just before its first byte is written.
    """

    __slots__ = ("_bytes", "_deadlines", "_ended", "_on_sent", "_reader", "message", "pieces",
                 "sent")  # fmt: skip

    def __init__(
        self, request: bytes, deadlines: Deadlines, on_sent: Callable[[], None] | None
    ) -> None:
        self._bytes, self._deadlines, self._on_sent = request, deadlines, on_sent
        self._reader: ResponseHandler | aiohttp.StreamReader | None = None
        self._ended: Exception | None = None
        self.sent = False
        self.message: RawResponseMessage | None = None
        self.pieces: list[bytes] = []

    @property
    def may_go_again(self) -> bool:
        """Whether it was sent, had no answer at all, and has time for another."""
        return self.sent and self.message is None and self._ended is None

    async def run(self, connection: Connection) -> None:
        """Send it, and take its answer as far as it comes."""
        protocol, transport = connection.protocol, connection.transport
        assert protocol is not None
        assert transport is not None
        if not self.sent:
            if self._on_sent is not None:
                self._on_sent()
            self.sent = True
            self._deadlines.add(self)
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
        await self._read(content)

    def end(self, error: Exception) -> None:
        """What has not been answered by now will not be."""
        self._ended = error
        if self._reader is not None:
            self._reader.set_exception(error)

    def over(self) -> None:
        """Let go of all that leads back to this, as errors do by their frames."""
        self._ended = self._reader = None

    async def _read(self, content: aiohttp.StreamReader) -> None:
        """Take the body, up to one byte more than is allowed."""
        room = MAX_BODY + 1
        while not content.at_eof():
            piece = (await content.readany())[:room]
            self.pieces.append(piece)
            room -= len(piece)
            if room <= 0:
                return
