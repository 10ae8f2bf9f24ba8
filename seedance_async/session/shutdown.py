"""How a session ends: what it waits for, what it reports of jobs that go on, what it releases.

Nothing paid is lost by leaving: submits in progress may still learn their ids, and every job that
goes on without the session is named in the log.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio

from seedance_async._utils.cancellation import wait_shielded, was_cancelled
from seedance_async._utils.plural import counted
from seedance_async.api.client import SeedanceClient
from seedance_async.api.errors import SeedanceError
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import RUNNING_STATES, JobState
from seedance_async.session.options import SessionOptions

if TYPE_CHECKING:
    from seedance_async.session.journaling import JournalRecorder
    from seedance_async.session.uploads import Uploads
    from seedance_async.session.webhook_callbacks import Callbacks

_log = logging.getLogger(__name__)

#: Seconds that cancelling the remote jobs may take when a session is left by an error.
CANCEL_SECONDS = 10.0

#: Jobs that are named in one line of the log, and released before others have their turn.
_BATCH = 200


class SessionShutdown:
    """The end of one session.

    Args:
        client, registry, poller, options: the session's.
        journal, callbacks, uploads: the session's; None where it has none.
        changed: set whenever something happens that the end may be waiting for.
        cancel: asks the server to cancel a job.

    """

    def __init__(
        self,
        *,
        client: SeedanceClient,
        registry: TaskRegistry,
        poller: Poller,
        journal: JournalRecorder | None,
        callbacks: Callbacks | None,
        uploads: Uploads | None,
        options: SessionOptions,
        changed: asyncio.Event,
        cancel: Callable[[JobRecord], Awaitable[None]],
    ) -> None:
        self._client, self._registry, self._poller = client, registry, poller
        self._journal, self._callbacks, self._uploads = journal, callbacks, uploads
        self._options = options
        self._changed, self._cancel = changed, cancel
        self._left = False

    def hurry(self, seconds: float, *, leave: bool) -> None:
        """Let submits in progress have half of this time for their ids.

        If jobs are waited for as well, or the time has no end, they have no more than usual.
        """
        longest = math.inf if leave and seconds < math.inf else self._client.submit_grace
        self._client.submit_grace = min(longest, seconds / 2)

    async def jobs_ended(self) -> None:
        """Wait until every job is final and no callback is being looked up."""
        callbacks = self._callbacks
        await self._until(
            lambda: not self._registry.live and not (callbacks is not None and callbacks.busy)
        )

    async def close_by(self, deadline: float, *, leave: bool) -> None:
        """As `close`, by a time of the event loop's clock, whatever hangs."""
        closing = asyncio.create_task(self.close(leave=leave), name="seedance-close")
        left = deadline - asyncio.get_running_loop().time()
        cancelled = await wait_shielded(
            closing, grace=None if deadline == math.inf else left, cancel=False
        )
        if not closing.done():
            _log.critical("the session did not end in time; jobs may not be on record")
            closing.cancel()
        else:
            closing.result()
        if cancelled:
            raise asyncio.CancelledError

    async def close(self, *, leave: bool = False) -> None:
        """Submit nothing new, learn the outcome of submits in progress, name what goes on.

        Args:
            leave: leave the jobs running, whatever the options say.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.release)
            stack.push_async_callback(self.leave_running)
            if self._callbacks is not None:
                await self._callbacks.aclose()
            self._client.submit_gate.shut(SeedanceError("the session is closed"), math.inf)
            with anyio.move_on_after(self._client.submit_grace):
                await self._until(lambda: not self._registry.counts[JobState.SUBMITTING])
            if self._options.cancel_on_error and not leave:
                with anyio.move_on_after(CANCEL_SECONDS):
                    await self._cancel_all(await self._running())

    async def release(self) -> None:
        """Release the connections and the journal, in this order, whatever fails meanwhile."""
        async with AsyncExitStack() as stack:
            if self._journal is not None:
                stack.push_async_callback(self._journal.close)
            stack.push_async_callback(self._client.aclose)
            stack.push_async_callback(self._poller.stop)
            if self._uploads is not None:
                stack.push_async_callback(self._uploads.aclose)

    async def _cancel_all(self, records: list[JobRecord]) -> None:
        """Cancel the remote jobs, with as many tasks as there may be calls at once."""
        left = iter(records)

        async def work() -> None:
            for record in left:
                await self._cancel_and_poll(record)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(len(records), self._options.max_connections)):
                tasks.create_task(work(), name="seedance-cancel")

    async def _cancel_and_poll(self, record: JobRecord) -> None:
        try:
            await self._cancel(record)
            await self._poller.poll_once(record)
        except (Exception, asyncio.CancelledError) as error:
            if was_cancelled(error):
                raise
            _log.warning("job %s could not be cancelled: %r", record.request_id, error)

    async def leave_running(self) -> None:
        """Name every job that goes on without this session, and end the waiting for it.

        A batch at a time: there may be very many, and the loop has other work.
        """
        self._left = True
        uncertain = await self._those(lambda record: record.state is JobState.UNCERTAIN)
        for batch in _batches(uncertain):
            _name_uncertain(batch)
            await asyncio.sleep(0)
        for batch in _batches(await self._running()):
            self._leave(batch)
            await asyncio.sleep(0)

    def break_off(self) -> None:
        """Name every job that goes on, where the event loop is left for good in the middle.

        Nothing can be awaited any more. What was to be recorded is in the journal's queue.
        """
        records = list(self._registry)
        for batch in _batches([each for each in records if each.state is JobState.UNCERTAIN]):
            _name_uncertain(batch)
        for batch in _batches([each for each in records if each.state in RUNNING_STATES]):
            _name_running(batch)

    def leave_late(self, record: JobRecord) -> None:
        """Name a job that was accepted or resumed after the others were named."""
        if self._left:
            self._leave([record])

    def _leave(self, records: Sequence[JobRecord]) -> None:
        """As `leave_running`, for those of the given jobs that are still running."""
        running = [record for record in records if record.state in RUNNING_STATES]
        if not running:
            return
        _name_running(running)
        left = SeedanceError("the session was left")
        for record in running:
            self._registry.move(record, JobState.ABANDONED, error=left)

    async def _running(self) -> list[JobRecord]:
        return await self._those(lambda record: record.state in RUNNING_STATES)

    async def _those(self, wanted: Callable[[JobRecord], bool]) -> list[JobRecord]:
        found: list[JobRecord] = []
        for batch in _batches(list(self._registry)):
            found.extend(filter(wanted, batch))
            await asyncio.sleep(0)
        return found

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def _name_uncertain(records: Sequence[JobRecord]) -> None:
    _log.error(
        "the session ends with %s, which may be charged: %s",
        counted(len(records), "uncertain submit"),
        ", ".join(record.key for record in records),
    )


def _name_running(records: Sequence[JobRecord]) -> None:
    _log.warning(
        "the session ends with %s running; attach resumes them: %s",
        counted(len(records), "job"),
        ", ".join(str(record.request_id) for record in records),
    )


def _batches(records: list[JobRecord]) -> Iterator[list[JobRecord]]:
    for start in range(0, len(records), _BATCH):
        yield records[start : start + _BATCH]
