"""Refusals that no limit explains: how many there are, and when there are too many for that."""

from __future__ import annotations

import math

#: The share of calls that a server refuses while a limit is clearly exceeded.
OVERLOAD = 0.95

#: Noise is at least and at most so much: nobody can tell a larger share from an outage.
LEAST_NOISE, MOST_NOISE = 0.0002, 0.75

#: Less than this share of noise may be chance.
SLIGHT_NOISE = 0.005

#: Refusals are about our pressure if they are e to this power as likely then as by noise.
CERTAINTY = 6.0

#: The same where we knowingly ask for more than was allowed before.
CERTAINTY_ABOVE = 4.5

#: The limit found is none if so many more calls were accepted than it and any burst would allow.
REFUTED = 20.0

#: Calls by which noise is forgotten, and calls without refusals that are assumed before the first.
REMEMBERED_CALLS, ASSUMED_CALLS = 64, 8


class Noise:
    """Refusals that have nothing to do with how much we ask for.

    Their share is that of the calls refused while we asked for less than the server had allowed:
    if less pressure does not bring fewer refusals, then pressure is not their cause. A sequential
    test compares each run of refusals with that share, and says when they are too many for it.
    """

    def __init__(self) -> None:
        self._refused = self._calls = self._evidence = self._against = 0.0

    @property
    def share(self) -> float:
        """The share of calls that is refused whatever we do."""
        return self._refused / (self._calls + ASSUMED_CALLS)

    @property
    def longest_run(self) -> int:
        """How many refusals in a row it explains."""
        return int(CERTAINTY / math.log(OVERLOAD / self._bounded))

    def accepted(self, overload: float, *, counts: bool) -> None:
        """A call was accepted.

        Args:
            overload: the share of calls that would be refused now if our pressure were the cause.
            counts: whether we asked for less than the server had allowed.
        """
        if counts and not self._evidence and not self._refused:
            self._against = 0.0
            return
        doubt = min(0.0, math.log((1 - overload) / (1 - self._bounded)))
        self._evidence = max(0.0, self._evidence + doubt)
        self._against = 0.0 if counts else self._against + doubt
        self._count(0.0, counts=counts and self._refused > 0)

    def explains_refusal(self, overload: float, *, counts: bool) -> bool:
        """One more call was refused: whether that still is noise. As `accepted`."""
        more = max(0.0, math.log(overload / self._bounded))
        self._evidence += more
        self._against = min(0.0, self._against + more)
        if self._evidence >= (CERTAINTY if counts else CERTAINTY_ABOVE):
            self._evidence = self._against = 0.0
            return False
        self._count(1.0, counts=counts)
        return True

    def refutes_limit(self) -> bool:
        """Whether far more was accepted than the limit that we exceed would have allowed."""
        if self._against > -REFUTED:
            return False
        self._against = 0.0
        return True

    def contradicted(self) -> None:
        """A call was refused that every known limit would have allowed."""
        self._count(1.0, counts=True)

    @property
    def _bounded(self) -> float:
        share = self.share
        return LEAST_NOISE if share < SLIGHT_NOISE else min(MOST_NOISE, share)

    def _count(self, refused: float, *, counts: bool) -> None:
        if counts:
            kept = 1 - 1 / REMEMBERED_CALLS
            self._refused = kept * self._refused + refused
            self._calls = kept * self._calls + 1
