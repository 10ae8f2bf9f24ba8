"""Polling: what an answer, a failed poll or a passed deadline means for a job.

When a job is polled is the business of `schedule`. A job's end comes from the server alone: a run
of failed polls, or the deadline, ends as "abandoned", not as "failed". No deadline passes without a
last look: the job may have ended long ago, where its next poll was far off or the loop stood still.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextvars import copy_context
from typing import TYPE_CHECKING

import attrs

from seedance_async.api.backoff import Backoff
from seedance_async.api.errors import (
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    SeedanceError,
)
from seedance_async.api.models import Generation
from seedance_async.jobs.polling.adaptive import LearnedPolls, poll_times
from seedance_async.jobs.polling.scheduler import Item, Schedule
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.stats import FinishTimes

if TYPE_CHECKING:
    from seedance_async.jobs.events import EventEmitter

_log = logging.getLogger(__name__)

#: A job that the server does not know is given this many seconds and polls: a job just accepted
#: may not be readable at once.
UNKNOWN_PATIENCE = 60.0
UNKNOWN_POLLS = 3

#: Seconds after its deadline that a job is given for its last look to be answered: the polls may be
#: held back, the budget used up, the server silent.
LAST_LOOK = 60.0

#: Seconds by which that minute's end may be noticed late; later, the loop has stood still.
STALL = 5.0

#: Seconds that a job is not polled again for, whatever the server's answer asks for.
SHORTEST_HINT = 0.5

#: Jobs that are dealt with before others have their turn, where very many end at once.
_AT_ONCE = 100


@attrs.define(eq=False, repr=False, weakref_slot=False)
class _Failing:
    """Polls of one job that have failed in a row, and the loop's time of the first."""

    since: float
    polls: int = 0

    def one_more(self, now: float) -> float:
        """Count another one; the seconds that they have gone on for, 0 while they are too few."""
        self.polls += 1
        return now - self.since if self.polls >= UNKNOWN_POLLS else 0.0


@attrs.define(eq=False, repr=False, weakref_slot=False)
class _Watch(Item):
    """One job's place in the polling, and the loop's time from which on it is asked for once more.

    `hurried` if its next poll is to follow at once on the one that is out.
    """

    record: JobRecord
    deadline: float
    kind: Hashable
    polls: int = 0
    asked: int = 0
    hurried: bool = False
    seen_running: float = 0.0  # seconds after its acceptance
    failing: _Failing | None = None
    unknown: _Failing | None = None  # the last of these, if they were a 404


class Poller:
    """Polls every watched job until its end.

    Args:
        registry: where the answers go.
        get: one status query, sent once.
        poll: when a job is polled: by a backoff, or learnt on top of one.
        poll_rate: polls a second over all jobs.
        workers: polls that are out at once.
        job_timeout: seconds from acceptance after which a job is abandoned, a last look apart.
        patience: seconds of nothing but failed polls after which a job is abandoned.
        freed: called once for each watched job that has ended.
        rng: the source of jitter.
        events: who is told of failed polls.
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
        patience: float,
        freed: Callable[[], None],
        rng: random.Random,
        events: EventEmitter | None = None,
    ) -> None:
        self._events, self.finish_times = events, FinishTimes()
        self._registry, self._get = registry, get
        self._times = poll_times(poll)
        self._job_timeout, self._patience = job_timeout, patience
        self._rng, self._poll_rate = rng, poll_rate
        self._freed: Callable[[JobRecord], None] = lambda _: freed()  # one for all jobs
        self._schedule: Schedule[_Watch] = Schedule(self._serve, rate=poll_rate, workers=workers)
        self._watches: dict[JobRecord, _Watch] = {}
        self._deadlines = _Deadlines(0.0, self._is_watched, self._look_once_more)
        self._last_looks = _Deadlines(LAST_LOOK, self._is_watched, self._give_up)
        self._kinds: dict[Hashable, Hashable] = {}
        self._warned: set[str] = set()
        self._warned_of_unseen = False
        self.polls = 0

    def __len__(self) -> int:
        return len(self._watches)

    @property
    def longest_lag(self) -> float:
        """Seconds by which the event loop was late at the worst."""
        return self._schedule.longest_lag

    def start(self) -> None:
        """Start polling."""
        self._schedule.start()

    async def stop(self) -> None:
        """Stop polling; the jobs stay as they are."""
        self._deadlines.stop()
        self._last_looks.stop()
        await self._schedule.stop()
        for number, watch in enumerate(list(self._watches.values()), 1):
            self._unwatch(watch)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def watch(self, record: JobRecord, *, at_once: bool = False) -> None:
        """Poll a running job from now on until its end."""
        now = asyncio.get_running_loop().time()
        watch = self._watches[record] = _Watch(record, now + self._job_timeout, self._kind(record))
        record.on_final(self._freed)
        self._deadlines.append(watch)
        self._schedule.put(watch, 0.0 if at_once else self._next_delay(watch))

    def hurry(self, record: JobRecord) -> None:
        """Poll a job now; where a poll of it is out, right after that."""
        watch = self._watches.get(record)
        if watch is not None:
            self._poll_now(watch)

    async def _serve(self, watch: _Watch) -> float | None:
        record, answered = watch.record, False
        watch.hurried = False
        if record.state.is_running:
            watch.asked += 1
            last = asyncio.get_running_loop().time() >= watch.deadline
            answered = await self.poll_once(record, watch)
            if answered and last and record.state.is_running:
                self._abandon(watch, None)
        if record.state.is_final:
            self._unwatch(watch)
            return None
        watch.polls += 1
        return 0.0 if watch.hurried else self._next_delay(watch, hinted=answered)

    async def poll_once(self, record: JobRecord, watch: _Watch | None = None) -> bool:
        """Ask for a job's state once and take in the answer; whether there was one."""
        assert record.request_id is not None
        asked_at = asyncio.get_running_loop().time()
        self.polls += 1
        try:
            generation = await self._get(record.request_id)
        except SeedanceError as error:
            _log.info("a poll of job %s failed: %s", record.request_id, error)
            if self._events is not None and record.state.is_running:
                self._events.poll_failed(record, error)
            if watch is not None:
                self._failed(watch, error)
            return False
        if watch is not None:
            watch.failing = watch.unknown = None
        self._warn_if_unknown(generation)
        self._registry.observe(record, generation)
        if watch is not None and record.accepted_at is not None:
            now = asyncio.get_running_loop().time()
            self._learn(watch, asked_at - record.accepted_at, now - record.accepted_at)
        return True

    def _learn(self, watch: _Watch, asked: float, answered: float) -> None:
        """Take in what a poll has shown of when a job ends, by the ages that bound its moment.

        In between it may have been held back for long: what runs ran at least when it was asked
        for, what has ended had so at the latest when the answer came.
        """
        record = watch.record
        if record.state.is_running:
            self._times.running(watch.kind, watch.seen_running, asked)
            watch.seen_running = asked
        elif record.state in (JobState.SUCCEEDED, JobState.FAILED):
            self._times.finished(watch.kind, watch.seen_running, answered)

    def _next_delay(self, watch: _Watch, *, hinted: bool = False) -> float:
        """Seconds until the next poll; what the server's answer, if `hinted`, asks for is first."""
        record = watch.record
        asked = record.generation.poll_after if record.generation is not None else None
        if hinted and asked is not None:
            return min(max(asked, SHORTEST_HINT), self._patience)
        now = asyncio.get_running_loop().time()
        # Accepted in another session, nothing is known of a job; past its deadline there is no time
        # to wait for what is likely.
        if record.accepted_at is None or now >= watch.deadline:
            return self._times.delay(None, 0.0, watch.polls, self._rng)
        return self._times.delay(watch.kind, now - record.accepted_at, watch.polls, self._rng)

    def _failed(self, watch: _Watch, error: SeedanceError) -> None:
        lost = isinstance(error, NotFoundError)
        if not lost:
            watch.unknown = None
        if isinstance(error, (AuthenticationError, RateLimitError)):
            return  # the client's gate holds all polls back; it says nothing of this job
        now = asyncio.get_running_loop().time()
        watch.failing = watch.failing or _Failing(now)
        enough = watch.failing.one_more(now) >= self._patience
        if lost:
            watch.unknown = watch.unknown or _Failing(now)
            enough = watch.unknown.one_more(now) >= UNKNOWN_PATIENCE or enough
        if enough and watch.record.state.is_running:
            self._abandon(watch, error)

    def _look_once_more(self, watch: _Watch) -> None:
        """A job's deadline has passed, perhaps long ago: from now on its last look has time."""
        watch.deadline = asyncio.get_running_loop().time()
        self._last_looks.append(watch)
        self._poll_now(watch)

    def _poll_now(self, watch: _Watch) -> None:
        """Its next poll comes before others', but never beside one that is out."""
        watch.polls = 0
        watch.hurried = not self._schedule.drop(watch)
        if not watch.hurried:
            self._schedule.put(watch, 0.0)

    def _give_up(self, watch: _Watch) -> None:
        now = asyncio.get_running_loop().time()
        if now > watch.deadline + LAST_LOOK + STALL:  # an answer may have come meanwhile
            self._look_once_more(watch)
        elif watch.record.state.is_running:
            self._warn_of_unseen()
            self._abandon(watch, None)
        else:
            self._unwatch(watch)

    def _is_watched(self, watch: _Watch) -> bool:
        return self._watches.get(watch.record) is watch

    def _abandon(self, watch: _Watch, error: SeedanceError | None) -> None:
        record = watch.record
        _log.warning(
            "job %s is no longer waited for (%s); it may still be running: attach its id to go on",
            record.request_id,
            error or f"no end within {self._job_timeout:g} seconds",
        )
        self._registry.move(record, JobState.ABANDONED, error=error)
        self._unwatch(watch)

    def _unwatch(self, watch: _Watch) -> None:
        if self._watches.pop(watch.record, None) is not None:
            self._note(watch)
        self._deadlines.tidy(len(self._watches))
        self._schedule.drop(watch)

    def _note(self, watch: _Watch) -> None:
        """Remember how long a job took whose end the server told."""
        record = watch.record
        if record.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
            now, since = asyncio.get_running_loop().time(), record.accepted_at
            self.finish_times.note(None if since is None else now - since, watch.asked)

    def _kind(self, record: JobRecord) -> Hashable:
        """What jobs have in common that are expected to take as long; one object for all alike."""
        if record.request is None:
            return None
        kind = record.request.kind
        return self._kinds.setdefault(kind, kind)

    def _warn_of_unseen(self) -> None:
        if not self._warned_of_unseen:
            self._warned_of_unseen = True
            _log.warning(
                "jobs are given up without a last look, which came to nothing for %g seconds: no"
                " answers come, or %d jobs are too many for the poll rate of %g a second",
                LAST_LOOK,
                len(self._watches),
                self._poll_rate,
            )

    def _warn_if_unknown(self, generation: Generation) -> None:
        status = generation.status
        if not status.is_known and status.value not in self._warned and len(self._warned) < 100:
            self._warned.add(status.value)
            _log.warning(
                "the server tells of an unknown status %.80r; it is taken for running", status.value
            )


class _Deadlines:
    """Jobs for which something is due so many seconds after their deadlines, by one timer.

    The next comes first: all have the same time, so it is the order of arrival. A job that is no
    longer watched stays until then, or until most are such.
    """

    def __init__(
        self, after: float, is_watched: Callable[[_Watch], bool], due: Callable[[_Watch], None]
    ) -> None:
        self._after, self._is_watched, self._due = after, is_watched, due
        self._watches: deque[_Watch] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._context = copy_context()  # not that of whoever submits a job

    def append(self, watch: _Watch) -> None:
        """Take in a job whose deadline is none before the others'."""
        self._watches.append(watch)
        if self._timer is None and not self._stopped:
            self._come_again()

    def tidy(self, watched: int) -> None:
        """Forget those that are no longer watched, if they are more than the others."""
        if len(self._watches) > 64 and len(self._watches) > 2 * watched:
            self._watches = deque(filter(self._is_watched, self._watches))

    def stop(self) -> None:
        """Nothing is due any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        """Do what is due, for some jobs at a time; come again for the next."""
        now, self._timer = asyncio.get_running_loop().time(), None
        for _ in range(_AT_ONCE):
            if not self._has_next() or self._watches[0].deadline + self._after > now:
                break
            self._due(self._watches.popleft())
        if self._timer is None and self._has_next():
            self._come_again()

    def _has_next(self) -> bool:
        while self._watches and not self._is_watched(self._watches[0]):
            self._watches.popleft()
        return bool(self._watches)

    def _come_again(self) -> None:
        at = self._watches[0].deadline + self._after
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(at, self._pass, context=self._context)
