"""Where to place polls, given when jobs end: the best plan, by dynamic programming."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import attrs

#: A plan uses a subset of the bins: neighbours differ by this share of the jobs or of the age.
STEP_MASS = 0.008
STEP_AGE = 1.05

#: The least price of a poll, as a share of plain backoff's first delay: a poll that shortens the
#: lag by less than this (a fifth of a second by default) is not worth making.
LEAST_PRICE = 0.075

#: The mean lag of a plan is at most this share of plain backoff's, as far as polls suffice; for
#: that they may be so many times cheaper than the least price.
MOST_LAG = 0.9
CHEAPER = 7.5

#: The share of plain backoff's polls that a plan may spend: a little is left for what no plan sees.
#: The second is for a plan whose lag is still too long: about what plain backoff makes.
MOST_POLLS = 0.95
MOST_IF_LATE = 1.01

#: A plan ends after so many polls, or where no more than this share of the jobs is left.
MANY = 2000
FEW_JOBS = 1e-4


@attrs.frozen
class Bounds:
    """What is kept to whatever was learned: what was learned may be wrong, or of the past.

    Attributes:
        least: the shortest delay in seconds.
        most: the longest delay.
        longest: the longest delay of a job older than `early`; a mean, as it is random.
        early: the age by which few jobs have ended.
        seen: the highest age that any job has been seen at.
    """

    least: float = 0.0
    most: float = math.inf
    longest: float = math.inf
    early: float = 0.0
    seen: float = math.inf

    def kept(self, delay: float, age: float, longest: float) -> float:
        """The delay within the bounds, for a job of this age."""
        return max(self.least, min(self.most, max(0.0, self.early - age) + longest, delay))


@attrs.define(eq=False, repr=False)
class Plan:
    """Where the polls of a job are.

    Attributes:
        ages: in seconds, increasing, the first is 0.
        survival: the share of jobs that outlast each of these ages.
        following: the age of the best next poll from each of these ages.
        bounds: of the delays.
        path: the ages at which a job is polled, within the bounds.
        polls: the mean number of polls of a job.
        noticed: the mean age at which its end is noticed.
    """

    ages: Sequence[float]
    survival: Sequence[float]
    following: Sequence[float]
    bounds: Bounds
    path: list[float] = attrs.field(init=False, factory=list)
    polls: float = attrs.field(init=False, default=0.0)
    noticed: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        age, left = 0.0, 1.0
        while left > FEW_JOBS and len(self.path) < MANY and age < self.ages[-1]:
            delay = self.bounds.kept(self.next_poll(age) - age, age, self.bounds.longest)
            self.polls += left
            self.noticed += left * delay
            age += delay
            self.path.append(age)
            left = self._at(age, self.survival, 0.0)

    def next_poll(self, age: float) -> float:
        """The age of the poll after `age`, interpolated between the ages of the plan."""
        return self._at(age, self.following, math.inf)

    def excess(self, age: float, polls: int) -> float:
        """How many times as long a job waits for its next poll as the plan has it.

        Each poll that it has had more than the plan has by this age takes the place of one.

        Args:
            age: in seconds.
            polls: how often it has been polled.
        """
        own = bisect_right(self.path, age)
        if own >= len(self.path):
            return 1.0
        before = self.path[own - 1] if own else 0.0
        planned = own + (age - before) / (self.path[own] - before)
        return 1 + max(0.0, polls - planned)

    def _at(self, age: float, values: Sequence[float], beyond: float) -> float:
        right = bisect_right(self.ages, age)
        if right >= len(self.ages):
            return beyond
        start, end = self.ages[right - 1], self.ages[right]
        first, last = values[right - 1], values[right]
        return first + (last - first) * (age - start) / (end - start)


#: Bounds that leave every delay as it is.
ANY = Bounds()


def best_plan(
    ages: Sequence[float],
    survival: Sequence[float],
    price: float,
    bounds: Bounds = ANY,
) -> Plan:
    """The plan with the least E[lag] + price E[polls], with polls at these ages only.

    Args:
        ages: in seconds, increasing, the first is 0.
        survival: the share of jobs that outlast each age; the last counts as 0.
        price: of one poll, in seconds of lag.
        bounds: what the delays are kept within later; the plan does not foresee them.
    """
    last = len(ages) - 1
    moment = [0.0]  # the integral of x dF(x), with each step's mass at its middle
    for k in range(last):
        middle = (ages[k] + ages[k + 1]) / 2
        moment.append(moment[-1] + (survival[k] - survival[k + 1]) * middle)
    following = [ages[last]] * (last + 1)
    # A line stands for a poll: its age, its cost where F is 0. The lines are in the
    # order in which they are lowest as F falls from 1 to 0.
    lines = deque([(ages[last], ages[last] * (1 - survival[last]) - moment[last])])
    for k in range(last - 1, -1, -1):
        ended = 1 - survival[k]
        while len(lines) > 1 and _cost(lines[1], ended) <= _cost(lines[0], ended):
            lines.popleft()
        following[k] = lines[0][0]
        total = _cost(lines[0], ended) + moment[k] + price * survival[k]
        line = (ages[k], ages[k] * ended - moment[k] + total)
        while len(lines) > 1 and _never_lowest(lines[-2], lines[-1], line):
            lines.pop()
        lines.append(line)
    return Plan(ages, survival, following, bounds)


_Line = tuple[float, float]


def _cost(line: _Line, ended: float) -> float:
    return line[1] - line[0] * ended


def _never_lowest(left: _Line, middle: _Line, right: _Line) -> bool:
    """Whether the middle one of three lines, in order of falling age, is nowhere the lowest."""
    return (right[1] - left[1]) * (left[0] - middle[0]) <= (middle[1] - left[1]) * (
        left[0] - right[0]
    )


def plan_for(
    ages: Sequence[float],
    survival: Sequence[float],
    bounds: Bounds,
    *,
    polls: float,
    lag: float,
    price: float,
    least: float,
) -> tuple[Plan, float]:
    """The best plan that is not later than plain backoff and makes no more polls; and its price.

    Args:
        ages: as for `best_plan`, like `survival`.
        survival: the share of jobs that outlast each age.
        bounds: of the delays.
        polls: the mean number of polls that plain backoff would make.
        lag: its mean lag in seconds.
        price: a first guess.
        least: what a poll costs at least, unless the lag would be too long.
    """
    steps = zip(pairwise(ages), pairwise(survival), strict=True)
    ended = sum((start + end) / 2 * (later - age) for (age, later), (start, end) in steps)
    for _ in range(8):
        plan = best_plan(ages, survival, price, bounds)
        late = max(0.01, plan.noticed - ended) / max(1e-3, MOST_LAG * lag)
        most = max(1.05, polls * min(MOST_IF_LATE, MOST_POLLS * max(1.0, late)))
        # Except for the last poll, which each job needs, polls are proportional to 1 / sqrt(price),
        # and the lag is to sqrt(price).
        spent = max(0.05, plan.polls - 0.5) / (most - 0.5)
        better = max(price * spent**2, min(least, price / late**2))
        better = max(least / CHEAPER, min(1e6, better))
        if abs(better / price - 1) < 0.04:
            break
        price = better
    return plan, price


def thinned(ages: Sequence[float], survival: Sequence[float]) -> list[int]:
    """The indices of the bins that a plan uses: more of them where more jobs end."""
    chosen = [0]
    for k in range(1, len(survival)):
        before = chosen[-1]
        mass = survival[before] - survival[k]
        if mass >= STEP_MASS or ages[k] >= STEP_AGE * ages[before] or k == len(survival) - 1:
            chosen.append(k)
    return chosen
