"""Refusals by chance: how many there are, and how they are told from those of a limit."""

from __future__ import annotations

import math

#: The share of refusals is that of about so many calls.
REMEMBERED_CALLS = 50

#: A larger share is not chance, as nobody could tell it from an outage; a smaller counts as this.
MOST, LEAST = 0.8, 0.01

#: From such odds on (their logarithm) chance is believed in; they never go farther than this.
ENOUGH, MOST_ODDS = 4.0, 10.0

#: How probable a limit makes the refusal of a call that nothing holds back; of one that goes first
#: after a hold; and of one that the limits known allow.
UNHELD, GOES_FIRST, ALLOWED = 0.9, 0.3, 0.03


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    There are two explanations: a limit, or chance, which refuses a share of all calls. Whatever
    happens is more probable by one of them; the logarithms of these ratios add up.

    Attributes:
        is_found: whether refusals are by chance.
    """

    def __init__(self) -> None:
        self.is_found, self._calls = False, 0
        self._share = self._eased_share = self._odds = 0.0

    @property
    def share(self) -> float:
        """The share of calls that is refused by chance."""
        return min(MOST, self._share) if self.is_found else 0.0

    def count(self, by_limit: float | None, *, refused: bool) -> None:
        """A call was answered.

        Args:
            by_limit: how probable its refusal is if a limit is the cause; None if that cannot be
                said, as while few are let in though chance is found.
            refused: whether it was refused.
        """
        self._calls += 1
        self._share += (refused - self._share) / min(self._calls, REMEMBERED_CALLS)
        if by_limit is not None:
            chance = min(max(self._share, LEAST), MOST)
            if by_limit != UNHELD:  # chance that is smaller explains nothing better
                by_limit = min(by_limit, chance)
            ratio = chance / by_limit if refused else (1 - chance) / (1 - by_limit)
            self._odds = min(max(self._odds + math.log(ratio), -MOST_ODDS), MOST_ODDS)
        elif self.is_found:
            self._eased_share = self._share
        most = min(MOST, 2 * self._eased_share + 0.1) if self.is_found else MOST
        if refused and self._share > most:  # an outage; or less pressure brought fewer refusals
            self._odds = min(self._odds, 0.0)
            self.is_found = False
        self.is_found &= self._odds >= 0

    def is_believed(self) -> bool:
        """Whether chance is found, now that a call was accepted."""
        if self._odds > ENOUGH and not self.is_found:
            self.is_found, self._eased_share = True, self._share
        return self.is_found
