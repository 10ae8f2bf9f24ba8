"""Refusals by chance: how many there are, and how they are told from those of a limit."""

from __future__ import annotations

import math

#: The share of refusals is that of about so many calls.
REMEMBERED_CALLS = 50

#: Less pressure is judged by about so many calls, once so many refusals would be expected among
#: them if it made no difference.
REMEMBERED_PRESSURE, EXPECTED = 100, 4.0

#: A larger share is not chance, as nobody could tell it from an outage; a smaller counts as this.
MOST_NOISE, LEAST_NOISE = 0.8, 0.01

#: That many refusals in a row are not chance if their probability is less than this.
IMPROBABLE = 1e-6

#: From such odds on (their logarithm) chance is believed in; each time that this proves wrong, it
#: takes twice as much. They never go farther than MOST_ODDS.
ENOUGH, MOST_ODDS = 4.0, 6.0

#: Beside the probability by chance, that of the refusal of a call that the limits found allow.
ALLOWED = 0.1


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    There are two explanations: a limit, or chance, which refuses a share of all calls. Whatever
    happens is more probable by one of them; the logarithms of these ratios add up. Once chance is
    far ahead, it is found, until it cannot explain a run of refusals, or fewer calls at once bring
    fewer of them.

    Attributes:
        is_found: whether refusals are by chance.
        accepted_in_a_row: calls accepted since the last refusal.
    """

    def __init__(self) -> None:
        self.is_found = False
        self._share, self._calls = 0.0, 0
        self._in_a_row = self.accepted_in_a_row = 0
        self._share_before = LEAST_NOISE
        self._odds, self._enough = 0.0, ENOUGH
        self._refused, self._calls_at = [0.0, 0.0], [0.0, 0.0]  # at full and at low pressure

    @property
    def share(self) -> float:
        """The share of calls that is refused by chance."""
        return min(MOST_NOISE, self._share) if self.is_found else 0.0

    def count(self, by_limit: float | None, *, refused: bool) -> None:
        """A call was answered.

        Args:
            by_limit: how probable its refusal is if a limit is the cause; 0 if the limits found
                allow it, None if that cannot be said.
            refused: whether it was refused.
        """
        self._calls += 1
        self._share += (refused - self._share) / min(self._calls, REMEMBERED_CALLS)
        by_chance = min(max(self._share, LEAST_NOISE), MOST_NOISE)
        self._in_a_row = self._in_a_row + 1 if refused else 0
        self.accepted_in_a_row = 0 if refused else self.accepted_in_a_row + 1
        if not refused:
            self._share_before = by_chance
        if by_limit is not None and not self.is_found:
            by_limit = by_limit or ALLOWED * by_chance
            ratio = by_chance / by_limit if refused else (1 - by_chance) / (1 - by_limit)
            self._odds = min(max(self._odds + math.log(ratio), -MOST_ODDS), 2 * self._enough)

    def is_believed(self) -> bool:
        """Whether chance is found, now that a call was accepted."""
        self.is_found = (self.is_found or self._odds > self._enough) and not self._less_helps()
        return self.is_found

    def explains(self) -> bool:
        """Whether the last refusal was by chance."""
        probability = self._share_before**self._in_a_row
        if self.is_found and (self._share > MOST_NOISE or probability < IMPROBABLE):
            self.is_found, self._odds, self._enough = False, 0.0, 2 * self._enough
        return self.is_found

    def compare(self, *, refused: bool, eased: bool) -> None:
        """A call was answered; `eased`: while far fewer were let in than wanted to."""
        self._refused[eased] += refused - self._refused[eased] / REMEMBERED_PRESSURE
        self._calls_at[eased] += 1 - self._calls_at[eased] / REMEMBERED_PRESSURE

    def _less_helps(self) -> bool:
        """Whether less pressure brings fewer refusals."""
        expected = self._calls_at[True] * self._refused[False] / max(1.0, self._calls_at[False])
        return min(expected, self._refused[False]) >= EXPECTED and (
            self._refused[True] < expected / 4
        )
