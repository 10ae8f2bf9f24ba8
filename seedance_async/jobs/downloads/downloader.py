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
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from seedance_async._utils.cancellation import shielded
from seedance_async._utils.plural import counted
from seedance_async.api.errors import SeedanceError, TransportError
from seedance_async.api.models import Generation
from seedance_async.api.options import RetryPolicy, Timeouts
from seedance_async.api.transport import MediaResponse, Transport
from seedance_async.jobs.downloads.part_file import (
    BrokenTransferError,
    PartFile,
    checked_target,
    free_space,
)
from seedance_async.jobs.registry import SavedFile

_T = TypeVar("_T")

_CONTENT_RANGE = r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)"
_CONTENT_LENGTH = r"[0-9]{1,18}"

#: Statuses of a URL that has expired.
_EXPIRED = frozenset({401, 403, 404, 410})

#: Bytes that are written at once: so many that handing them to a thread costs little.
WRITE_SIZE = 1 << 20


class Downloader:
    """Saves videos, at most `limit` at a time.

    Args:
        transport: fetches the videos.
        refresh: makes a status query, for a fresh output URL.
        limit: the number of downloads at once.
        retry, timeouts, rng: as in `SeedanceClient`.
        free: returns the free bytes of a folder's disk, or None where that is unknown.
    """

    def __init__(
        self,
        transport: Transport,
        refresh: Callable[[str], Awaitable[Generation]],
        *,
        limit: int,
        retry: RetryPolicy,
        timeouts: Timeouts,
        rng: random.Random,
        free: Callable[[Path], int | None] = free_space,
    ) -> None:
        self._transport, self._refresh, self._free = transport, refresh, free
        self._slots = asyncio.Semaphore(limit)
        self._retry, self._timeouts, self._rng = retry, timeouts, rng

    async def save(self, generation: Generation, path: Path, overwrite: bool = False) -> SavedFile:
        """Save a succeeded job's video; see `Job.download`."""
        target = await _in_thread(checked_target, generation, path, overwrite)
        part = PartFile(target, generation.request_id, free=self._free)
        async with self._slots:
            try:
                await _in_thread(part.open)
                async with asyncio.timeout(self._timeouts.download):
                    await self._fetch(generation, part)
                await _in_thread(part.publish, overwrite)
            except TimeoutError:
                raise part.error(
                    f"not done in {counted(self._timeouts.download, 'second')}"
                ) from None
            except OSError as error:
                raise part.error(f"{error.strerror or error}") from error
            finally:
                part.discard()
        return SavedFile(target, part.size, part.sha256)

    async def _fetch(self, generation: Generation, part: PartFile) -> None:
        """Make transfers until the file is whole."""
        url, refreshed, failures = generation.output_url, False, 0
        while True:
            if url is None:
                if refreshed:
                    raise part.error("the server gives no output URL")
                url, refreshed = await self._fresh_url(part), True
                continue
            try:
                await self._transfer(url, part)
                return
            except _ExpiredURLError as expired:
                if refreshed:
                    message = f"HTTP {expired.status}, and again with a fresh URL"
                    raise part.error(message, expired.status) from None
                url = None
            except BrokenTransferError as broken:
                failures += 1
                if failures >= self._retry.attempts or not broken.transient:
                    raise part.error(str(broken), broken.status) from broken
                await asyncio.sleep(self._retry.backoff.delay(failures - 1, self._rng))

    async def _fresh_url(self, part: PartFile) -> str | None:
        try:
            return (await self._refresh(part.request_id)).output_url
        except SeedanceError as error:
            raise part.error(f"its URL could not be refreshed: {error}") from error

    async def _transfer(self, url: str, part: PartFile) -> None:
        """Make one GET, from the end of the file to the end of the video."""
        try:
            async with self._transport.open_media(url, part.range_headers()) as response:
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
        status, headers = response.status, response.headers
        if status in _EXPIRED:
            raise _ExpiredURLError(status)
        kind = headers.get("content-type", "")
        if status in (200, 206) and kind.startswith(("text/", "application/json")):
            raise BrokenTransferError(f"a video was expected, not {kind}", status=status)
        start, total = _start_and_total(status, headers)
        resumed = status == 206 and start == part.size and part.total in (None, total)
        if status in (200, 206, 416) and not resumed and part.size:
            await _in_thread(part.restart)
        if status == 200 or resumed:
            # Do not go to a thread before the first piece is read: if the connection broke
            # meanwhile, the bytes received so far would be lost, and a download from a server that
            # always breaks the connection would never progress.
            part.expect(total, headers.get("etag"))
        elif status in (206, 416):
            raise BrokenTransferError("the server does not resume there", status=status)
        else:
            transient = status >= 500 or status in (408, 425, 429)
            raise BrokenTransferError(f"HTTP {status}", status=status, transient=transient)


class MinimumRate:
    """Breaks off a transfer that only trickles. The time that writing takes does not count.

    A transfer in which nothing arrives at all is broken off by the transport.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._window, self._rate = timeouts.download_idle, timeouts.download_rate
        self._clock = asyncio.get_running_loop().time
        self._waited, self._received = 0.0, 0
        self._waiting_since = self._clock()

    def received(self, size: int) -> None:
        """Count the bytes that end a wait. Raises BrokenTransferError if the rate is too low."""
        self._waited += self._clock() - self._waiting_since
        self._received += size
        if self._waited < self._window:
            return
        if self._received < self._rate * self._waited:
            received = counted(self._received, "byte")
            message = f"only {received} came in {counted(round(self._waited), 'second')}"
            raise BrokenTransferError(message)
        self._waited, self._received = 0.0, 0

    def start_waiting(self) -> None:
        """Start the next wait."""
        self._waiting_since = self._clock()


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
    from anyio import to_thread  # imported only if something is downloaded

    return await shielded(to_thread.run_sync(work, *arguments))


class _ExpiredURLError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


def _start_and_total(status: int, headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Position of the body's first byte and length of the whole video, as far as they are given."""
    if status == 206:
        match = re.fullmatch(_CONTENT_RANGE, headers.get("content-range", ""))
        if match is None:
            return None, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = headers.get("content-length", "")
    return 0, int(length) if re.fullmatch(_CONTENT_LENGTH, length) else None
