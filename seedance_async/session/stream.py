"""One stream: pull requests as slots come free, and yield the jobs as they end.

The number of tasks depends on the connections, not on the jobs. Nothing here knows how a job is
submitted; it is given callables.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any

from seedance_async._utils.cancellation import shielded
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord

#: One job of a stream: its request, or a key of the caller's own with it.
Item = GenerationRequest | tuple[str, GenerationRequest]
Requests = Iterable[Item] | AsyncIterable[Item]


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


Submit = Callable[[Any, Exception | None, Callable[[JobRecord], None]], Awaitable[JobRecord]]


class Stream:
    """Jobs in the order in which they end; see `SeedanceSession.as_completed`.

    Args:
        source: the requests.
        slots: the session's semaphore. A request is pulled only when a slot is free, and no slot
            is held while the source is waited for, so that one stream can feed another.
        submit: submits a request in a slot that is taken already, and returns the job with its
            outcome; what is wrong with one job is in the job, not raised. It is given the refusal
            that concerns every submit, if there was one, and what to call with the job at once.
        feeders: submits in progress at once.
        window: jobs that may be running or waiting for the consumer.
        may_resume: whether more is pulled although submits are refused for this reason.
        stop_reason: why, after this job's submit, no more is pulled; None if it is.
    """

    def __init__(
        self,
        source: Source,
        *,
        slots: asyncio.Semaphore,
        submit: Submit,
        feeders: int,
        window: int,
        may_resume: Callable[[Exception], bool],
        stop_reason: Callable[[JobRecord], Exception | None],
    ) -> None:
        self._source, self._slots, self._submit = source, slots, submit
        self._may_resume, self._stop_reason = may_resume, stop_reason
        self._window = asyncio.Semaphore(window)
        self._turn = asyncio.Lock()
        self._ended: asyncio.Queue[tuple[int, JobRecord] | None] = asyncio.Queue()
        self._feeder_count = feeders
        self._feeders: list[asyncio.Task[None]] = []
        self._numbers = itertools.count()
        self._open = 0
        self._unseen: dict[JobRecord, None] = {}  # in the order of their submits
        self._exhausted = False
        self.stopped_by: Exception | None = None

    async def jobs(self) -> AsyncGenerator[tuple[int, JobRecord]]:
        """The jobs with the numbers of their requests in the input, as they end."""
        self._feeders = [
            asyncio.create_task(self._feed(), name=f"seedance-feed-{number}")
            for number in range(self._feeder_count)
        ]
        feeding = len(self._feeders)
        for feeder in self._feeders:
            feeder.add_done_callback(self._feeder_ended)
        try:
            while feeding or self._open:
                ended = await self._ended.get()
                if ended is None:
                    feeding -= 1
                    continue
                self._open -= 1
                self._unseen.pop(ended[1], None)
                yield ended
                self._window.release()
        finally:
            await self.stop()

    def _note_started(self, record: JobRecord) -> None:
        self._unseen[record] = None

    @property
    def unseen(self) -> list[JobRecord]:
        """The jobs that were submitted and that the consumer has not been given."""
        return list(self._unseen)

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
        while True:
            async with self._turn:
                pulled = await self._pull()
            if pulled is None:
                return
            await self._submit_one(*pulled)

    def _feeder_ended(self, _: asyncio.Task[None]) -> None:
        """One feeder less; also one that was cancelled before it began."""
        self._ended.put_nowait(None)

    async def _submit_one(self, number: int, request: Any) -> None:
        try:
            record = await self._submit(request, self.stopped_by, self._note_started)
        except BaseException as error:  # the consumer must not wait for this one
            self._open -= 1
            if not isinstance(error, Exception):
                raise
            self._stop_pulling(error)
            return
        self.stopped_by = self.stopped_by or self._stop_reason(record)
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
