"""Refusals by chance: how many there are, and when there are too many in a row for that."""

from __future__ import annotations

import math

#: That many refusals in a row are not chance if their probability is less than this.
IMPROBABLE = 1e-4

#: No larger share is taken for chance: nobody could tell it from an outage.
MOST_NOISE = 0.8

#: The share is judged from that many calls at least, and forgotten after so many more.
FEWEST_CALLS, REMEMBERED_CALLS = 5, 100

#: Less pressure is judged once so many refusals would have come if it made no difference.
EXPECTED = 8.0


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    At a limit, nearly all calls are refused that were in flight with the first one refused. If most
    of them are accepted, that was chance, unless a low pressure, as after a hold, brings less than
    half as many refusals.
    """

    def __init__(self) -> None:
        self._refused = self._calls = 0.0  # at full pressure
        self._expected = self._eased = 0.0  # at low pressure
        self._in_a_row = 0
        self._found = False

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
    def is_refuted(self) -> bool:
        """Whether less pressure brought fewer refusals."""
        return self._expected >= EXPECTED and self._eased < self._expected / 2

    def count(self, *, refused: bool, eased: bool) -> None:
        """A call was answered while no limit was known; `eased`: at low pressure."""
        if not eased:
            kept = 1 - 1 / REMEMBERED_CALLS
            self._refused = kept * self._refused + refused
            self._calls = kept * self._calls + 1
        elif self._found:
            self._expected += self.share
            self._eased += refused
            self._found = not self.is_refuted

    def explains_refusal(self) -> bool:
        """One more call was refused: whether that may be chance."""
        self._in_a_row += 1
        return self._in_a_row <= self.longest_run

    def accepted(self) -> None:
        """A call was accepted."""
        self._in_a_row = 0

    def explains(self, refused: int, calls: int) -> bool:
        """Whether refusals began by chance, as so many of the calls in flight were refused."""
        by_chance = calls >= FEWEST_CALLS and refused <= MOST_NOISE * calls
        if not by_chance or self.is_refuted:
            return False
        if not self._found:
            self._expected = self._eased = 0.0
        self._found = self._refused > 0
        return True

    def forget(self) -> None:
        """What was found of pressure is out of date."""
        self._expected = self._eased = 0.0
