"""The progress of a running job: its state, its age, its expected end, its place in the queue.

It is made to be shown: to a person through server-sent events, in a log, on a dashboard. Nothing
here changes a job or asks the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import attrs

from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.stats import FinishTimes


@attrs.frozen
class JobUpdate:
    """A job at one moment. `attrs.asdict` of it is ready for JSON.

    Attributes:
        state: where the job is in its life.
        seconds: since its acceptance; None before that, and for a job that was accepted in another
            session.
        remaining: seconds until it probably ends, by what the last jobs of the session took; None
            while nothing is known, and once it has taken longer than any of them.
        position: 1 for the next in line, among the jobs of this session that wait for a slot
            (pending) or were accepted and are not being processed yet (queued); None in any other
            state. The server's own queue has other customers, of whom nobody knows.
    """

    state: JobState
    seconds: float | None = None
    remaining: float | None = None
    position: int | None = None


class JobUpdates:
    """Follows jobs of one session.

    Args:
        registry: where they are.
        finish_times: how long the last ones took.
    """

    def __init__(self, registry: TaskRegistry, finish_times: FinishTimes) -> None:
        self._registry, self._finish_times = registry, finish_times

    async def follow(self, record: JobRecord, every: float) -> AsyncGenerator[JobUpdate]:
        """See `Job.updates`."""
        moved = asyncio.Event()
        self._registry.watch_moves(record, moved.set)
        try:
            while True:
                moved.clear()
                update = self._update(record)
                yield update
                if update.state.is_final or not self._is_known(record, update.state):
                    return
                try:
                    async with asyncio.timeout(every):
                        await moved.wait()
                except TimeoutError:
                    pass  # time has passed, which is news as well
        finally:
            self._registry.unwatch_moves(record, moved.set)

    def _is_known(self, record: JobRecord, state: JobState) -> bool:
        """Whether there is still such a job: it is forgotten if its submit was never sent."""
        return record.state is not state or self._registry.find(key=record.key) is record

    def _update(self, record: JobRecord) -> JobUpdate:
        seconds = remaining = position = None
        if record.accepted_at is not None:
            seconds = asyncio.get_running_loop().time() - record.accepted_at
            if record.state.is_running:
                remaining = self._finish_times.remaining(seconds)
        if record.state in (JobState.PENDING, JobState.QUEUED):
            position = self._position(record)
        return JobUpdate(record.state, seconds, remaining, position)

    def _position(self, record: JobRecord) -> int:
        position = 1
        for other in self._registry:
            if other is record:
                break
            position += other.state is record.state
        return position
