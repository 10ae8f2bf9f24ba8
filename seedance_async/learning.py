"""When to ask after a job: poll times that are learnt from when jobs of its kind have ended.

Pure arithmetic: no clock, no waiting, no I/O; randomness is passed in. A kind is whatever the
caller takes for alike (model, duration, resolution, mode). The planner proposes delays; deadlines,
the rate budget and a server's own hint are the poller's.

**What is known of an end** is an interval: not ended at the last poll that showed the job running,
ended at the next. Ages are put into bins that grow geometrically, and each bin has its hazard: ends
in it, divided by the jobs at risk in it. Jobs still running count as at risk, so the first ends of
a burst are not taken for all of it. An end is shared among the bins of its interval mostly by the
density known so far, one round of expectation and maximisation for each plan, and the density is
smoothed by a box as wide as holds a seventh of the jobs (EMS; Silverman and others, 1990). A prior
worth a tenth of a job says "as long again as it has run", and keeps every hazard above zero.

**Where the polls go.** With survival S, a price p in seconds for a poll, and polls at t1 < t2 < …,
the cost of a job is E[lag] + p E[polls], and from age t the best next poll is

    V(t) = p S(t) + min over u > t of  ∫ from t to u of (u - x) dF(x)  +  V(u)

For each u that is a line in F(t), of slope -u, so one pass from the right over a stack of lines
(the lower envelope) finds all of them: exact, and linear in the bins. The price is set so that
E[polls] is what plain backoff would spend on the same S: nobody polls more than with backoff, and
each poll is put where it tells most. Where S is wrong more polls may be made; an account of them
makes the next plans spend less.

**When the service changes,** nothing special happens. Slower: jobs that outlast the old end are at
risk without ending, so the hazard there falls with every poll. Faster: a job that ends before its
first, late poll is seen at that poll; a part of its end goes to all the time before, and polls move
there, so no polls are spent on exploring. Old jobs fade with each new end.

**Bounds,** whatever the times are, an adversary's included: a delay, and so a lag, is never above
`stretch` times the backoff's maximum; none is below the backoff's floor and a quarter of its first
delay; and a job that has been polled twice as often as plain backoff would have (and four times
more) gets plain backoff. So does a kind of which fewer than `ENOUGH` jobs count, and a job that has
outlived all plans.
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence

import attrs

from seedance_async.backoff import Backoff

#: Each bin is a hundredth longer than the one before; the last begins at 150,000 times the first
#: delay of the backoff.
RATIO = 1.01
BINS = 1200
#: A kind is planned for once this many jobs count.
ENOUGH = 12.0
#: What a job counts after the end of the next one.
FADING = 0.99
#: How many jobs the prior is worth.
PRIOR = 0.1
#: How many ends are kept for each kind.
MEMORY = 300
#: The share of an end that goes by what is known already, the rest going by width.
KNOWN = 0.8
#: Rounds of expectation and maximisation whenever a plan is made.
ROUNDS = 1
#: How many bins a plan reaches beyond the highest age seen: four times that age.
BEYOND = 140
#: What a poll without an end counts against an end, for making a new plan.
NEWS_OF_RUNNING = 0.04
#: The share of the mass that the box of the smoothing holds, and its widest reach in bins.
SMOOTHING = 0.15
WIDEST = 60
#: What a poll counts after the next one, in the account of polls against plain backoff's.
ACCOUNT_FADING = 0.9998
#: A plan never has fewer polls than this share of plain backoff's for having had too many.
LEAST_SHARE = 0.7
#: The bins are thinned for a plan: neighbours differ by this share of the jobs or of the age.
STEP_MASS = 0.008
STEP_AGE = 1.05


class Bins:
    """Ages in bins that grow geometrically from a first width of about `unit / 100` seconds."""

    def __init__(self, unit: float) -> None:
        self._unit = unit
        self._log = math.log(RATIO)
        self.starts = [unit * math.expm1(k * self._log) for k in range(BINS + 1)]

    def of(self, age: float) -> int:
        """The bin of an age in seconds; what is later than the last bin is in the last."""
        return int(min(BINS - 1.0, math.log1p(max(0.0, age) / self._unit) / self._log))


class FinishTimes:
    """How long jobs of one kind take, as far as polls have told."""

    def __init__(self, bins: Bins) -> None:
        self._bins = bins
        self._ends: deque[tuple[float, int, int]] = deque(maxlen=MEMORY)  # weight, from, to
        self._risk = array("d", bytes(8 * (BINS + 1)))  # differences from bin to bin
        self._weight = 1.0  # of the next end; it grows, so that the old ones fade
        self._total = 0.0
        self._last = 0
        self._survival = [1.0]
        self.news = 0.0

    @property
    def count(self) -> float:
        """How many jobs what is known is worth: old ones count less."""
        return self._total / self._weight

    def running(self, after: float, by: float) -> None:
        """A job that ran at age `after` still ran at age `by`."""
        first, last = self._bins.of(min(after, by)), self._bins.of(by)
        self._risk[first] += self._weight
        self._risk[last] -= self._weight
        self._last = max(self._last, last)
        self.news += NEWS_OF_RUNNING

    def finished(self, after: float, by: float) -> None:
        """A job that ran at age `after` had ended at age `by`."""
        first, last = self._bins.of(min(after, by)), self._bins.of(by) + 1
        self._ends.append((self._weight, first, last))
        self._last = max(self._last, last)
        self._total += self._weight
        self._weight /= FADING
        self.news += 1
        if self._weight > 1e9:
            self._rescale()

    def _rescale(self) -> None:
        scale, self._weight = 1 / self._weight, 1.0
        self._total *= scale
        self._risk = array("d", [value * scale for value in self._risk])
        self._ends = deque(((w * scale, a, b) for w, a, b in self._ends), maxlen=MEMORY)

    def survival(self) -> list[float]:
        """The share of jobs that outlast the start of each bin, by all that is known now."""
        bins = min(BINS, self._last + BEYOND)
        known = self._survival + [self._survival[-1]] * (bins + 1 - len(self._survival))
        for _ in range(ROUNDS):
            known = smoothed(self._estimate(known[: bins + 1]))
        self._survival, self.news = known, 0.0
        return known

    def _estimate(self, known: Sequence[float]) -> list[float]:
        """One round of expectation and maximisation: share the ends out, then take hazards."""
        bins = len(known) - 1
        ends, risk = self._shared(known)
        prior = PRIOR * self._weight
        result, running = [1.0], 0.0
        for k in range(bins):
            running += self._risk[k]
            hazard = (ends[k] + prior * (1 - 1 / RATIO)) / (max(0.0, running) + risk[k] + prior)
            result.append(result[-1] * max(0.0, 1 - hazard))
        return result

    def _shared(self, known: Sequence[float]) -> tuple[list[float], list[float]]:
        """The ends in each bin, and those of the same jobs that are at risk in it.

        An end is shared among the bins of its interval by a falling curve: in part by the survival
        known so far, in part by width, so that what is new has a chance. Sums over the intervals
        that hold a bin are taken as running sums of what begins and what stops there.
        """
        by_known, by_width = [], []
        for weight, first, last in self._ends:
            part = KNOWN if known[first] - known[last] > 1e-9 else 0.0
            by_known.append((weight * part, first, last))
            by_width.append((weight * (1 - part), first, last))
        widths = [-start for start in self._bins.starts[: len(known)]]
        ends, risk = shared(known, by_known)
        more_ends, more_risk = shared(widths, by_width)
        return (
            [one + other for one, other in zip(ends, more_ends, strict=True)],
            [one + other for one, other in zip(risk, more_risk, strict=True)],
        )


def shared(
    curve: Sequence[float], intervals: Iterable[tuple[float, int, int]]
) -> tuple[list[float], list[float]]:
    """Share weights among the bins of their intervals as a falling curve falls: see `_shared`."""
    bins = len(curve) - 1
    rates, floors = [0.0] * (bins + 1), [0.0] * (bins + 1)
    for weight, first, last in intervals:
        if weight:
            rate = weight / (curve[first] - curve[last])
            rates[first] += rate
            rates[last] -= rate
            floors[first] += rate * curve[last]
            floors[last] -= rate * curve[last]
    ends, risk = [], []
    rate = floor = 0.0
    for k in range(bins):
        rate += rates[k]
        floor += floors[k]
        ends.append(max(0.0, rate * (curve[k] - curve[k + 1])))
        risk.append(max(0.0, rate * curve[k] - floor))
    return ends, risk


def smoothed(survival: Sequence[float]) -> list[float]:
    """Spread the mass of each bin over a box around it that holds the share `SMOOTHING`."""
    bins, widest = len(survival) - 1, WIDEST
    # Ends repeated, so that a box may reach beyond them.
    padded = [1.0] * widest + list(survival) + [survival[-1]] * (widest + 1)
    change = [0.0] * (bins + 2 * widest + 2)
    reach = 0
    for k in range(widest, widest + bins):
        while reach > 0 and padded[k - reach + 1] - padded[k + reach] >= SMOOTHING:
            reach -= 1
        while reach < widest and padded[k - reach] - padded[k + reach + 1] < SMOOTHING:
            reach += 1
        share = (padded[k] - padded[k + 1]) / (2 * reach + 1)
        change[k - reach] += share
        change[k + reach + 1] -= share
    density = sum(change[:widest])
    result, left = [1.0], 1.0
    for k in range(widest, widest + bins):
        density += change[k]
        left = max(0.0, left - density)
        result.append(left)
    return result


@attrs.frozen
class Plan:
    """From each of these ages, the age of the next poll; `polls` is the mean number for a job."""

    ages: Sequence[float]
    following: Sequence[float]
    polls: float

    def next_poll(self, age: float) -> float:
        """The age of the poll after `age`, between the ages of the plan by interpolation."""
        right = bisect_right(self.ages, age)
        if right >= len(self.ages):
            return math.inf
        start, end = self.ages[right - 1], self.ages[right]
        first, last = self.following[right - 1], self.following[right]
        return first + (last - first) * (age - start) / (end - start)


def best_plan(ages: Sequence[float], survival: Sequence[float], price: float) -> Plan:
    """The plan of the least E[lag] + price E[polls], with polls at these ages only.

    Args:
        ages: seconds, rising, the first 0.
        survival: the share of jobs that outlast each age; the last counts as none.
        price: of one poll, in seconds of lag.
    """
    last = len(ages) - 1
    moment = [0.0]  # the integral of x dF(x), each step's mass in its middle
    for k in range(last):
        middle = (ages[k] + ages[k + 1]) / 2
        moment.append(moment[-1] + (survival[k] - survival[k + 1]) * middle)
    following, polls = [ages[last]] * (last + 1), [0.0] * (last + 1)
    # A line stands for a poll: its age, its cost where F is 0, its place. They are kept in the
    # order in which they are best as F falls from 1 to 0.
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
    return Plan(ages, following, polls[0])


_Line = tuple[float, float, int]


def _cost(line: _Line, ended: float) -> float:
    return line[1] - line[0] * ended


def _never_lowest(left: _Line, middle: _Line, right: _Line) -> bool:
    """Whether, of three lines of falling age, the middle one is nowhere the lowest."""
    return (right[1] - left[1]) * (left[0] - middle[0]) <= (middle[1] - left[1]) * (
        left[0] - right[0]
    )


def plan_for(
    ages: Sequence[float], survival: Sequence[float], polls: float, price: float
) -> tuple[Plan, float]:
    """The best plan of about so many polls a job, and its price; `price` is a first guess."""
    for _ in range(8):
        plan = best_plan(ages, survival, price)
        # Away from the last poll, which each job needs, polls go with 1 / sqrt(price).
        excess = max(0.05, plan.polls - 0.5) / max(0.05, polls - 0.5)
        if abs(excess - 1) < 0.04:
            break
        price = min(1e6, max(1e-6, price * excess**2))
    return plan, price


@attrs.define(eq=False)
class _Kind:
    times: FinishTimes
    plan: Plan | None = None
    price: float = 1.0
    polls: float = 0.0
    plain_polls: float = 0.0

    def account(self, plain_polls: float) -> None:
        """Book one poll, and how many plain backoff would have made in the same time."""
        self.polls = self.polls * ACCOUNT_FADING + 1
        self.plain_polls = self.plain_polls * ACCOUNT_FADING + max(0.0, plain_polls)

    def share(self) -> float:
        """What a plan may spend of plain backoff's polls, so that more than these are made up."""
        return min(1.0, max(LEAST_SHARE, (self.plain_polls / max(1.0, self.polls)) ** 2))


class PollPlanner:
    """Proposes when a job is polled next, by what it was told of others of its kind.

    Args:
        backoff: what a kind not yet known gets, the measure of how many polls a job may take, and
            the source of floor and jitter.
        stretch: no proposed delay is above this many times `backoff.maximum`, at least 1.
        kinds: how many kinds are remembered; the one not heard of for longest is forgotten.
    """

    def __init__(self, backoff: Backoff, *, stretch: float = 4.0, kinds: int = 64) -> None:
        self._backoff = backoff
        self._least = max(backoff.floor, backoff.initial / 4)
        self._most = max(self._least, backoff.maximum * stretch)
        self._remembered = kinds
        self._bins = Bins(min(1e6, max(1e-6, backoff.initial)))
        self._plain = _PlainPolls(backoff)
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kinds)

    def running(self, kind: Hashable, after: float, by: float) -> None:
        """Take in that a job known to run at age `after` (0 at first) still ran at age `by`."""
        known, after = self._of(kind), min(after, by)
        known.times.running(after, by)
        known.account(self._plain.by(by) - self._plain.by(after))

    def finished(self, kind: Hashable, after: float, by: float) -> None:
        """Take in that a job known to run at age `after` (0 at first) had ended at age `by`."""
        known, after = self._of(kind), min(after, by)
        known.times.finished(after, by)
        middle = after + (by - after) / 2
        known.account(self._plain.by(middle) - self._plain.by(after) + 0.5)

    def delay(self, kind: Hashable, age: float, polls: int, rng: random.Random) -> float:
        """Seconds until the next poll of a job.

        Args:
            kind: what the job is alike to.
            age: seconds since it was accepted.
            polls: how often it was polled since without news of its end.
            rng: the source of jitter.
        """
        plan = self._plan(kind)
        too_many = polls > 4 + 2 * self._plain.by(age)
        if plan is None or too_many or age >= plan.ages[-2]:
            return self._backoff.delay(polls, rng)
        then = plan.next_poll(age)
        spacing = min(then - age, max(0.0, plan.next_poll(then) - then))
        wait = then - age + self._backoff.jitter * (rng.random() - 0.5) * spacing
        return min(self._most, max(self._least, wait))

    def _of(self, kind: Hashable) -> _Kind:
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind(FinishTimes(self._bins))
            if len(self._kinds) > self._remembered:
                self._kinds.popitem(last=False)
        self._kinds.move_to_end(kind)
        return known

    def _plan(self, kind: Hashable) -> Plan | None:
        known = self._kinds.get(kind)
        if known is None or known.times.count < ENOUGH:
            return None
        if known.plan is None or known.times.news > max(4.0, known.times.count / 4):
            self._make_plan(known)
        return known.plan

    def _make_plan(self, known: _Kind) -> None:
        survival = known.times.survival()
        starts = self._bins.starts
        polls = sum(
            (survival[k] - survival[k + 1]) * self._plain.by(starts[k + 1])
            for k in range(len(survival) - 1)
        )
        polls = max(1.05, known.share() * (polls + 0.5))
        chosen = thinned(starts, survival)
        known.plan, known.price = plan_for(
            [starts[k] for k in chosen], [survival[k] for k in chosen], polls, known.price
        )


def thinned(ages: Sequence[float], survival: Sequence[float]) -> list[int]:
    """The bins whose starts a plan needs: more where more jobs end."""
    chosen = [0]
    for k in range(1, len(survival)):
        before = chosen[-1]
        mass = survival[before] - survival[k]
        if mass >= STEP_MASS or ages[k] >= STEP_AGE * ages[before] or k == len(survival) - 1:
            chosen.append(k)
    return chosen


class _PlainPolls:
    """How often plain backoff has polled a job by an age, on average and between polls in parts."""

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
