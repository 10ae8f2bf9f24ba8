"""The planner of a session: for each kind of job, when its jobs end and the plan made from that."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import pairwise

import attrs

from seedance_async.api.backoff import Backoff
from seedance_async.jobs.polling.adaptive.end_times import Bins, EndTimes
from seedance_async.jobs.polling.adaptive.plans import (
    LEAST_PRICE,
    Bounds,
    Plan,
    plan_for,
    thinned,
)

#: A kind gets a plan once its ended jobs, the old ones weighing less, count as this many.
ENOUGH = 12.0
#: The weight of a poll after the next one, when polls are compared with those of plain backoff.
ACCOUNT_FADING = 0.9998
#: However many polls were made too many, a plan may spend this share of plain backoff's.
LEAST_SHARE = 0.7
#: The share of the jobs that may end while polls are rarer than those of plain backoff.
EARLY = 0.02
#: A job with so many polls more than plain backoff would have made by its age gets plain backoff.
TOO_MANY = 4
#: The delays of plain backoff are so many times as long for a job that is still queued.
QUEUED = 1.7


@attrs.define(eq=False, repr=False)
class _Kind:
    times: EndTimes
    plan: Plan | None = None
    price: float = 1.0
    polls: float = 0.0
    plain_polls: float = 0.0
    unqueued: float = 0.0  # what plain backoff would have made had no job been queued

    def count_poll(self, plain_polls: float, *, queued: bool = False) -> None:
        """Count one poll, and how many plain backoff would have made in the same time."""
        plain_polls = max(0.0, plain_polls)
        self.polls = self.polls * ACCOUNT_FADING + 1
        share = 1 / QUEUED if queued else 1.0
        if plain_polls > 2 and not queued:
            share = self.processing  # so long an interval does not show when it left the queue
        self.plain_polls = self.plain_polls * ACCOUNT_FADING + plain_polls * share
        self.unqueued = self.unqueued * ACCOUNT_FADING + plain_polls

    @property
    def processing(self) -> float:
        """The share of the polls that plain backoff makes although jobs are queued at first."""
        return self.plain_polls / self.unqueued if self.unqueued else 1.0

    def share(self) -> float:
        """The share of those polls that a plan may spend: less than all if too many were made."""
        spent = min(1.0, self.plain_polls / max(1.0, self.polls))
        return max(LEAST_SHARE, spent**2) * self.processing


class PollPlanner:
    """Proposes when to poll a job next, from when other jobs of its kind ended.

    Args:
        backoff: the delays of an unknown kind, the measure of how many polls a job may take, and
            the source of floor and jitter.
        stretch: the longest delay in multiples of `backoff.maximum`, at least 1.
        kinds: how many kinds are remembered; the least recent one is forgotten.
    """

    def __init__(self, backoff: Backoff, *, stretch: float = 6.0, kinds: int = 64) -> None:
        self._backoff = backoff
        self._least = max(backoff.floor, backoff.initial / 4)
        self._most = max(self._least, backoff.maximum * stretch)
        self._remembered = kinds
        self._bins = Bins(min(1e6, max(1e-6, backoff.initial)))
        self._plain = _PlainCount(backoff)
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kinds)

    def running(self, kind: Hashable, after: float, by: float, *, queued: bool = False) -> None:
        """Learn that a job seen running at age `after` (0 at first) still ran at age `by`."""
        known, after = self._of(kind), min(after, by)
        known.times.running(after, by)
        known.count_poll(self._plain.by(by) - self._plain.by(after), queued=queued)

    def finished(self, kind: Hashable, after: float, by: float) -> None:
        """Learn that a job seen running at age `after` (0 at first) had ended at age `by`."""
        known, after = self._of(kind), min(after, by)
        known.times.finished(after, by)
        if known.plan is not None and by < known.plan.bounds.early:
            known.times.news = math.inf  # few should end so early: the service may be faster
        middle = after + (by - after) / 2
        known.count_poll(self._plain.by(middle) - self._plain.by(after) + 0.5)

    def delay(
        self, kind: Hashable, age: float, polls: int, rng: random.Random, *, queued: bool = False
    ) -> float:
        """Seconds until the next poll of a job.

        Args:
            kind: what it has in common with similar jobs.
            age: seconds since it was accepted.
            polls: how often it was polled since then without having ended.
            rng: the source of jitter.
            queued: whether it was still in the server's queue: it has to be processed before it
                ends.
        """
        plain = self._backoff.delay(polls, rng) * (QUEUED if queued else 1.0)
        known = self._planned(kind)
        plan = None if known is None else known.plan
        too_many = polls > self._plain.by(age) + TOO_MANY
        if known is None or plan is None or too_many or age >= plan.ages[-2]:
            return plain
        then = plan.next_poll(age)
        spacing = min(then - age, max(0.0, plan.next_poll(then) - then))
        wait = then - age + self._backoff.jitter * (rng.random() - 0.5) * spacing
        rarer = wait * plan.excess(age, polls)
        # Of ages that no job has been seen at, and of a queued job, a plan knows too little.
        guessed = queued or then >= plan.bounds.seen
        wait = max(wait, plain if guessed else min(rarer, plain))
        longest = self._backoff.maximum * (1 - self._backoff.jitter * rng.random())
        return plan.bounds.kept(wait, age, longest)

    def _of(self, kind: Hashable) -> _Kind:
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind(EndTimes(self._bins))
            if len(self._kinds) > self._remembered:
                self._kinds.popitem(last=False)
        self._kinds.move_to_end(kind)
        return known

    def _planned(self, kind: Hashable) -> _Kind | None:
        """What is known of a kind, with a plan; None while that is not enough for one."""
        known = self._kinds.get(kind)
        if known is None or known.times.count < ENOUGH:
            return None
        if known.times.news > max(4.0, known.times.count / 4):
            self._make_plan(known)
        return known

    def _make_plan(self, known: _Kind) -> None:
        survival, starts = known.times.survival(), self._bins.starts
        early = next(k for k, share in enumerate(survival) if share < 1 - EARLY) - 1
        bounds = Bounds(
            self._least,
            self._most,
            self._backoff.maximum * (1 - self._backoff.jitter / 2),
            starts[early],
            starts[known.times.last],
        )
        chosen = thinned(starts, survival)
        ages, survival = [starts[k] for k in chosen], [survival[k] for k in chosen]
        polls, lag = self._plain.means(ages, survival)
        known.plan, known.price = plan_for(
            ages,
            survival,
            bounds,
            polls=known.share() * polls,
            lag=lag,
            price=known.price,
            least=max(1e-6, self._backoff.initial * LEAST_PRICE),
        )


class _PlainCount:
    """The mean number of polls that plain backoff makes by an age, interpolated between polls."""

    def __init__(self, backoff: Backoff) -> None:
        self._times, delay = [0.0], 0.0
        for attempt in range(200):
            delay = max(backoff.floor, backoff.full_delay(attempt) * (1 - backoff.jitter / 2))
            self._times.append(self._times[-1] + delay)
            if backoff.full_delay(attempt) >= backoff.maximum:
                break
        self._last = delay

    def by(self, age: float) -> float:
        times = self._times
        age = min(age, 1e9)
        if age >= times[-1]:
            return len(times) - 1 + (age - times[-1]) / self._last
        right = bisect_right(times, max(0.0, age))
        return right - 1 + (max(0.0, age) - times[right - 1]) / (times[right] - times[right - 1])

    def means(self, ages: Sequence[float], survival: Sequence[float]) -> tuple[float, float]:
        """The mean number of polls of a job, and the mean lag, if jobs end like this."""
        polls, lag = survival[-1] * self.by(ages[-1]), 0.0
        for (start, end), (before, after) in zip(pairwise(ages), pairwise(survival), strict=True):
            polls += (before - after) * self.by(end)
            lag += (before - after) * self._delay((start + end) / 2) / 2
        return polls, lag

    def _delay(self, age: float) -> float:
        right = bisect_right(self._times, age)
        at_most = right >= len(self._times)
        return self._last if at_most else self._times[right] - self._times[right - 1]
