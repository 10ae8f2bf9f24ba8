"""Downloads: from an output URL to a verified file, whatever happens to the connection.

The video goes to a temporary file in the target's folder. A transfer that breaks is resumed with a
Range request. The whole file is checked and flushed to the disk (fsync) before it gets its name, so
there is never half a file under that name. At no time is the whole video in memory. Files are
written off the event loop, each batch while the next one is being received.

API page "Image to Video", "Query Result": the output URL is returned once the task has succeeded.
How long it is valid is not documented. Assumed: a URL that is refused with 401, 403, 404 or 410 has
expired, and the next status query returns a fresh one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from seedance_async._utils.cancellation import shielded
from seedance_async._utils.plural import counted
from seedance_async.api.errors import DownloadError, TransportError
from seedance_async.api.long_waits import Waits
from seedance_async.api.models import Generation
from seedance_async.api.options import RetryPolicy, Timeouts
from seedance_async.api.transport import MediaResponse, Transport
from seedance_async.jobs.downloads.part_file import PartFile, checked_target, free_space
from seedance_async.jobs.downloads.transfers import (
    Attempts,
    BrokenTransferError,
    ExpiredURLError,
    MinimumRate,
    OnRetry,
    Refresh,
    checked_body,
    transfer,
)
from seedance_async.jobs.downloads.video_stream import VideoStream, VideoTarget
from seedance_async.jobs.registry import SavedFile

_T = TypeVar("_T")

#: Bytes that are written at once: so many that handing them to a thread costs little.
WRITE_SIZE = 1 << 20


class Downloader:
    """Saves videos, at most `limit` at a time.

    Args:
        transport: fetches the videos.
        refresh: makes a status query, for a fresh output URL.
        limit: the number of downloads at once.
        retry, timeouts, rng, waits: as in `SeedanceClient`.
        on_retry: see `Attempts`.
        free: returns the free bytes of a folder's disk, or None where that is unknown.
    """

    def __init__(
        self,
        transport: Transport,
        refresh: Refresh,
        *,
        limit: int,
        retry: RetryPolicy,
        timeouts: Timeouts,
        rng: random.Random,
        waits: Waits,
        on_retry: OnRetry | None = None,
        free: Callable[[Path], int | None] = free_space,
    ) -> None:
        self._transport, self._refresh, self._free = transport, refresh, free
        self._slots = asyncio.Semaphore(limit)
        self._retry, self._timeouts, self._rng = retry, timeouts, rng
        self._on_retry, self._waits = on_retry, waits

    def stream(self, request_id: str, ready: Callable[[], Awaitable[Generation]]) -> VideoStream:
        """A job's video in pieces, once `ready` returns it as succeeded; see `Job.stream`."""
        return VideoStream(
            request_id,
            ready,
            self._transport,
            self._refresh,
            retry=self._retry,
            timeouts=self._timeouts,
            rng=self._rng,
            waits=self._waits,
            on_retry=self._on_retry,
        )

    async def save(
        self, generation: Generation, target: Path | VideoTarget, overwrite: bool = False
    ) -> SavedFile:
        """Save a succeeded job's video; see `Job.download`."""
        if isinstance(target, Path):
            return await self._save_file(generation, target, overwrite)
        return await self._save_elsewhere(generation, target, overwrite)

    async def _save_elsewhere(
        self, generation: Generation, target: VideoTarget, overwrite: bool
    ) -> SavedFile:
        async def ready() -> Generation:
            return generation

        async with self._slots, self.stream(generation.request_id, ready) as video:
            deadline = asyncio.timeout(self._timeouts.download)
            try:
                async with deadline:
                    return await target.save(video, overwrite=overwrite)
            except TimeoutError:
                if not deadline.expired():
                    raise  # of the target itself
                raise DownloadError(self._overdue(), request_id=generation.request_id) from None

    async def _save_file(self, generation: Generation, path: Path, overwrite: bool) -> SavedFile:
        target = await _in_thread(checked_target, generation, path, overwrite)
        part = PartFile(target, generation.request_id, free=self._free)
        async with self._slots:
            deadline = asyncio.timeout(self._timeouts.download)
            try:
                await _in_thread(part.open)
                async with deadline:
                    await self._fetch(generation, part)
                await _in_thread(part.publish, overwrite)
            except OSError as error:  # an expired deadline raises one, and so may a disk
                if deadline.expired():
                    raise part.error(self._overdue()) from None
                raise part.error(f"{error.strerror or error}") from error
            finally:
                part.discard()
        return SavedFile(target, part.size, part.sha256)

    def _overdue(self) -> str:
        return f"not done in {counted(self._timeouts.download, 'second')}"

    async def _fetch(self, generation: Generation, part: PartFile) -> None:
        """Make transfers until the file is whole."""
        attempts = Attempts(
            generation, self._refresh, self._retry, self._rng, part.error, self._on_retry
        )
        while True:
            url = await attempts.url(part.size)
            try:
                await self._transfer(url, part)
                return
            except (BrokenTransferError, ExpiredURLError) as failure:
                await attempts.failed(failure, part.size)

    async def _transfer(self, url: str, part: PartFile) -> None:
        """Make one GET, from the end of the file to the end of the video."""
        try:
            headers = part.range_headers()
            async with transfer(self._transport, url, headers, self._waits) as response:
                await self._start(response, part)
                rate = MinimumRate(self._timeouts)
                async with _BackgroundWriter(part) as writer:
                    async for piece in response.chunks:
                        rate.received(len(piece))
                        await writer.write(piece)
                        rate.start_waiting()
        except TransportError as error:
            raise BrokenTransferError(str(error), transient=error.transient) from error
        await _in_thread(part.verify)

    async def _start(self, response: MediaResponse, part: PartFile) -> None:
        """Prepare the file for the body of a response, or raise if the body is not the video."""
        body = checked_body(response)
        resumed = body.status == 206 and body.start == part.size
        resumed = resumed and part.total in (None, body.total)
        if not resumed and part.size:
            await _in_thread(part.restart)
        if body.status == 200 or resumed:
            # Do not go to a thread before the first piece is read: if the connection broke
            # meanwhile, the bytes received so far would be lost, and a download from a server that
            # always breaks the connection would never progress.
            part.expect(body.total, body.etag)
        else:
            raise BrokenTransferError("the server does not resume there", status=body.status)


class _BackgroundWriter:
    """Writes pieces to a file in a thread, in batches, while the next ones are being received.

    When the block ends, no thread uses the file, and it holds everything that was received unless
    the task was cancelled: a broken transfer is resumed from there.
    """

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._pieces: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> _BackgroundWriter:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wait_for_thread()
        if self._pieces:
            self._start_thread()
            await self._wait_for_thread()

    async def write(self, piece: bytes) -> None:
        """Add a piece. Waits if a batch is complete and the one before is still being written."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= WRITE_SIZE:
            await self._wait_for_thread()
            self._start_thread()

    def _start_thread(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._writing = asyncio.ensure_future(_in_thread(self._part.write, pieces))

    async def _wait_for_thread(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await shielded(writing)


async def _in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Run blocking work in a thread, and wait for it even if the caller is cancelled.

    So no two threads ever use the file at once.
    """
    return await shielded(asyncio.to_thread(work, *arguments))
