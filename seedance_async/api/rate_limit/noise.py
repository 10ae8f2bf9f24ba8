"""Refusals by chance: how many there are, and when there are too many in a row for that."""

from __future__ import annotations

import math
from collections import deque

#: That many refusals in a row are not chance if their probability is less than this.
IMPROBABLE = 1e-6

#: No larger share is taken for chance: nobody could tell it from an outage.
MOST_NOISE = 0.8

#: The share is judged from that many calls at least, and forgotten after so many more.
FEWEST_CALLS, REMEMBERED_CALLS = 8, 100

#: Less pressure is judged once so many refusals would have come if it made no difference.
EXPECTED = 8.0

USUAL_SECONDS, FASTEST, LITTLE, MIXED = 600.0, 50.0, 10.0, 3


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    At a limit, nearly all calls are refused that were in flight with the first one refused. If most
    of them are accepted, that was chance, unless a low pressure, as after a hold, brings less than
    half as many refusals.
    """

    def __init__(self) -> None:
        self._refused = self._calls = 0.0  # of late
        self._eased_refused = self._eased = 0.0  # at low pressure
        self._found = False
        self._accepted, self._began, self._answered_at = 0.0, math.inf, -math.inf
        self._last: deque[tuple[float, bool]] = deque(maxlen=10)
        self.in_a_row = 0

    @property
    def share(self) -> float:
        """The share of calls that is refused whatever we do."""
        return min(MOST_NOISE, self._refused / self._calls) if self._found else 0.0

    @property
    def longest_run(self) -> int:
        """How many refusals in a row it explains."""
        share = self.share
        return int(math.log(IMPROBABLE) / math.log(share)) if share else 0

    @property
    def explains_run(self) -> bool:
        """Whether the last refusals in a row may be chance."""
        return self.in_a_row <= self.longest_run

    def count(self, *, refused: bool, eased: bool) -> None:
        """A call was answered; `eased`: at low pressure."""
        if eased:
            self._eased_refused += refused
            self._eased += 1
        if not eased or self._found:
            kept = 1 - 1 / REMEMBERED_CALLS
            self._refused = kept * self._refused + refused
            self._calls = kept * self._calls + 1

    def judge(self, refused: int, calls: int, last: int, rounds: int) -> bool:
        """Whether refusals began by chance: of the calls in flight, so many were refused, the `last` ones in a row."""
        enough = calls >= FEWEST_CALLS
        by_chance = enough and refused <= MOST_NOISE * calls and 2 * last <= refused + 1
        by_chance = by_chance and ((refused + 1) / (calls + 1)) ** (rounds - 1) > 0.01
        self._found = by_chance and not self._is_refuted()
        return self._found

    def unaffected(self, now: float, *, refused: bool) -> bool:
        """A call was answered: whether far less pressure than usual turns out to change nothing."""
        gap, self._answered_at = now - self._answered_at, now
        self._began = min(self._began, now)
        self._accepted *= math.exp(-gap / USUAL_SECONDS)
        self._accepted += 0.0 if refused else min(1.0, gap * FASTEST)
        self._last.append((now, refused))
        usual = self._accepted / min(max(now - self._began, 60.0), USUAL_SECONDS)
        usually = (now - self._last[0][0]) * usual
        count = sum(refused for _, refused in self._last)
        if usually < LITTLE * len(self._last) or not MIXED <= count <= len(self._last) - MIXED:
            return False
        self._refused, self._calls, self._found = float(count), float(len(self._last)), True
        return True

    def _is_refuted(self) -> bool:
        expected = self._eased * self._refused / max(1.0, self._calls)
        return expected >= EXPECTED and self._eased_refused < expected / 2
