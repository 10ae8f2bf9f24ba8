"""When jobs of one kind end, estimated from when polls found them running and found them ended."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Iterable, Sequence

#: Each bin is a hundredth wider than the one before; the last begins at about 150,000 times the
#: first delay of the backoff.
RATIO = 1.01
BINS = 1200
#: The weight of an end after the next one.
FADING = 0.99
#: How many jobs the prior is worth.
PRIOR = 0.1
#: How many ends of each kind are kept.
MEMORY = 300
#: The share of an end distributed by the current estimate; the rest goes by the width of the bins.
KNOWN = 0.8
#: Rounds of expectation maximisation for each plan.
ROUNDS = 1
#: How many bins a plan reaches beyond the highest age seen: to about four times that age.
BEYOND = 140
#: The news, towards a new plan, of a poll that found a job running; that of an end is 1.
NEWS_OF_RUNNING = 0.04
#: The share of the jobs within the smoothing box, and its largest reach in bins to either side.
SMOOTHING = 0.15
WIDEST = 60


class Bins:
    """Ages in bins whose width grows geometrically, from about `unit / 100` seconds."""

    def __init__(self, unit: float) -> None:
        self._unit = unit
        self._log = math.log(RATIO)
        self.starts = [unit * math.expm1(k * self._log) for k in range(BINS + 1)]

    def of(self, age: float) -> int:
        """The bin of an age in seconds; later ages are in the last bin."""
        return int(min(BINS - 1.0, math.log1p(max(0.0, age) / self._unit) / self._log))


class EndTimes:
    """How long jobs of one kind take, as far as polls have shown."""

    def __init__(self, bins: Bins) -> None:
        self._bins = bins
        self._ends: deque[tuple[float, int, int]] = deque(maxlen=MEMORY)  # weight, from, to
        self._risk = array("d", bytes(8 * (BINS + 1)))  # differences from bin to bin
        self._weight = 1.0  # of the next end; it grows, so that old ones weigh less
        self._total = 0.0
        self.last = 0
        self._survival = [1.0]
        self.news = 0.0

    @property
    def count(self) -> float:
        """The total weight of the ends, in jobs; old ones weigh less."""
        return self._total / self._weight

    def running(self, after: float, by: float) -> None:
        """A job that ran at age `after` still ran at age `by`."""
        first, last = self._bins.of(min(after, by)), self._bins.of(by)
        self._risk[first] += self._weight
        self._risk[last] -= self._weight
        self.last = max(self.last, last)
        self.news += NEWS_OF_RUNNING

    def finished(self, after: float, by: float) -> None:
        """A job that ran at age `after` had ended at age `by`."""
        first, last = self._bins.of(min(after, by)), self._bins.of(by) + 1
        self._ends.append((self._weight, first, last))
        self.last = max(self.last, last)
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
        """The share of jobs that outlast the start of each bin, as estimated now."""
        bins = min(BINS, self.last + BEYOND)
        known = self._survival + [self._survival[-1]] * (bins + 1 - len(self._survival))
        for _ in range(ROUNDS):
            known = smoothed(self._estimate(known[: bins + 1]))
        self._survival, self.news = known, 0.0
        return known

    def _estimate(self, known: Sequence[float]) -> list[float]:
        """One round of expectation maximisation: distribute the ends, then compute the hazards."""
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
        """The ends in each bin, and how many of the same jobs are at risk in it.

        An end is distributed over the bins of its interval along a falling curve: in part by the
        current survival, in part by width, so that a new time of ending gets its share. Sums over
        the intervals that contain a bin are running sums of what begins and what stops there.
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
    """Distribute weights over the bins of their intervals as `curve` falls: see `_shared`."""
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
    """Spread the mass of each bin over a box around it that holds the share `SMOOTHING` of all."""
    bins, widest = len(survival) - 1, WIDEST
    # Both ends are repeated, so that a box may reach beyond them.
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
