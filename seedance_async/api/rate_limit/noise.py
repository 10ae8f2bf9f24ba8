"""Refusals by chance: how many there are, and when there are too many in a row for that."""

from __future__ import annotations

import math
from collections import deque

#: That many refusals in a row are not chance if their probability is less than this.
IMPROBABLE = 1e-6

#: The same for those who go first after a hold.
UNLIKELY = 0.05

#: No larger share is taken for chance: nobody could tell it from an outage.
MOST_NOISE = 0.8

#: The share is judged from that many calls at least, and forgotten after so many more.
FEWEST_CALLS, REMEMBERED_CALLS = 8, 100

#: Less pressure is judged once there were so many refusals, and would have been as many again if it
#: made no difference.
EXPECTED = 4.0

#: The pressure is far below the usual if calls come so many times as slowly as accepted ones did in
#: this time (of which there must have been some). A burst at more calls a second does not count.
LITTLE, USUAL_SECONDS, FEWEST_SECONDS, FASTEST = 10.0, 600.0, 60.0, 50.0

#: It is judged by so many calls, of which so many must have been accepted and so many refused.
LAST_CALLS, OF_EACH = 10, 3


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    At a limit, nearly all calls are refused that were in flight with the first one refused. If most
    of them are accepted, that was chance, unless a low pressure, as after a hold, brings less than
    half as many refusals. Where too few are in flight, it is chance if calls are refused though
    they have become far fewer than usual.
    """

    def __init__(self) -> None:
        self._found = False
        self._refused = self._calls = 0.0  # at full pressure
        self._eased_refused = self._eased = 0.0  # at low pressure
        self._accepted, self._began, self._answered_at = 0.0, math.inf, -math.inf
        self._last: deque[tuple[float, bool]] = deque(maxlen=LAST_CALLS)
        self._in_a_row = 0

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
        return self._in_a_row <= self.longest_run

    def count(self, *, refused: bool, eased: bool) -> None:
        """A call was answered; `eased`: at low pressure."""
        kept = 1 - 1 / REMEMBERED_CALLS
        if eased:
            self._eased_refused = kept * self._eased_refused + refused
            self._eased = kept * self._eased + 1
            self._found = self._found and not self._less_pressure_helps()
        else:
            self._refused = kept * self._refused + refused
            self._calls = kept * self._calls + 1

    def judge(self, refused: int, calls: int, *, last: int, first: int) -> bool:
        """Whether refusals began by chance.

        Args:
            refused: how many of the calls in flight with the first.
            calls: how many these were.
            last: the last of them that were refused, in a row.
            first: refusals of those who went first after a hold.
        """
        mixed = calls >= FEWEST_CALLS and refused <= MOST_NOISE * calls and 2 * last <= refused + 1
        likely = ((refused + 1) / (calls + 1)) ** first > UNLIKELY
        self._found = mixed and likely and not self._less_pressure_helps()
        return self._found

    def pressure_is_no_cause(self, now: float, *, refused: bool) -> bool:
        """A call was answered: whether calls are refused though far fewer come than usual."""
        self._in_a_row = self._in_a_row + 1 if refused else 0
        self._count_usual(now, refused=refused)
        usual = self._accepted / min(max(now - self._began, FEWEST_SECONDS), USUAL_SECONDS)
        seconds, count = now - self._last[0][0], self._last_refused()
        mixed = OF_EACH <= count <= len(self._last) - OF_EACH
        return mixed and seconds * usual >= LITTLE * len(self._last)

    def find(self) -> None:
        """The last refusals were by chance."""
        self._refused, self._calls = float(self._last_refused()), float(len(self._last))
        self._found = True

    def _last_refused(self) -> int:
        return sum(refused for _, refused in self._last)

    def _count_usual(self, now: float, *, refused: bool) -> None:
        gap, self._answered_at = now - self._answered_at, now
        self._began = min(self._began, now)
        self._accepted *= math.exp(-gap / USUAL_SECONDS)
        self._accepted += 0.0 if refused else min(1.0, gap * FASTEST)
        self._last.append((now, refused))

    def _less_pressure_helps(self) -> bool:
        expected = self._eased * self._refused / max(1.0, self._calls)
        enough = min(expected, self._refused) >= EXPECTED
        return enough and self._eased_refused < expected / 4
