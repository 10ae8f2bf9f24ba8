"""Downloads: from an output URL to a verified file, whatever the connection does.

The video goes to a temporary file in the target's folder, is resumed by Range where a transfer
breaks, checked, written to disk for good (fsync) and only then given its name. At no time is the
whole video in memory, and no file is ever half there under its final name. Files are written off
the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import anyio.to_thread
import attrs

from seedance_async.errors import DownloadError, SeedanceError, TransportError
from seedance_async.models import Generation, SavedFile
from seedance_async.options import RetryPolicy, Timeouts
from seedance_async.shielding import surely
from seedance_async.transport import MediaResponse, Transport

_T = TypeVar("_T")

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_TOTAL = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)

#: Answers that mean the URL is no longer good; a fresh one comes with the next status query.
_STALE = frozenset({401, 403, 404, 410})


def file_name(request_id: str) -> str:
    """A file name for a job's video that is safe whatever the server's id says."""
    if _SAFE_NAME.fullmatch(request_id) and not _RESERVED.fullmatch(request_id):
        return f"{request_id}.mp4"
    digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"job-{digest[:32]}.mp4"


class Downloader:
    """Saves videos, at most `limit` at a time.

    Args:
        transport: where the bytes come from.
        refresh: a status query, for a fresh output URL.
        limit: downloads at once.
        retry, timeouts, rng: as in `SeedanceClient`.
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
    ) -> None:
        self._transport, self._refresh = transport, refresh
        self._slots = asyncio.Semaphore(limit)
        self._retry, self._timeouts, self._rng = retry, timeouts, rng

    async def save(self, generation: Generation, path: Path, overwrite: bool = False) -> SavedFile:
        """Save a succeeded job's video; see `Job.download`."""
        target = await _in_thread(_target, generation, path, overwrite)
        part = _Part(target, generation.request_id)
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

    async def _fetch(self, generation: Generation, part: _Part) -> None:
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
            except _BrokenTransferError as broken:
                failures += 1
                if failures >= self._retry.attempts or not broken.transient:
                    raise part.error(str(broken), broken.status) from broken
                await asyncio.sleep(self._retry.backoff.delay(failures - 1, self._rng))

    async def _fresh_url(self, part: _Part) -> str | None:
        try:
            return (await self._refresh(part.request_id)).output_url
        except SeedanceError as error:
            raise part.error(f"its URL could not be refreshed: {error}") from error

    async def _transfer(self, url: str, part: _Part) -> None:
        """One GET, from where the file ends to the end of the video."""
        try:
            async with self._transport.open_media(url, part.range_headers()) as response:
                await self._begin(response, part)
                async for chunk in response.chunks:
                    await _in_thread(part.write, chunk)
        except TransportError as error:
            raise _BrokenTransferError(str(error), transient=error.transient) from error
        await _in_thread(part.verify)

    async def _begin(self, response: MediaResponse, part: _Part) -> None:
        status, headers = response.status, response.headers
        if status in _STALE:
            raise _StaleURLError(status)
        kind = headers.get("content-type", "")
        if status in (200, 206) and kind.startswith(("text/", "application/json")):
            raise _BrokenTransferError(f"a video was expected, not {kind}", status=status)
        start, total = _extent(status, headers)
        resumed = status == 206 and start == part.size and part.total in (None, total)
        if status in (200, 206, 416) and not resumed and part.size:
            await _in_thread(part.restart)
        if status == 200 or resumed:
            part.expect(total, headers.get("etag"))
        elif status in (206, 416):
            raise _BrokenTransferError("the server does not resume there", status=status)
        else:
            transient = status >= 500 or status in (408, 425, 429)
            raise _BrokenTransferError(f"HTTP {status}", status=status, transient=transient)


async def _in_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Call in a thread, to its end even if cancelled: no two ever have the file at once."""
    return await surely(anyio.to_thread.run_sync(work, *arguments))


class _StaleURLError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class _BrokenTransferError(Exception):
    def __init__(self, told: str, *, status: int | None = None, transient: bool = True) -> None:
        self.status, self.transient = status, transient
        super().__init__(told)


@attrs.define(eq=False)
class _Part:
    """The temporary file beside the target. All its methods but the small ones block."""

    target: Path
    request_id: str
    size: int = 0
    total: int | None = None
    etag: str | None = None
    _path: Path = attrs.field(init=False)
    _file: BinaryIO | None = attrs.field(default=None, init=False)
    _hash: Any = attrs.field(factory=hashlib.sha256, init=False)

    def __attrs_post_init__(self) -> None:
        self._path = self.target.with_name(f".{self.target.name[:80]}.{secrets.token_hex(6)}.part")

    @property
    def sha256(self) -> str:
        return str(self._hash.hexdigest())

    def error(self, told: str, status: int | None = None) -> DownloadError:
        return DownloadError(told, request_id=self.request_id, path=self.target, status=status)

    def range_headers(self) -> dict[str, str]:
        if not self.size:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        if self.etag is not None and not self.etag.startswith("W/"):
            headers["If-Range"] = self.etag
        return headers

    def expect(self, total: int | None, etag: str | None) -> None:
        self.total, self.etag = total, etag

    def open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self._path, flags, 0o666), "wb")

    def restart(self) -> None:
        file = self._opened()
        file.seek(0)
        file.truncate()
        self.size, self.total, self.etag = 0, None, None
        self._hash = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._opened().write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def verify(self) -> None:
        """Whether the video is whole: by its told length, and by the boxes of the MP4."""
        if self.total is not None and self.size < self.total:
            raise _BrokenTransferError(f"cut short at {self.size} of {self.total} bytes")
        self._opened().flush()
        problem = mp4_problem(self._path)
        if problem is not None:
            self.restart()
            raise _BrokenTransferError(problem)

    def publish(self, overwrite: bool) -> None:
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if overwrite:
            self._path.replace(self.target)
        else:
            _rename_new(self._path, self.target)
        _sync_folder(self.target.parent)

    def discard(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what is still in the buffer finds the disk full again
                self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def _target(generation: Generation, path: Path, overwrite: bool) -> Path:
    target = path / file_name(generation.request_id) if path.is_dir() else path
    told = None
    if not target.parent.is_dir():
        told = "its folder does not exist"
    elif not overwrite and (target.exists() or target.is_symlink()):
        told = "a file is there; pass overwrite=True to replace it"
    elif target.is_dir():
        told = "a folder is there"
    if told is not None:
        raise DownloadError(told, request_id=generation.request_id, path=target)
    return target


def _rename_new(source: Path, target: Path) -> None:
    """Rename, but never over a file that came meanwhile."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the check is not atomic there
        if target.exists():
            raise FileExistsError(17, "a file is there", str(target)) from None
        source.rename(target)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _extent(status: int, headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """First byte and total length that an answer tells of."""
    if status == 206:
        match = _TOTAL.fullmatch(headers.get("content-range", ""))
        if match is None:
            return None, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = headers.get("content-length", "")
    return 0, int(length) if _LENGTH.fullmatch(length) else None


def mp4_problem(path: Path) -> str | None:
    """What is wrong with an MP4 file as a container, or None: its boxes must fill it exactly.

    This finds a file that was cut short even where the server told no length.
    """
    size = path.stat().st_size
    kinds: list[bytes] = []
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - at
            if not kinds and kind != b"ftyp":
                return "what came is no MP4 file"
            if length < 8:
                return "the MP4 file is damaged"
            kinds.append(kind)
            at += length
    if at != size or b"moov" not in kinds:
        return f"the MP4 file is cut short at {size} bytes"
    return None
