"""Many requests: pull them as slots come free, hand the jobs on as they end.

The number of tasks depends on the connections, not on the jobs. Nothing here knows how a job is
submitted or polled; it is given callables.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from typing import Any

import attrs

from seedance_async._utils.cancellation import surely
from seedance_async.api.request import GenerationRequest
from seedance_async.api.retry import stops_submits
from seedance_async.jobs.job import Job
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import JobState

Requests = Iterable[GenerationRequest] | AsyncIterable[GenerationRequest]


@attrs.frozen
class BatchResult:
    """The outcome of a batch: one ended `Job` for each request, in the order of the input.

    Attributes:
        outcomes: the jobs. `job.state` tells how each ended, `job.error` what went wrong.
        stopped_by: the exception of the input itself, where it ended before its end; else None.
    """

    outcomes: tuple[Job, ...]
    stopped_by: Exception | None = None

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.outcomes)

    def __getitem__(self, index: int) -> Job:
        return self.outcomes[index]

    @property
    def succeeded(self) -> tuple[Job, ...]:
        """The jobs whose video is made."""
        return self._in(JobState.SUCCEEDED)

    @property
    def uncertain(self) -> tuple[Job, ...]:
        """The jobs that may have been charged though no id came back."""
        return self._in(JobState.UNCERTAIN)

    @property
    def failures(self) -> tuple[Job, ...]:
        """The jobs that did not succeed, for whatever reason."""
        return tuple(job for job in self.outcomes if job.state is not JobState.SUCCEEDED)

    @property
    def counts(self) -> Counter[JobState]:
        """How many jobs ended in each state."""
        return Counter(job.state for job in self.outcomes)

    @property
    def credits_charged(self) -> int:
        """The sum of the charges that the server told."""
        return sum(job.credits_charged or 0 for job in self.outcomes)

    def raise_for_failures(self) -> None:
        """Raise an ExceptionGroup of what went wrong, if anything did."""
        errors: list[Exception] = [job.error for job in self.outcomes if job.error is not None]
        if self.stopped_by is not None:
            errors.append(self.stopped_by)
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {len(self.outcomes)} jobs failed", errors)

    def _in(self, state: JobState) -> tuple[Job, ...]:
        return tuple(job for job in self.outcomes if job.state is state)


class Source:
    """The requests of a batch, sync or async, one at a time."""

    def __init__(self, requests: Requests) -> None:
        self._next: Callable[[], Awaitable[Any]]
        if isinstance(requests, AsyncIterable):
            self._next = aiter(requests).__anext__
        elif isinstance(requests, Iterable) and not isinstance(requests, (str, bytes, dict)):
            iterator = iter(requests)

            async def pull() -> Any:
                try:
                    return next(iterator)
                except StopIteration:
                    raise StopAsyncIteration from None

            self._next = pull
        else:
            raise TypeError(f"an iterable of GenerationRequest is needed, not {requests!r}")

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Any:
        return await self._next()


class _HandOn:
    """Hands an ended job on with its number. Every waiting job has one, so it is no closure."""

    __slots__ = ("_number", "_to")

    def __init__(self, number: int, to: asyncio.Queue[tuple[int, JobRecord] | None]) -> None:
        self._number, self._to = number, to

    def __call__(self, ended: JobRecord) -> None:
        self._to.put_nowait((self._number, ended))


class Stream:
    """Jobs in the order in which they end; see `SeedanceSession.as_completed`.

    Args:
        source: the requests.
        slots: the session's semaphore. A request is pulled only when a slot is free, and no slot
            is held while the source is waited for, so that one stream can feed another.
        launch: submit a request in a slot that is already taken; the job as it came out. What is
            wrong with one job is told by the job, not raised.
        feeders: how many submits may be out at once.
        window: how many jobs may be running or waiting to be taken by the consumer.
        goes_on: whether, although submits are refused from now on for this reason, more is pulled.
    """

    def __init__(
        self,
        source: Source,
        *,
        slots: asyncio.Semaphore,
        launch: Callable[[Any], Awaitable[JobRecord]],
        feeders: int,
        window: int,
        goes_on: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self._source, self._slots, self._launch = source, slots, launch
        self._goes_on = goes_on
        self._window = asyncio.Semaphore(window)
        self._turn = asyncio.Lock()
        self._ended: asyncio.Queue[tuple[int, JobRecord] | None] = asyncio.Queue()
        self._feeder_count = feeders
        self._feeders: list[asyncio.Task[None]] = []
        self._numbers = itertools.count()
        self._open = 0
        self._exhausted = False
        self.stopped_by: Exception | None = None

    async def jobs(self) -> AsyncGenerator[tuple[int, JobRecord]]:
        """The jobs with the numbers of their requests in the input, as they end."""
        self._feeders = [
            asyncio.create_task(self._feed(), name=f"seedance-feed-{number}")
            for number in range(self._feeder_count)
        ]
        feeding = len(self._feeders)
        try:
            while feeding or self._open:
                ended = await self._ended.get()
                if ended is None:
                    feeding -= 1
                    continue
                self._open -= 1
                yield ended
                self._window.release()
        finally:
            await self.stop()

    async def stop(self, reason: Exception | None = None) -> None:
        """Pull no more; the jobs that are running go on. Submits that are out are seen through.

        Args:
            reason: what the consumer is told if that leaves requests behind.
        """
        if reason is not None and not all(feeder.done() for feeder in self._feeders):
            self._stop_pulling(reason)
        self._exhausted = True
        for feeder in self._feeders:
            feeder.cancel()
        await surely(asyncio.gather(*self._feeders, return_exceptions=True))

    async def _feed(self) -> None:
        try:
            while True:
                async with self._turn:
                    pulled = await self._pull()
                if pulled is None:
                    return
                await self._launch_one(*pulled)
        finally:
            self._ended.put_nowait(None)

    async def _launch_one(self, number: int, request: Any) -> None:
        try:
            record = await self._launch(request)
        except BaseException as error:  # the consumer must not wait for this one
            self._open -= 1
            if not isinstance(error, Exception):
                raise
            self._stop_pulling(error)
            return
        if record.error is not None and stops_submits(record.error):
            self.stopped_by = self.stopped_by or record.error
        record.on_final(_HandOn(number, self._ended))

    async def _pull(self) -> tuple[int, Any] | None:
        """The next request, with a slot taken for it; None when there is no more."""
        if self._has_ended:
            return None
        await self._window.acquire()
        async with self._slots:
            pass  # a slot is free; it is not held while the source makes up its mind
        if self._has_ended:
            return None
        try:
            request = await anext(self._source)
        except StopAsyncIteration:
            self._exhausted = True
            return None
        except Exception as error:
            self._stop_pulling(error)
            return None
        number = next(self._numbers)
        self._open += 1
        try:
            await self._slots.acquire()
        except asyncio.CancelledError:
            self._open -= 1
            raise
        return number, request

    @property
    def _has_ended(self) -> bool:
        stopped = self.stopped_by is not None and not self._goes_on(self.stopped_by)
        return self._exhausted or stopped

    def _stop_pulling(self, error: Exception) -> None:
        self._exhausted = True
        if self.stopped_by is None:
            self.stopped_by = error
