"""Downloads: from an output URL to a verified file, whatever the connection does.

The video goes to a temporary file in the target's folder, is resumed by Range where a transfer
breaks, checked, written to disk for good (fsync) and only then given its name. At no time is the
whole video in memory, and no file is ever half there under its final name. Files are written off
the event loop, each piece while the next one is on its way.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from seedance_async._utils.cancellation import shielded
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

_TOTAL = r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)"
_LENGTH = r"[0-9]{1,18}"

#: Answers that mean the URL is no longer good; a fresh one comes with the next status query.
_STALE = frozenset({401, 403, 404, 410})

#: Bytes that go to a thread at once: enough that the way there costs little beside the writing.
_BATCH = 1 << 20


class Downloader:
    """Saves videos, at most `limit` at a time.

    Args:
        transport: where the bytes come from.
        refresh: a status query, for a fresh output URL.
        limit: downloads at once.
        retry, timeouts, rng: as in `SeedanceClient`.
        free: bytes that a folder has room for; None where that is not known.
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
                raise part.error(f"not done in {self._timeouts.download:g} seconds") from None
            except OSError as error:
                raise part.error(f"{error.strerror or error}") from error
            finally:
                part.discard()
        return SavedFile(target, part.size, part.sha256)

    async def _fetch(self, generation: Generation, part: PartFile) -> None:
        """Transfer after transfer until the file is whole."""
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
            except _StaleURLError as stale:
                if refreshed:
                    told = f"HTTP {stale.status}, and again with a fresh URL"
                    raise part.error(told, stale.status) from None
                url = None
                continue
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
        """One GET, from where the file ends to the end of the video."""
        try:
            async with self._transport.open_media(url, part.range_headers()) as response:
                await self._begin(response, part)
                floor = _RateFloor(self._timeouts)
                async with _WriteBehind(part) as file:
                    async for piece in response.chunks:
                        floor.received(len(piece))
                        await file.write(piece)
                        floor.wait_on()
        except TransportError as error:
            raise BrokenTransferError(str(error), transient=error.transient) from error
        await _in_thread(part.verify)

    async def _begin(self, response: MediaResponse, part: PartFile) -> None:
        status, headers = response.status, response.headers
        if status in _STALE:
            raise _StaleURLError(status)
        kind = headers.get("content-type", "")
        if status in (200, 206) and kind.startswith(("text/", "application/json")):
            raise BrokenTransferError(f"a video was expected, not {kind}", status=status)
        start, total = _extent(status, headers)
        resumed = status == 206 and start == part.size and part.total in (None, total)
        if status in (200, 206, 416) and not resumed and part.size:
            await _in_thread(part.restart)
        if status == 200 or resumed:
            # No thread before the first piece is read: should the connection break meanwhile, what
            # has come already would be lost, and a server that always breaks never got past.
            part.expect(total, headers.get("etag"))
        elif status in (206, 416):
            raise BrokenTransferError("the server does not resume there", status=status)
        else:
            transient = status >= 500 or status in (408, 425, 429)
            raise BrokenTransferError(f"HTTP {status}", status=status, transient=transient)


class _RateFloor:
    """Finds out a transfer that only trickles; the time that writing takes is not counted.

    That nothing comes at all is noticed by the transport.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._window, self._rate = timeouts.download_idle, timeouts.download_rate
        self._clock = asyncio.get_running_loop().time
        self._waited, self._received = 0.0, 0
        self._since = self._clock()

    def received(self, size: int) -> None:
        """So many bytes came at the end of a wait."""
        self._waited += self._clock() - self._since
        self._received += size
        if self._waited < self._window:
            return
        if self._received < self._rate * self._waited:
            told = f"only {self._received} bytes came in {self._waited:.0f} seconds"
            raise BrokenTransferError(told)
        self._waited, self._received = 0.0, 0

    def wait_on(self) -> None:
        """The next wait begins."""
        self._since = self._clock()


class _WriteBehind:
    """Writes pieces to a file in a thread, many at once, while the next ones are on their way.

    At its end no thread has the file, and all that came is in it unless the writer was cancelled:
    a broken transfer is resumed from there.
    """

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._pieces: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    async def __aenter__(self) -> _WriteBehind:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._written()
        if self._pieces:
            self._begin()
            await self._written()

    async def write(self, piece: bytes) -> None:
        """Take a piece; waits while a whole batch before it is still being written."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _BATCH:
            await self._written()
            self._begin()

    def _begin(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._writing = asyncio.ensure_future(_run_in_thread(self._part.write, pieces))

    async def _written(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await shielded(writing)


async def _in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Call in a thread, to its end even if cancelled: no two ever have the file at once."""
    return await shielded(_run_in_thread(work, *arguments))


async def _run_in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    from anyio import to_thread  # imported only if something is downloaded

    return await to_thread.run_sync(work, *arguments)


class _StaleURLError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


def _extent(status: int, headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """First byte and total length that an answer tells of."""
    if status == 206:
        match = re.fullmatch(_TOTAL, headers.get("content-range", ""))
        if match is None:
            return None, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = headers.get("content-length", "")
    return 0, int(length) if re.fullmatch(_LENGTH, length) else None
