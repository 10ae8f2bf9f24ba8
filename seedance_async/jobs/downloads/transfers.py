"""What all transfers of a video share: what an answer means, when one is too slow, and what then.

Nothing here keeps any byte: files are written by `downloader`, and `stream` hands the bytes on.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import attrs

from seedance_async._utils.plural import counted
from seedance_async.api.errors import DownloadError, SeedanceError, TransportError
from seedance_async.api.long_waits import Waits
from seedance_async.api.models import Generation
from seedance_async.api.options import RetryPolicy, Timeouts
from seedance_async.api.transport import MediaResponse, Transport

_CONTENT_RANGE = r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)"
_CONTENT_LENGTH = r"[0-9]{1,18}"

#: Statuses of a URL that has expired.
_EXPIRED = frozenset({401, 403, 404, 410})

#: Makes a status query.
Refresh = Callable[[str], Awaitable[Generation]]

#: Is told how a transfer failed, and after how many seconds the next begins.
OnRetry = Callable[[SeedanceError, float], None]


class BrokenTransferError(Exception):
    """A transfer that must be repeated, from where it stopped or from the start.

    Attributes:
        status: the HTTP status where the server refused, else None.
        transient: whether repeating it can help.
    """

    def __init__(self, message: str, *, status: int | None = None, transient: bool = True) -> None:
        self.status, self.transient = status, transient
        super().__init__(message)


class ExpiredURLError(Exception):
    """The server refuses a URL that it gave."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


@attrs.frozen
class Body:
    """What an answer to a media request says of its body.

    Attributes:
        status: 200, 206 or 416.
        start: position of its first byte in the video; None where it is not given.
        total: bytes of the whole video, if they are given.
        etag: the server's name for this version of the video, if it gives one.
    """

    status: int
    start: int | None
    total: int | None
    etag: str | None


def checked_body(response: MediaResponse) -> Body:
    """What an answer says of its body.

    Raises:
        ExpiredURLError: the URL is refused.
        BrokenTransferError: it is no video, or a failure of the server.
    """
    status, headers = response.status, response.headers
    if status in _EXPIRED:
        raise ExpiredURLError(status)
    kind = headers.get("content-type", "")
    if status in (200, 206) and kind.startswith(("text/", "application/json")):
        raise BrokenTransferError(f"a video was expected, not {kind}", status=status)
    if status not in (200, 206, 416):
        transient = status >= 500 or status in (408, 425, 429)
        raise BrokenTransferError(f"HTTP {status}", status=status, transient=transient)
    start, total = _start_and_total(status, headers)
    return Body(status, start, total, headers.get("etag"))


def _start_and_total(status: int, headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Position of the body's first byte and length of the whole video, as far as they are given."""
    if status == 206:
        match = re.fullmatch(_CONTENT_RANGE, headers.get("content-range", ""))
        if match is None:
            return None, None
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = headers.get("content-length", "")
    return 0, int(length) if re.fullmatch(_CONTENT_LENGTH, length) else None


def range_headers(size: int, etag: str | None) -> dict[str, str]:
    """The headers that ask for what follows the first `size` bytes of a version of a video."""
    if not size:
        return {}
    headers = {"Range": f"bytes={size}-"}
    if etag is not None and not etag.startswith("W/"):
        headers["If-Range"] = etag
    return headers


@asynccontextmanager
async def transfer(
    transport: Transport, url: str, headers: Mapping[str, str], waits: Waits
) -> AsyncIterator[MediaResponse]:
    """One GET of a video. Long waits for its host are told, not those of who takes the bytes."""
    async with AsyncExitStack() as stack:
        with waits.during("download"):
            response = await stack.enter_async_context(transport.open_media(url, headers))
        pieces = _watched(response.chunks, waits)
        yield attrs.evolve(response, chunks=await stack.enter_async_context(aclosing(pieces)))


async def _watched(chunks: AsyncIterator[bytes], waits: Waits) -> AsyncGenerator[bytes]:
    while True:
        with waits.during("download"):
            piece = await anext(chunks, None)
        if piece is None:
            return
        yield piece


class Attempts:
    """The transfers of one video: at which URL the next one is, and whether there is one.

    A URL that has expired is renewed by a status query; again only if the renewed one has brought
    something. A broken transfer is repeated as often as the policy says.

    Args:
        generation: the succeeded job.
        refresh: makes a status query.
        retry, rng: as in `SeedanceClient`.
        error: makes the `DownloadError` from a message and an HTTP status.
        on_retry: if given, called with how a transfer failed, and the seconds until the next.
    """

    def __init__(
        self,
        generation: Generation,
        refresh: Refresh,
        retry: RetryPolicy,
        rng: random.Random,
        error: Callable[[str, int | None], DownloadError],
        on_retry: OnRetry | None = None,
    ) -> None:
        self._id, self._url = generation.request_id, generation.output_url
        self._refresh, self._retry, self._rng, self._error = refresh, retry, rng, error
        self._on_retry = on_retry
        self._failures = 0
        self._size_at_refresh: int | None = None

    async def url(self, size: int) -> str:
        """Where to fetch what follows the first `size` bytes.

        Raises:
            DownloadError: the server gives no URL, or cannot be asked.
        """
        if self._url is None:
            self._url, self._size_at_refresh = await self._fresh_url(), size
        if self._url is None:
            raise self._error("the server gives no output URL", None)
        return self._url

    async def failed(self, failure: BrokenTransferError | ExpiredURLError, size: int) -> None:
        """Wait until the next attempt.

        Args:
            failure: how the last transfer ended.
            size: bytes that all transfers have brought.

        Raises:
            DownloadError: there is none.
        """
        if isinstance(failure, ExpiredURLError):
            if self._size_at_refresh is not None and size <= self._size_at_refresh:
                message = f"HTTP {failure.status}, and again with a fresh URL"
                raise self._error(message, failure.status) from None
            self._url = None
            return
        self._failures += 1
        if self._failures >= self._retry.attempts or not failure.transient:
            raise self._error(str(failure), failure.status) from failure
        delay = self._retry.backoff.delay(self._failures - 1, self._rng)
        if self._on_retry is not None:
            reason = f"the download of job {self._id} broke off: {failure}"
            self._on_retry(TransportError(reason, delivered="maybe"), delay)
        await asyncio.sleep(delay)

    async def _fresh_url(self) -> str | None:
        try:
            return (await self._refresh(self._id)).output_url
        except SeedanceError as error:
            raise self._error(f"its URL could not be refreshed: {error}", None) from error


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
