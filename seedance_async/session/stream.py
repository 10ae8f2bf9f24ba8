"""One stream: pull requests as slots come free, and hand out the jobs as they end.

One task pulls; the number of all tasks depends on the connections, not on the jobs. Nothing here
knows how a job is submitted; it is given callables.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import attrs

from seedance_async._utils.cancellation import shielded
from seedance_async.api.errors import SeedanceError
from seedance_async.jobs.registry import JobRecord
from seedance_async.session.source import END, Source


class _Enqueue:
    """Puts an ended job into a queue with its number. Each waiting job has one: no closure."""

    __slots__ = ("_number", "_queue")

    def __init__(self, number: int, queue: asyncio.Queue[tuple[int, JobRecord] | None]) -> None:
        self._number, self._queue = number, queue

    def __call__(self, ended: JobRecord) -> None:
        self._queue.put_nowait((self._number, ended))


@attrs.define(eq=False)
class _Pulled:
    """A request on its way to its submit, and the job that it has become."""

    number: int
    request: Any
    has_slot: bool
    record: JobRecord | None = None


Submit = Callable[[Any, Exception | None, Callable[[JobRecord], None]], Awaitable[JobRecord]]


class Stream:
    """Jobs in the order in which they end; see `SeedanceSession.as_completed`.

    Args:
        source: the requests. An async generator is closed at the end.
        take_slot: waits for one of the session's slots. A request is pulled only when one is free,
            and none is held while an async source is waited for, so that one stream can feed
            another.
        give_back_slot: gives one back that no job was submitted in.
        submit: submits a request in a slot that is taken already, and returns the job with its
            outcome; what is wrong with one job is in the job, not raised. It is given the refusal
            that concerns every submit, if there was one, and what to call with the job at once.
        goes_on: whether a job was accepted, or may be.
        feeders: submits in progress at once.
        window: jobs that may be running or waiting for the consumer.
        may_resume: whether more is pulled although submits are refused for this reason.
        stop_reason: why, after this job's submit, no more is pulled; None if it is.

    Attributes:
        stopped_by: why requests were left behind, if they were.
        pulled: how many requests were pulled, and so the number of the next one.
        dropped: requests that were pulled and became no job, by number.
    """

    def __init__(
        self,
        source: Source,
        *,
        take_slot: Callable[[], Awaitable[None]],
        give_back_slot: Callable[[], None],
        submit: Submit,
        goes_on: Callable[[JobRecord], bool],
        feeders: int,
        window: int,
        may_resume: Callable[[Exception], bool],
        stop_reason: Callable[[JobRecord], Exception | None],
    ) -> None:
        self._source, self._submit, self._goes_on = source, submit, goes_on
        self._take_slot, self._give_back_slot = take_slot, give_back_slot
        self._may_resume, self._stop_reason = may_resume, stop_reason
        self._window, self._feeders = window, feeders
        self._has_room = asyncio.Event()
        self._ended: asyncio.Queue[tuple[int, JobRecord] | None] = asyncio.Queue()
        self.pulled = 0
        self.dropped: dict[int, Any] = {}
        self._feeding = 0  # submits in progress
        self._open = 0  # requests pulled whose jobs the consumer has not been given
        self._ahead: deque[Any] = deque()  # what interrupted sources yielded
        self._unseen: dict[JobRecord, None] = {}  # in the order of their submits
        self._consuming = self._exhausted = False
        self._pulling = True
        self._refusal: Exception | None = None  # the one that concerns every submit
        self.stopped_by: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of their starts
        self._puller = self._start(self._pull_all(), "seedance-pull", self._pulled_all)

    async def next_ended(self) -> tuple[int, JobRecord] | None:
        """The next job that has ended, with the number of its request in the input.

        None after the last one. The call says that the consumer is done with the one before.
        """
        self._consuming = False
        self._has_room.set()
        while self._pulling or self._open:
            ended = await self._ended.get()
            if ended is not None:
                self._open -= 1
                self._unseen.pop(ended[1], None)
                self._consuming = True
                return ended
        return None

    @property
    def unseen(self) -> list[JobRecord]:
        """The jobs that go on, or may, and that the consumer has not been given."""
        return [record for record in self._unseen if self._goes_on(record)]

    def is_here(self) -> bool:
        """Whether the caller runs on the stream's event loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    async def stop(self, reason: Exception | None = None) -> None:
        """Pull no more; running jobs go on, and submits in progress are completed.

        Args:
            reason: what the consumer is given if requests are left behind.
        """
        self.cancel(reason)
        current = asyncio.current_task()  # a source may be what leaves the session
        others = [task for task in self._tasks if task is not current]
        await shielded(asyncio.gather(*others, return_exceptions=True))

    def cancel(self, reason: Exception | None = None) -> None:
        """As `stop`, without waiting for the submits in progress."""
        self._stop_pulling(reason if self._tasks else None)
        for task in self._tasks:
            if task is not self._puller:
                task.cancel()

    # --- pulling ----------------------------------------------------------------------------

    async def _pull_all(self) -> None:
        try:
            while not self._has_ended:
                await self._pull_one()
        except asyncio.CancelledError:
            if not self._exhausted:
                message = "the input was cut short: something that it waited for was cancelled"
                self._stop_pulling(SeedanceError(message))
        except Exception as error:
            self._stop_pulling(error)
        finally:
            await self._close_source()

    def _pulled_all(self, puller: asyncio.Task[None]) -> None:
        """No more comes from the source; perhaps the pulling was cancelled before it began."""
        self._tasks.pop(puller, None)
        self._pulling = False
        self._ended.put_nowait(None)

    async def _pull_one(self) -> None:
        """Pull a request once there is room for it, and have it submitted."""
        try:
            await self._wait_for_room()
        except asyncio.CancelledError as cancellation:
            if self._exhausted:
                raise
            self._ahead.append(await self._source.interrupt(cancellation))
            return
        request, keeps_slot = END, not self._source.is_async
        if not keeps_slot:
            self._give_back_slot()
        try:
            request = await self._next_request()
        finally:
            if request is END and keeps_slot:
                self._give_back_slot()
        if request is END or self._exhausted:  # the stream may have been stopped meanwhile
            self._exhausted = True
            return
        self._open += 1
        self._feeding += 1
        pulled = _Pulled(self.pulled, request, keeps_slot)
        self.pulled += 1
        self._start(self._feed(pulled), "seedance-feed", partial(self._fed, pulled))

    async def _next_request(self) -> Any:
        if self._has_ended:
            return END
        return self._ahead.popleft() if self._ahead else await self._source.pull()

    async def _wait_for_room(self) -> None:
        """Wait until the window and the feeders have room, and take a slot."""
        while self._open + self._consuming >= self._window or self._feeding >= self._feeders:
            self._has_room.clear()
            await self._has_room.wait()
        await self._take_slot()

    async def _close_source(self) -> None:
        try:
            await self._source.aclose()
        except Exception as error:
            self._stop_pulling(error)

    @property
    def _has_ended(self) -> bool:
        stopped = self.stopped_by is not None and not self._may_resume(self.stopped_by)
        return self._exhausted or stopped

    def _stop_pulling(self, reason: Exception | None) -> None:
        self.stopped_by = self.stopped_by or reason
        if not self._exhausted:  # else the source is being closed, which is not cut short
            self._exhausted = True
            if self._puller is not asyncio.current_task():
                self._puller.cancel()

    # --- submitting -------------------------------------------------------------------------

    async def _feed(self, pulled: _Pulled) -> None:
        if not pulled.has_slot:
            await self._take_slot()
        pulled.has_slot = False  # it is the submit's now
        note = partial(self._note_started, pulled)
        record = await self._submit(pulled.request, self._refusal, note)
        self._refusal = self._refusal or self._stop_reason(record)
        self.stopped_by = self.stopped_by or self._refusal
        if self._has_ended:
            self._stop_pulling(None)
        record.on_final(_Enqueue(pulled.number, self._ended))

    def _note_started(self, pulled: _Pulled, record: JobRecord) -> None:
        pulled.record = record
        self._unseen[record] = None

    def _fed(self, pulled: _Pulled, task: asyncio.Task[None]) -> None:
        """A submit is over, perhaps before it began."""
        self._tasks.pop(task, None)
        self._feeding -= 1
        self._has_room.set()
        if pulled.has_slot:
            self._give_back_slot()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return
        if isinstance(error, Exception):
            self._stop_pulling(error)
        record = pulled.record
        if record is not None and (record.state.is_final or self._goes_on(record)):
            record.on_final(_Enqueue(pulled.number, self._ended))
        else:
            self.dropped[pulled.number] = pulled.request
            self._open -= 1
            self._ended.put_nowait(None)  # the consumer must not wait for this one

    def _start(
        self,
        work: Coroutine[Any, Any, None],
        name: str,
        done: Callable[[asyncio.Task[None]], object],
    ) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(done)
        return task
