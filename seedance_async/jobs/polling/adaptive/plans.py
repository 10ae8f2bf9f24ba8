"""Where to place polls, given when jobs end: the best plan, by dynamic programming."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

import attrs

#: A plan uses a subset of the bins: neighbours differ by this share of the jobs or of the age.
STEP_MASS = 0.008
STEP_AGE = 1.05

#: The least price of a poll, as a share of plain backoff's first delay: a poll that shortens the
#: lag by less than this (an eighth of a second by default) is not worth making.
LEAST_PRICE = 0.06

#: A job is polled less often if it has had more polls than this above those of its plan.
TOLERATED = 1

#: Each of these costs so many of those that are left: it came too early to find an end, and took
#: the place of none of them.
PAID_BACK = 1.3


@attrs.frozen(eq=False, repr=False)
class Plan:
    """Where the polls of a job are.

    Attributes:
        ages: in seconds, increasing, the first is 0.
        following: the age of the next poll from each of these ages.
        left: the mean number of polls that are left to a job of each of these ages.
    """

    ages: Sequence[float]
    following: Sequence[float]
    left: Sequence[float]
    _path: Sequence[float] = attrs.field(init=False)

    @_path.default
    def _polled_at(self) -> Sequence[float]:
        path, age = [], 0.0
        while (age := self.next_poll(age)) < self.ages[-1]:
            path.append(age)
        return path

    @property
    def polls(self) -> float:
        """The mean number of polls of a job."""
        return self.left[0]

    def next_poll(self, age: float) -> float:
        """The age of the poll after `age`, interpolated between the ages of the plan."""
        right = bisect_right(self.ages, age)
        return math.inf if right >= len(self.ages) else self._between(right, age, self.following)

    def excess(self, age: float, polls: int) -> float:
        """How many times as many polls the plan has for a job of this age as are left to it.

        What it was polled more often so far than by this plan, it is polled less often later.

        Args:
            age: in seconds.
            polls: how often it has been polled.
        """
        right = bisect_right(self.ages, age)
        if right >= len(self.ages):
            return 1.0
        left = self._between(right, age, self.left)
        too_many = polls - bisect_right(self._path, age) - TOLERATED
        return left / max(0.1, left - PAID_BACK * max(0, too_many))

    def _between(self, right: int, age: float, values: Sequence[float]) -> float:
        start, end = self.ages[right - 1], self.ages[right]
        first, last = values[right - 1], values[right]
        return first + (last - first) * (age - start) / (end - start)


def best_plan(ages: Sequence[float], survival: Sequence[float], price: float) -> Plan:
    """The plan with the least E[lag] + price E[polls], with polls at these ages only.

    Args:
        ages: in seconds, increasing, the first is 0.
        survival: the share of jobs that outlast each age; the last counts as 0.
        price: of one poll, in seconds of lag.
    """
    last = len(ages) - 1
    moment = [0.0]  # the integral of x dF(x), with each step's mass at its middle
    for k in range(last):
        middle = (ages[k] + ages[k + 1]) / 2
        moment.append(moment[-1] + (survival[k] - survival[k + 1]) * middle)
    following, polls = [ages[last]] * (last + 1), [0.0] * (last + 1)
    # A line stands for a poll: its age, its cost where F is 0, its index. The lines are in the
    # order in which they are lowest as F falls from 1 to 0.
    lines = deque([(ages[last], ages[last] * (1 - survival[last]) - moment[last], last)])
    for k in range(last - 1, -1, -1):
        ended = 1 - survival[k]
        while len(lines) > 1 and _cost(lines[1], ended) <= _cost(lines[0], ended):
            lines.popleft()
        following[k], _, best = lines[0]
        polls[k] = survival[k] + polls[best]
        total = _cost(lines[0], ended) + moment[k] + price * survival[k]
        line = (ages[k], ages[k] * ended - moment[k] + total, k)
        while len(lines) > 1 and _never_lowest(lines[-2], lines[-1], line):
            lines.pop()
        lines.append(line)
    left = [each / max(share, 1e-12) for each, share in zip(polls, survival, strict=True)]
    return Plan(ages, following, left)


_Line = tuple[float, float, int]


def _cost(line: _Line, ended: float) -> float:
    return line[1] - line[0] * ended


def _never_lowest(left: _Line, middle: _Line, right: _Line) -> bool:
    """Whether the middle one of three lines, in order of falling age, is nowhere the lowest."""
    return (right[1] - left[1]) * (left[0] - middle[0]) <= (middle[1] - left[1]) * (
        left[0] - right[0]
    )


def plan_for(
    ages: Sequence[float], survival: Sequence[float], polls: float, price: float, least: float
) -> tuple[Plan, float]:
    """The best plan with about `polls` polls a job, and its price; `price` is a first guess.

    If a poll would have to be cheaper than `least`, the plan has fewer polls.
    """
    price = max(least, price)
    for _ in range(8):
        plan = best_plan(ages, survival, price)
        # Except for the last poll, which each job needs, polls are proportional to 1 / sqrt(price).
        excess = max(0.05, plan.polls - 0.5) / max(0.05, polls - 0.5)
        better = max(least, min(1e6, price * excess**2))
        if abs(excess - 1) < 0.04 or better == price:
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
