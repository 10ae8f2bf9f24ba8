"""`VideoStream`: a video as its bytes arrive, whole or an error, and never silently short.

A transfer that breaks is resumed with a Range request; a URL that has expired is renewed by a
status query. Bytes that were handed on cannot be taken back: where the server begins from the start
again, what is already there is skipped, and must be the same. Nothing is kept of the video.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Protocol

from seedance_async.api.errors import DownloadError, TransportError
from seedance_async.api.long_waits import Waits
from seedance_async.api.models import Generation
from seedance_async.api.options import RetryPolicy, Timeouts
from seedance_async.api.transport import Transport
from seedance_async.jobs.downloads.mp4_boxes import Mp4Boxes
from seedance_async.jobs.downloads.transfers import (
    Attempts,
    Body,
    BrokenTransferError,
    ExpiredURLError,
    MinimumRate,
    OnRetry,
    Refresh,
    checked_body,
    range_headers,
    transfer,
)
from seedance_async.jobs.registry import SavedFile

_log = logging.getLogger(__name__)


class VideoStream:
    """The bytes of one video: `async with job.stream() as video: async for piece in video: …`.

    The end of the loop says that the video is whole. Leaving the block closes the connection;
    without a block, `aclose` does.

    Attributes:
        request_id: the job's.
        size: bytes handed on so far.
        total: bytes of the whole video; None before the first piece, and where the server does not
            say.
    """

    def __init__(
        self,
        request_id: str,
        ready: Callable[[], Awaitable[Generation]],
        transport: Transport,
        refresh: Refresh,
        *,
        retry: RetryPolicy,
        timeouts: Timeouts,
        rng: random.Random,
        waits: Waits,
        on_retry: OnRetry | None = None,
    ) -> None:
        self.request_id, self.size = request_id, 0
        self.total: int | None = None
        self._ready, self._transport, self._refresh = ready, transport, refresh
        self._retry, self._timeouts, self._rng = retry, timeouts, rng
        self._on_retry, self._waits = on_retry, waits
        self._etag: str | None = None
        self._from_start = False
        self._hash, self._boxes = hashlib.sha256(), Mp4Boxes()
        self._pieces = self._read()

    @property
    def sha256(self) -> str:
        """The hash of the bytes handed on so far, in hexadecimal."""
        return self._hash.hexdigest()

    def __aiter__(self) -> VideoStream:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def __aenter__(self) -> VideoStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. The stream is then at its end."""
        await self._pieces.aclose()

    async def _read(self) -> AsyncGenerator[bytes]:
        """Make transfers until the video is whole."""
        generation = await self._ready()
        attempts = Attempts(
            generation, self._refresh, self._retry, self._rng, self._error, self._on_retry
        )
        while True:
            url = await attempts.url(self.size)
            try:
                async with aclosing(self._transfer(url)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except (BrokenTransferError, ExpiredURLError) as failure:
                await attempts.failed(failure, self.size)

    async def _transfer(self, url: str) -> AsyncGenerator[bytes]:
        """Make one GET, from where the last one ended."""
        headers = {} if self._from_start else range_headers(self.size, self._etag)
        try:
            async with transfer(self._transport, url, headers, self._waits) as response:
                repeated = self._start(checked_body(response))
                rate = MinimumRate(self._timeouts)
                async for received in response.chunks:
                    rate.received(len(received))
                    if piece := repeated.rest(received):
                        self._take(piece)
                        yield piece
                    rate.start_waiting()
        except TransportError as error:
            raise BrokenTransferError(str(error), transient=error.transient) from error
        self._check_whole()

    def _start(self, body: Body) -> _Repeated:
        """Prepare for a body; returns what of it was handed on before."""
        follows = body.status == 206 and body.start == self.size
        is_same = self.total in (None, body.total) and body.etag in (None, self._etag)
        self._from_start = not (body.status == 200 or (follows and is_same))
        if self._from_start:
            raise BrokenTransferError("the server does not resume there", status=body.status)
        if body.total is not None and body.total < self.size:
            raise self._changed()
        self.total, self._etag = body.total, body.etag
        return _Repeated(0 if follows else self.size, self._hash.digest(), self._changed)

    def _take(self, piece: bytes) -> None:
        self._boxes.feed(piece)
        if self.size == 0 and self._boxes.is_page:
            self._boxes = Mp4Boxes()
            raise BrokenTransferError("a video was expected, not a page")
        self._hash.update(piece)
        self.size += len(piece)

    def _check_whole(self) -> None:
        """Check that the video ends here: by its announced size, else by its boxes."""
        if self.total is not None and self.size < self.total:
            raise BrokenTransferError(f"cut short at {self.size} of {self.total} B")
        problem = self._boxes.problem()
        if problem is None:
            return
        if self.total is None:
            raise BrokenTransferError(problem)
        _log.warning("the video of job %s is taken as it came: %s", self.request_id, problem)

    def _error(self, message: str, status: int | None = None) -> DownloadError:
        return DownloadError(message, request_id=self.request_id, status=status)

    def _changed(self) -> DownloadError:
        return self._error("it has changed at the server meanwhile")


class _Repeated:
    """The beginning of a body that was handed on before: skipped, if it is the same."""

    def __init__(self, left: int, digest: bytes, changed: Callable[[], DownloadError]) -> None:
        self._left, self._digest, self._changed = left, digest, changed
        self._hash: Any = hashlib.sha256()

    def rest(self, piece: bytes) -> bytes:
        """What of a piece is new. Raises DownloadError if what it repeats is not the same."""
        if not self._left:
            return piece
        self._hash.update(piece[: self._left])
        new, self._left = piece[self._left :], max(0, self._left - len(piece))
        if not self._left and self._hash.digest() != self._digest:
            raise self._changed()
        return new


class VideoTarget(Protocol):
    """A place for a video that is no file: `seedance_async.media.StoredObject`, or your own."""

    async def save(self, video: VideoStream, *, overwrite: bool) -> SavedFile:
        """Save the video there, whole or not at all.

        Raises:
            DownloadError: that failed, or something is there and must not be replaced.
        """
