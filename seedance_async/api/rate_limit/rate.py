"""A rate as a budget: whether one more event fits now. It reads no clock and never waits."""

from __future__ import annotations

import math


class RateBudget:
    """At most `rate` events a second over all callers, evenly spaced except for a short burst.

    Pure arithmetic on the time that the caller passes in (the generic cell rate algorithm).
    """

    def __init__(self, rate: float, *, burst_seconds: float = 0.05) -> None:
        self._burst_seconds = burst_seconds
        self._next = -math.inf
        self.rate = rate

    @property
    def rate(self) -> float:
        """Events a second; may be changed at any time."""
        return 1 / self._spacing

    @rate.setter
    def rate(self, rate: float) -> None:
        self._spacing = 1 / rate
        self._slack = max(0.0, self._burst_seconds - self._spacing)

    def wait(self, now: float) -> float:
        """Seconds until one more event fits; 0 where it fits now."""
        return max(0.0, self._next - self._slack - now)

    def spend(self, now: float) -> None:
        """One event happens now."""
        self._next = max(self._next, now) + self._spacing
