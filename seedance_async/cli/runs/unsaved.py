"""The videos of a run that are still to be saved: first those whose URLs expire first.

How long a URL lives is not documented. Where it is signed, it says so itself; of the others, the
one that was given first is taken to expire first, and all of them after those that say when.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from seedance_async import Job
from seedance_async.cli.inputs import Line

#: Parameters of a signed URL: when it was signed, and for how many seconds. S3 and Google.
_SIGNED = (("x-amz-date", "x-amz-expires"), ("x-goog-date", "x-goog-expires"))


class UnsavedVideos:
    """Finished jobs with their lines; each is handed out once, until `close` and all are."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, float, int, Line, Job]] = []
        self._count = itertools.count()
        self._wakeup: set[asyncio.Future[None]] = set()
        self._closed = False

    def add(self, line: Line, job: Job, ended_at: float | None = None) -> None:
        """Add a job that has succeeded.

        Args:
            line: its line.
            job: the job.
            ended_at: when it ended, in seconds since the epoch; by default now.
        """
        url = job.generation.output_url if job.generation is not None else None
        expires_at = expiry(url) if url else None
        urgency = float("inf") if expires_at is None else expires_at
        since = time.time() if ended_at is None else ended_at
        heapq.heappush(self._heap, (urgency, since, next(self._count), line, job))
        self._wake()

    def close(self) -> None:
        """No more will be added."""
        self._closed = True
        self._wake()

    def __aiter__(self) -> AsyncIterator[tuple[Line, Job]]:
        return self._handed_out()

    async def _handed_out(self) -> AsyncIterator[tuple[Line, Job]]:
        while self._heap or not self._closed:
            if not self._heap:
                await self._added()
                continue
            *_, line, job = heapq.heappop(self._heap)
            yield line, job

    async def _added(self) -> None:
        waiting = asyncio.get_running_loop().create_future()
        self._wakeup.add(waiting)
        try:
            await waiting
        finally:
            self._wakeup.discard(waiting)

    def _wake(self) -> None:
        for waiting in self._wakeup:
            if not waiting.done():
                waiting.set_result(None)


def expiry(url: str) -> float | None:
    """When a signed URL expires, in seconds since the epoch; None if it does not say."""
    try:
        named = {name.lower(): value for name, value in parse_qsl(urlsplit(url).query)}
        for date, seconds in _SIGNED:
            if date in named and seconds in named:
                signed = datetime.strptime(named[date], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                return signed.timestamp() + int(named[seconds])
        if "expires" in named:  # S3 and Google before version 4, CloudFront
            return float(int(named["expires"]))
        if "se" in named:  # Azure
            return datetime.fromisoformat(named["se"]).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return None
