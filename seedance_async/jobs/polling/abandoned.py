"""Jobs that were given up and may still run: polled slowly until each is known to have ended.

The server may still be working on such a job, so it counts against `max_in_flight`. What becomes of
it changes nothing in the registry, where it has ended; the log tells it.
"""

from __future__ import annotations

import logging
import random
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable

import attrs

from seedance_async._utils.deadlines import Deadlines
from seedance_async.api.backoff import Backoff
from seedance_async.api.errors import NotFoundError, SeedanceError, TooManyAbandonedError
from seedance_async.api.models import Generation
from seedance_async.jobs.polling.scheduler import Item, Scheduler
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import ENDED_STATES, STATE_OF

_log = logging.getLogger(__name__)

#: Seconds after which a job counts as ended whatever is known of it; `job_timeout` if that is more.
LEAST_SECONDS = 3600.0

#: When such a job is polled.
SLOWLY = Backoff(initial=15.0, multiplier=2.0, maximum=60.0)

#: Workers for these polls.
_WORKERS = 2


@attrs.define(eq=False, repr=False, weakref_slot=False)
class AbandonedJob(Item):
    """One job that was given up; it counts as running until `deadline` at the latest."""

    record: JobRecord
    deadline: float
    polls: int = 0
    has_place: bool = False

    def __lt__(self, other: AbandonedJob) -> bool:
        return self.deadline < other.deadline

    def __repr__(self) -> str:
        return f"<AbandonedJob {self.record.request_id}>"


class AbandonedJobs:
    """The jobs of one session that were given up and may still run.

    Args:
        get: sends one status query, once.
        rate: polls a second over all of them.
        job_timeout: the session's.
        most_in_a_row: that many jobs given up, one after the other, are too many.
        ended: called for each that has ended, or counts as ended.
        rng: the source of jitter.

    Attributes:
        jobs: those that may still run.
        places: how many of them count as in flight.
        in_a_row: jobs given up since the last one that was seen to end.
    """

    def __init__(
        self,
        get: Callable[[str], Awaitable[Generation]],
        *,
        rate: float,
        job_timeout: float,
        most_in_a_row: int,
        ended: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._get, self._ended, self._rng = get, ended, rng
        self._seconds = max(LEAST_SECONDS, job_timeout)
        self._most_in_a_row = most_in_a_row
        self._scheduler = Scheduler(self._serve, rate=rate, workers=_WORKERS)
        self._deadlines = Deadlines(self._deadline_passed, self._may_run)
        self.jobs: dict[JobRecord, AbandonedJob] = {}
        self.places = self.in_a_row = 0

    def start(self) -> None:
        """Start polling."""
        self._scheduler.start()

    async def stop(self) -> None:
        """Stop polling; no job counts any more."""
        self._deadlines.stop()
        await self._scheduler.stop()
        for abandoned in list(self.jobs.values()):
            self._is_over(abandoned)

    def add(self, record: JobRecord) -> None:
        """A job is given up."""
        job = AbandonedJob(record, get_running_loop().time() + self._seconds)
        self.jobs[record] = job
        self.in_a_row += 1
        self._deadlines.add(job)
        self._scheduler.put(job, SLOWLY.delay(0, self._rng))
        if self.in_a_row == self._most_in_a_row:
            _log.error("%s", TooManyAbandonedError(self.in_a_row))

    def keep_place(self, record: JobRecord) -> None:
        """If this job was given up, it goes on to count as in flight."""
        job = self.jobs.get(record)
        if job is not None:
            job.has_place = True
            self.places += 1

    def check(self) -> None:
        """Raise TooManyAbandonedError if too many jobs were given up, one after the other."""
        if self.in_a_row >= self._most_in_a_row:
            raise TooManyAbandonedError(self.in_a_row)

    async def _serve(self, job: AbandonedJob) -> float | None:
        assert job.record.request_id is not None
        state = "unknown to the server"
        try:
            generation = await self._get(job.record.request_id)
            ended = STATE_OF.get(generation.status) in ENDED_STATES
            state = generation.status.value
        except NotFoundError:
            ended = True
        except SeedanceError as error:
            ended = False
            _log.info("a poll of job %s failed: %s", job.record.request_id, error)
        if ended and self._may_run(job):
            _log.warning(
                "job %s, which was given up, is %s: attach its id for its result",
                job.record.request_id,
                state,
            )
            self._is_over(job)
        job.polls += 1
        return SLOWLY.delay(job.polls, self._rng) if self._may_run(job) else None

    def _deadline_passed(self, job: AbandonedJob) -> None:
        _log.warning(
            "job %s, which was given up, is not known to have ended after %g s more; it no longer"
            " counts as in flight",
            job.record.request_id,
            self._seconds,
        )
        self._is_over(job)

    def _may_run(self, job: AbandonedJob) -> bool:
        return job.record in self.jobs

    def _is_over(self, job: AbandonedJob) -> None:
        del self.jobs[job.record]
        self.places -= job.has_place
        self.in_a_row = 0
        self._scheduler.drop(job)
        self._deadlines.tidy(len(self.jobs))
        self._ended()
