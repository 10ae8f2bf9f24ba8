"""One API call through a `ClientSession`: how far it has come, and what ends it early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from seedance_async.api.protocol import MAX_BODY
from seedance_async.api.transport.deadlines import Deadlines


class Call:
    """A call in progress.

    Args:
        on_sent: called once, when its first byte may be on its way.
        answering: where the time for its answer is kept from then on, if it is told when that is.
    """

    __slots__ = ("_answering", "_interrupting", "_on_sent", "_over", "_pieces", "ended",
                 "response", "sent", "timeout", "traced")  # fmt: skip

    def __init__(
        self, on_sent: Callable[[], None] | None, answering: Deadlines | None = None
    ) -> None:
        self._on_sent, self._answering = on_sent, answering
        self._pieces: list[bytes] = []
        self._over = self._interrupting = False
        self.timeout = asyncio.timeout(None)  # expires when `end` says so
        self.traced = self.sent = False
        self.response: aiohttp.ClientResponse | None = None
        self.ended: Exception | None = None

    def __deepcopy__(self, _: object) -> Call:
        """It itself: aioresponses copies whatever a request was given."""
        return self

    @property
    def body(self) -> bytes:
        """What has come of the answer's body."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def note_sent(self) -> None:
        """Its first byte may be on its way."""
        if self.sent:
            return
        self.sent = True
        if self._answering is not None:
            self._answering.add(self)
        if self._on_sent is not None:
            self._on_sent()

    def end(self, error: Exception) -> None:
        """It ends for this reason, unless all of its answer is in the socket already.

        A loop that was blocked finds answers and the end of their time at once: the answers are
        taken first.
        """
        self.ended = self.ended or error
        if not self._interrupting:
            self._interrupting = True
            asyncio.get_running_loop().call_later(0, self._interrupt)

    def _interrupt(self) -> None:
        if not self._over:
            self.timeout.reschedule(0)

    def over(self) -> None:
        """It has its outcome; nothing that happens from now on concerns it."""
        self._over = True

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Take the body, up to one byte more than is allowed."""
        self.response = response
        content, room = response.content, MAX_BODY + 1
        try:
            while room > 0 and not content.at_eof():
                piece = (await content.readany())[:room]
                self._pieces.append(piece)
                room -= len(piece)
        except asyncio.CancelledError:
            with suppress(Exception):  # what came in the same turn of the loop
                self._pieces.append(content.read_nowait()[:room])
            raise
        finally:
            response.close()  # where it was read to its end, the connection is free already
