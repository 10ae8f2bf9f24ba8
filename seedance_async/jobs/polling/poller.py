"""Polling: what an answer, a failed poll or a passed deadline means for a job.

The scheduler decides when a job is polled. Only the server says how a job ended: a job whose polls
keep failing, or whose deadline passes, is abandoned and not failed. At its deadline it is polled a
final time: it may have ended long ago, if its next poll was far off or the event loop was blocked.
The time in the server's queue has a limit of its own. Jobs given up that may still run are in
`abandoned`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING

from seedance_async._utils.deadlines import Deadlines
from seedance_async._utils.elapsed import loop_time
from seedance_async.api.backoff import Backoff
from seedance_async.api.errors import SeedanceError
from seedance_async.api.models import Generation
from seedance_async.jobs.polling.abandoned import AbandonedJobs
from seedance_async.jobs.polling.adaptive import LearnedPolls, poll_times
from seedance_async.jobs.polling.notices import PollNotices
from seedance_async.jobs.polling.scheduler import Scheduler
from seedance_async.jobs.polling.watch import (
    NOT_FOUND_TIMEOUT,
    UNKNOWN_ID_TIMEOUT,
    FailedPolls,
    Watch,
)
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import ENDED_STATES, JobState
from seedance_async.jobs.stats import FinishTimes

if TYPE_CHECKING:
    from seedance_async.jobs.events import EventEmitter

_log = logging.getLogger(__name__)

#: The share of the poll rate that is added for jobs that were given up and may still run.
_ABANDONED_SHARE = 0.1

#: Seconds that a job's final poll has to be answered: polls may be held by a rate limit, the poll
#: rate used up, the server silent.
FINAL_POLL_TIMEOUT = 60.0

#: If that timeout is noticed more than this many seconds late, the event loop was blocked.
BLOCKED = 5.0

#: The least seconds between two polls of a job, whatever the server's answer asks for.
SHORTEST_HINT = 0.5

#: Jobs to handle before other callbacks have a turn, when very many end at once.
_AT_ONCE = 100


class Poller:
    """Polls every watched job until it ends.

    Args:
        registry: where the answers go.
        get: sends one status query, once.
        poll: when a job is polled: a backoff alone, or learned delays based on one.
        poll_rate: polls a second over all jobs.
        workers: concurrent polls.
        job_timeout: seconds that a job may be processed until its final poll, after which it is
            abandoned.
        queue_timeout: the same for the seconds from acceptance that it may be queued.
        max_abandoned: jobs abandoned one after the other, after which `abandoned.check` raises.
        poll_failure_timeout: seconds of nothing but failed polls after which a job is abandoned.
        job_ended: called once for each watched job that has ended, or counts as ended.
        rng: the source of jitter.
        events: reports failed polls, if anyone listens.

    Attributes:
        abandoned: the jobs given up that may still run.
        finish_times: how long the jobs took.
        polls: status queries sent for jobs that are waited for.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        get: Callable[[str], Awaitable[Generation]],
        *,
        poll: Backoff | LearnedPolls,
        poll_rate: float,
        workers: int,
        job_timeout: float,
        queue_timeout: float,
        max_abandoned: int,
        poll_failure_timeout: float,
        job_ended: Callable[[], None],
        rng: random.Random,
        events: EventEmitter | None = None,
    ) -> None:
        self._registry, self._get, self._events = registry, get, events
        self._times = poll_times(poll)
        self._job_timeout, self._queue_timeout = job_timeout, queue_timeout
        self._poll_failure_timeout, self._rng = poll_failure_timeout, rng
        self._job_ended = job_ended
        self._on_final = self._count_end  # one bound method for all jobs: each keeps it
        self.abandoned = AbandonedJobs(
            get,
            rate=poll_rate * _ABANDONED_SHARE,
            job_timeout=job_timeout,
            most_in_a_row=max_abandoned,
            ended=job_ended,
            rng=rng,
        )
        self._scheduler: Scheduler[Watch] = Scheduler(self._serve, rate=poll_rate, workers=workers)
        self._watches: dict[JobRecord, Watch] = {}
        self._deadlines = Deadlines(self._deadline_passed, self._is_watched, at_once=_AT_ONCE)
        self._kinds: dict[Hashable, Hashable] = {}
        self._notices = PollNotices(poll_rate)
        self.finish_times = FinishTimes()
        self.polls = 0
        self._now: Callable[[], float] = loop_time

    def __repr__(self) -> str:
        return f"<Poller {len(self._watches)} watched, {len(self._scheduler)} scheduled>"

    @property
    def longest_lag(self) -> float:
        """Seconds by which the event loop was late at worst."""
        return self._scheduler.longest_lag

    @property
    def stretch(self) -> float:
        """How many times longer than they should be the intervals are, so that the rate holds."""
        return self._scheduler.stretch

    @property
    def poll_rate(self) -> float:
        """Polls a second over all jobs; may be changed at any time."""
        return self._scheduler.rate

    @poll_rate.setter
    def poll_rate(self, rate: float) -> None:
        self._scheduler.rate = self._notices.poll_rate = rate

    def start(self) -> None:
        """Start polling."""
        self._now = asyncio.get_running_loop().time
        self._scheduler.start()
        self.abandoned.start()

    async def stop(self) -> None:
        """Stop polling; the jobs stay as they are."""
        self._deadlines.stop()
        await self._scheduler.stop()
        await self.abandoned.stop()
        for number, watch in enumerate(list(self._watches.values()), 1):
            self._unwatch(watch)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def watch(self, record: JobRecord, *, at_once: bool = False) -> None:
        """Poll a running job from now on until it ends."""
        now, kind = self._now(), self._kind(record)
        queued = record.state is JobState.QUEUED
        limit = now + (self._queue_timeout if queued else self._job_timeout)
        deadline = self._next_look(limit, now)
        watch = self._watches[record] = Watch(record, deadline, limit, kind)
        record.on_final(self._on_final)
        self._deadlines.add(watch)
        self._scheduler.put(watch, 0.0 if at_once else self._next_delay(watch))

    def forget(self, record: JobRecord) -> None:
        """Poll a job no more."""
        watch = self._watches.get(record)
        if watch is not None:
            self._unwatch(watch)

    def poll_soon(self, record: JobRecord) -> None:
        """Poll a job before others; if a poll of it is in flight, right after that one."""
        watch = self._watches.get(record)
        if watch is not None:
            self._poll_now(watch)

    # --- one poll ---------------------------------------------------------------------------

    async def _serve(self, watch: Watch) -> float | None:
        record, answered = watch.record, False
        watch.poll_again = False
        self._notices.stretch(self._scheduler.stretch, len(self._watches))
        if record.state.is_running:
            watch.polls += 1
            last = watch.is_overdue(self._now())
            answered = await self.poll_once(record, watch)
            last = last and watch.is_overdue(self._now())
            if answered and last and record.state.is_running:
                self._abandon(watch, None)
        if record.state.is_final:
            self._unwatch(watch)
            return None
        watch.attempt += 1
        return 0.0 if watch.poll_again else self._next_delay(watch, answered=answered)

    async def poll_once(self, record: JobRecord, watch: Watch | None = None) -> bool:
        """Query a job's state once and record the answer; returns whether there was one."""
        assert record.request_id is not None
        sent_at = self._now()
        self.polls += 1
        try:
            generation = await self._get(record.request_id)
        except SeedanceError as error:
            _log.info("a poll of job %s failed: %s", record.request_id, error)
            self._notices.failed(error)
            if self._events is not None and record.state.is_running:
                self._events.poll_failed(record, error)
            if watch is not None:
                self._poll_failed(watch, error)
            return False
        if watch is not None:
            watch.failed = None
        self._notices.status(generation)
        if self._registry.observe(record, generation) and record.state is JobState.PROCESSING:
            self._processing_began(record)
        if watch is not None and record.accepted_at is not None:
            now = self._now()
            self._learn(watch, sent_at - record.accepted_at, now - record.accepted_at)
        return True

    def _learn(self, watch: Watch, sent: float, answered: float) -> None:
        """Learn from a poll when jobs end, given the job's age when it was sent and answered.

        A rate limit may hold a poll for long in between: a job still running ran at least until
        the poll was sent, and one that has ended did so before the answer came.
        """
        record = watch.record
        if record.state.is_running:
            queued = record.state is JobState.QUEUED
            self._times.running(watch.kind, watch.seen_running, sent, queued=queued)
            watch.seen_running = sent
        elif record.state in (JobState.SUCCEEDED, JobState.FAILED):
            self._times.finished(watch.kind, watch.seen_running, answered)

    def _poll_failed(self, watch: Watch, error: SeedanceError) -> None:
        watch.failed = watch.failed or FailedPolls()
        now = self._now()
        record = watch.record
        attached = record.request is None and record.generation is None
        patience = UNKNOWN_ID_TIMEOUT if attached else NOT_FOUND_TIMEOUT
        enough = watch.failed.are_enough(error, now, self._poll_failure_timeout, patience)
        if enough and record.state.is_running:
            self._abandon(watch, error)

    def _next_delay(self, watch: Watch, *, answered: bool = False) -> float:
        """Seconds until the next poll; if the last was answered, its Retry-After comes first."""
        record = watch.record
        hint = record.generation.poll_after if record.generation is not None else None
        if answered and hint is not None:
            return min(max(hint, SHORTEST_HINT), self._poll_failure_timeout)
        now = self._now()
        # Nothing is known of the age of a job accepted in another session; past its deadline there
        # is no time to wait for the moment when it probably ends.
        queued = record.state is JobState.QUEUED
        if record.accepted_at is None or watch.is_overdue(now):
            return self._times.delay(None, 0.0, watch.attempt, self._rng, queued=queued)
        age = now - record.accepted_at
        return self._times.delay(watch.kind, age, watch.attempt, self._rng, queued=queued)

    # --- deadlines, and the final poll ------------------------------------------------------

    def _processing_began(self, record: JobRecord) -> None:
        watch = self._watches.get(record)
        if watch is not None:  # it may have begun just when its time in the queue was over
            watch.limit = self._now() + self._job_timeout

    def _next_look(self, limit: float, now: float) -> float:
        """When to look at a job's limit again: it moves to an earlier time with the processing."""
        return min(limit, now + self._job_timeout)

    def _deadline_passed(self, watch: Watch) -> None:
        now = self._now()
        if not watch.is_overdue(now):
            watch.deadline = self._next_look(watch.limit, now)
            self._deadlines.add(watch)
        elif not watch.final or now > watch.deadline + BLOCKED:  # an answer may be there unread
            watch.limit, watch.deadline = -math.inf, now + FINAL_POLL_TIMEOUT
            self._deadlines.add(watch)
            self._poll_now(watch)
        elif watch.record.state.is_running:
            self._notices.unanswered(FINAL_POLL_TIMEOUT, len(self._watches))
            self._abandon(watch, None)
        else:
            self._unwatch(watch)

    def _poll_now(self, watch: Watch) -> None:
        """Poll a job before others, but never while another poll of it is in flight."""
        watch.attempt = 0
        watch.poll_again = not self._scheduler.drop(watch)
        if not watch.poll_again:
            self._scheduler.put(watch, 0.0)

    def _is_watched(self, watch: Watch) -> bool:
        return self._watches.get(watch.record) is watch

    def _abandon(self, watch: Watch, error: SeedanceError | None) -> None:
        record = watch.record
        _log.warning(
            "stopped waiting for job %s (%s); it may still be running, and keeps its place until it"
            " has ended: attach its id to resume",
            record.request_id,
            error or self._timeout_passed(record),
        )
        self.abandoned.add(record)
        self._registry.move(record, JobState.ABANDONED, error=error)
        self._unwatch(watch)

    def _timeout_passed(self, record: JobRecord) -> str:
        if record.state is JobState.QUEUED:
            return f"it was still queued after the queue timeout of {self._queue_timeout:g} s"
        return f"it did not end within the job timeout of {self._job_timeout:g} s"

    def _count_end(self, record: JobRecord) -> None:
        if record not in self.abandoned.jobs:
            self._job_ended()

    def _unwatch(self, watch: Watch) -> None:
        if self._watches.pop(watch.record, None) is not None:
            self._note_finish(watch)
        self._deadlines.tidy(len(self._watches))
        self._scheduler.drop(watch)

    def _note_finish(self, watch: Watch) -> None:
        """Remember how long a job took, if the server said how it ended."""
        record = watch.record
        if record.state in ENDED_STATES:
            self.abandoned.in_a_row = 0
            now, since = self._now(), record.accepted_at
            seconds = None if since is None else now - since
            self.finish_times.note(seconds, watch.polls)
            after = "" if seconds is None else f" after {seconds:.1f} s"
            _log.info("job %s %s%s", record.request_id, record.state, after)

    def _kind(self, record: JobRecord) -> Hashable:
        """What jobs expected to take the same time have in common; one object for all of them."""
        if record.request is None:
            return None
        kind = record.request.kind[:4]  # a seed among its extra fields would make it unlike all
        return self._kinds.setdefault(kind, kind)
