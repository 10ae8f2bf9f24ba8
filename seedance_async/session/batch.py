"""Many requests: pull them as slots come free, and yield the jobs as they end.

The number of tasks depends on the connections, not on the jobs. How one job is submitted is the
business of `submitter`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import attrs

from seedance_async._utils.cancellation import shielded
from seedance_async._utils.plural import counted
from seedance_async.api.errors import (
    BudgetExceededError,
    InsufficientCreditsError,
    InvalidRequestError,
    SeedanceError,
)
from seedance_async.api.prepared_request import prepare
from seedance_async.api.request import GenerationRequest
from seedance_async.api.retry import stops_submits
from seedance_async.jobs.job import Job, JobActions
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.session.submitter import Submitter

if TYPE_CHECKING:
    from seedance_async.session.journaling import JournalRecorder

_log = logging.getLogger(__name__)

Requests = Iterable[GenerationRequest] | AsyncIterable[GenerationRequest]


@attrs.frozen
class BatchResult:
    """The outcome of a batch: one ended `Job` per request, in the order of the input.

    Attributes:
        outcomes: the jobs. `job.state` is the final state of each, `job.error` what went wrong.
        stopped_by: the exception that the input itself raised, else None.
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
        """The jobs that may have been charged although no id came back."""
        return self._in(JobState.UNCERTAIN)

    @property
    def failures(self) -> tuple[Job, ...]:
        """The jobs that did not succeed, for any reason."""
        return tuple(job for job in self.outcomes if job.state is not JobState.SUCCEEDED)

    @property
    def counts(self) -> Counter[JobState]:
        """How many jobs ended in each state."""
        return Counter(job.state for job in self.outcomes)

    @property
    def credits_charged(self) -> int:
        """The sum of the charges that the server reported."""
        return sum(job.credits_charged or 0 for job in self.outcomes)

    def raise_for_failures(self) -> None:
        """Raise an ExceptionGroup of what went wrong, if anything did."""
        errors: list[Exception] = [job.error for job in self.outcomes if job.error is not None]
        if self.stopped_by is not None:
            errors.append(self.stopped_by)
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {counted(len(self), 'job')} failed", errors)

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


class _Enqueue:
    """Puts an ended job into a queue with its number. Each waiting job has one: no closure."""

    __slots__ = ("_number", "_queue")

    def __init__(self, number: int, queue: asyncio.Queue[tuple[int, JobRecord] | None]) -> None:
        self._number, self._queue = number, queue

    def __call__(self, ended: JobRecord) -> None:
        self._queue.put_nowait((self._number, ended))


class BatchRunner:
    """Runs the batches and streams of one session.

    Args:
        submitter, registry: the session's.
        journal: the session's; None where it has none.
        actions: what the handles of the jobs can do.
        check_open: raises if the session is not open.
        allow_local: see `GenerationRequest.violations`.
        feeders: submits in progress at once per stream.
        window: jobs of a stream that may be running or waiting for the consumer.
    """

    def __init__(
        self,
        *,
        submitter: Submitter,
        registry: TaskRegistry,
        journal: JournalRecorder | None,
        actions: JobActions,
        check_open: Callable[[], None],
        allow_local: bool,
        feeders: int,
        window: int,
    ) -> None:
        self._submitter, self._registry, self._journal = submitter, registry, journal
        self._actions, self._check_open = actions, check_open
        self._allow_local, self._feeders, self._window = allow_local, feeders, window
        self._streams: set[Stream] = set()

    async def as_completed(self, requests: Requests) -> AsyncGenerator[Job]:
        """See `SeedanceSession.as_completed`."""
        async with aclosing(self._ended(Source(requests))) as ended:
            async for _, job in ended:
                yield job

    async def run(self, requests: Requests) -> BatchResult:
        """See `SeedanceSession.run`."""
        self._check_open()
        source = Source(requests)
        outcomes: dict[int, Job] = {}
        stopped_by: Exception | None = None
        try:
            async with aclosing(self._ended(source)) as ended:
                async for number, job in ended:
                    outcomes[number] = job
        except Exception as error:
            stopped_by = error
        if isinstance(stopped_by, SeedanceError) and stops_submits(stopped_by):
            stopped_by = await self._reject_rest(source, outcomes, stopped_by)
        ordered = (outcomes[number] for number in sorted(outcomes))
        return BatchResult(tuple(ordered), stopped_by)

    async def stop(self, reason: Exception) -> None:
        """End all streams; see `Stream.stop`."""
        for stream in list(self._streams):
            await stream.stop(reason)

    async def _reject_rest(
        self, source: Source, outcomes: dict[int, Job], reason: SeedanceError
    ) -> Exception | None:
        """Give the requests that are left an outcome; what the source raised meanwhile."""
        number = max(outcomes, default=-1)
        try:
            async for request in source:
                number += 1
                outcomes[number] = Job(self._submitter.reject(request, reason), self._actions)
        except Exception as error:
            return error
        return None

    async def _ended(self, source: Source) -> AsyncGenerator[tuple[int, Job]]:
        """The jobs with the numbers of their requests in the input, as they end."""
        self._check_open()
        stream = Stream(
            source,
            slots=self._submitter.slots,
            submit=self._submit,
            feeders=self._feeders,
            window=self._window,
            may_resume=self._may_resume,
        )
        self._streams.add(stream)
        try:
            async with aclosing(stream.jobs()) as ended:
                async for number, record in ended:
                    yield number, Job(record, self._actions)
        finally:
            self._streams.discard(stream)
        if stream.stopped_by is not None:
            raise stream.stopped_by

    def _may_resume(self, reason: Exception) -> bool:
        """Whether a stream that may submit no more goes on, to find what was paid for earlier.

        Not if the key is refused: nothing could be learned about those jobs either.
        """
        no_credits = isinstance(reason, (InsufficientCreditsError, BudgetExceededError))
        return no_credits and self._journal is not None and self._journal.awaits_more

    async def _submit(self, request: Any, refusal: Exception | None) -> JobRecord:
        """Submit one request of a stream; its slot is taken. The record has the outcome.

        After a refusal that concerns every submit, only what was submitted earlier is resumed.
        """
        submitter = self._submitter
        try:
            prepared = prepare(request, allow_local=self._allow_local)
        except InvalidRequestError as error:
            submitter.slots.release()
            return submitter.reject(request, error)
        key = submitter.new_key(prepared)
        journal = self._journal
        awaited = journal is not None and journal.awaits(key, searching=refusal is not None)
        attached = self._registry.find(key=key)
        if attached is not None:  # the same job, attached by its token before
            submitter.slots.release()
            return attached
        if not awaited and isinstance(refusal, SeedanceError):
            submitter.slots.release()
            submitter.release_key(key)
            return submitter.reject(request, refusal)
        record = self._registry.add(key, request)
        try:
            await submitter.submit_in_slot(record, prepared)
        except SeedanceError as error:
            _log.info("job %s: %s", record.key, error)
        return record


class Stream:
    """Jobs in the order in which they end; see `SeedanceSession.as_completed`.

    Args:
        source: the requests.
        slots: the session's semaphore. A request is pulled only when a slot is free, and no slot
            is held while the source is waited for, so that one stream can feed another.
        submit: submits a request in a slot that is taken already, and returns the job with its
            outcome; what is wrong with one job is in the job, not raised. After a refusal that
            concerns every submit, it is given that.
        feeders: submits in progress at once.
        window: jobs that may be running or waiting for the consumer.
        may_resume: whether more is pulled although submits are refused for this reason.
    """

    def __init__(
        self,
        source: Source,
        *,
        slots: asyncio.Semaphore,
        submit: Callable[[Any, Exception | None], Awaitable[JobRecord]],
        feeders: int,
        window: int,
        may_resume: Callable[[Exception], bool] = lambda error: False,
    ) -> None:
        self._source, self._slots, self._submit = source, slots, submit
        self._may_resume = may_resume
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
        """Pull no more; running jobs go on, and submits in progress are completed.

        Args:
            reason: what the consumer is given if requests are left behind.
        """
        if reason is not None and not all(feeder.done() for feeder in self._feeders):
            self._stop_pulling(reason)
        self._exhausted = True
        for feeder in self._feeders:
            feeder.cancel()
        await shielded(asyncio.gather(*self._feeders, return_exceptions=True))

    async def _feed(self) -> None:
        try:
            while True:
                async with self._turn:
                    pulled = await self._pull()
                if pulled is None:
                    return
                await self._submit_one(*pulled)
        finally:
            self._ended.put_nowait(None)

    async def _submit_one(self, number: int, request: Any) -> None:
        try:
            record = await self._submit(request, self.stopped_by)
        except BaseException as error:  # the consumer must not wait for this one
            self._open -= 1
            if not isinstance(error, Exception):
                raise
            self._stop_pulling(error)
            return
        if record.error is not None and stops_submits(record.error):
            self.stopped_by = self.stopped_by or record.error
        record.on_final(_Enqueue(number, self._ended))

    async def _pull(self) -> tuple[int, Any] | None:
        """The next request, with a slot taken for it; None when there are no more."""
        if self._has_ended:
            return None
        await self._window.acquire()
        async with self._slots:
            pass  # a slot is free; it is not held while the source is waited for
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
        stopped = self.stopped_by is not None and not self._may_resume(self.stopped_by)
        return self._exhausted or stopped

    def _stop_pulling(self, error: Exception) -> None:
        self._exhausted = True
        if self.stopped_by is None:
            self.stopped_by = error
