"""How a session ends: what it waits for, what it tells of jobs that go on, and what it lets go of.

Nothing paid is lost by leaving: submits that are out may still learn their ids, and every job that
goes on without the session is named in the log.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import anyio

from seedance_async._utils.cancellation import was_cancelled
from seedance_async.api.client import SeedanceClient
from seedance_async.api.errors import SeedanceError
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.session.callbacks import Hints
from seedance_async.session.journaling import Books
from seedance_async.session.options import SessionOptions

_log = logging.getLogger(__name__)

#: Seconds that cancelling the remote jobs may take when a session is left by an error.
CANCEL_SECONDS = 10.0

#: Jobs that are told of in one line of the log, and let go of before others have their turn.
_AT_ONCE = 200


class Leaving:
    """The end of one session.

    Args:
        client, registry, poller, books, hints, options: the session's.
        changed: set whenever something happens that the end may be waiting for.
        cancel: asks the server to cancel a job.
    """

    def __init__(
        self,
        *,
        client: SeedanceClient,
        registry: TaskRegistry,
        poller: Poller,
        books: Books,
        hints: Hints,
        options: SessionOptions,
        changed: asyncio.Event,
        cancel: Callable[[JobRecord], Awaitable[None]],
    ) -> None:
        self._client, self._registry, self._poller = client, registry, poller
        self._books, self._hints, self._options = books, hints, options
        self._changed, self._cancel = changed, cancel
        self.left = False

    async def jobs_ended(self) -> None:
        """Wait until no job is live, and no callback is being looked into."""
        await self._until(lambda: not self._registry.live and not self._hints.busy)

    async def close(self) -> None:
        """Send nothing new, learn what becomes of what is out, tell of what goes on, let go."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.release)
            stack.push_async_callback(self.leave_running)
            await self._hints.aclose()
            self._client.submit_gate.shut(SeedanceError("the session is closed"), math.inf)
            with anyio.move_on_after(self._options.timeouts.submit_grace):
                await self._until(lambda: not self._registry.counts[JobState.SUBMITTING])
            if self._options.cancel_on_error:
                with anyio.move_on_after(CANCEL_SECONDS):
                    await self._cancel_all(await self._running())

    async def release(self) -> None:
        """Let go of the connections and the journal, in this order and whatever of it fails."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._books.close)
            stack.push_async_callback(self._client.aclose)
            stack.push_async_callback(self._poller.stop)

    async def _cancel_all(self, records: list[JobRecord]) -> None:
        """Cancel the remote jobs, with as many tasks as calls may be out at once."""
        left = iter(records)

        async def work() -> None:
            for record in left:
                await self._cancel_for_good(record)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(len(records), self._options.max_connections)):
                tasks.create_task(work(), name="seedance-cancel")

    async def _cancel_for_good(self, record: JobRecord) -> None:
        try:
            await self._cancel(record)
            await self._poller.poll_once(record)
        except (Exception, asyncio.CancelledError) as error:
            if was_cancelled(error):
                raise
            _log.warning("job %s could not be cancelled: %r", record.request_id, error)

    async def leave_running(self) -> None:
        """Tell of every job that goes on without this session, and end the waiting for it.

        Some at a time: there may be very many, and the loop has others to serve.
        """
        self.left = True
        uncertain = await self._those(lambda record: record.state is JobState.UNCERTAIN)
        for some in _pieces(uncertain):
            _log.error(
                "the session ends with %d uncertain submits, which may be charged: %s",
                len(some),
                ", ".join(record.key for record in some),
            )
            await asyncio.sleep(0)
        for some in _pieces(await self._running()):
            self.leave(some)
            await asyncio.sleep(0)

    def leave(self, records: Sequence[JobRecord]) -> None:
        """As `leave_running`, of those of the given jobs that have not ended meanwhile."""
        running = [record for record in records if record.state.is_running]
        if not running:
            return
        _log.warning(
            "the session ends with %d jobs running; attach takes them up again: %s",
            len(running),
            ", ".join(str(record.request_id) for record in running),
        )
        left = SeedanceError("the session was left")
        for record in running:
            self._registry.move(record, JobState.ABANDONED, error=left)

    async def _running(self) -> list[JobRecord]:
        return await self._those(lambda record: record.state.is_running)

    async def _those(self, wanted: Callable[[JobRecord], bool]) -> list[JobRecord]:
        found: list[JobRecord] = []
        for some in _pieces(list(self._registry)):
            found.extend(filter(wanted, some))
            await asyncio.sleep(0)
        return found

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def _pieces(records: list[JobRecord]) -> Iterator[list[JobRecord]]:
    for start in range(0, len(records), _AT_ONCE):
        yield records[start : start + _AT_ONCE]
