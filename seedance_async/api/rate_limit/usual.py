"""How much a server has accepted lately, and whether little is asked of it beside that."""

from __future__ import annotations

import math

#: Calls a second are those of about so many seconds; what was the most is forgotten over so many.
RATE_SECONDS, PEAK_SECONDS = 30.0, 300.0

#: Little is asked at less than this share of the most jobs and of the most calls a second.
FEW_JOBS, FEW_CALLS = 0.7, 0.5

#: Where never so many jobs ran at once, a job less is no sign of anything.
FEWEST_JOBS = 5


class Usual:
    """The most jobs and calls a second that were accepted in the last minutes."""

    def __init__(self) -> None:
        self._at = -math.inf
        self._rate = self._most_calls = self._most_jobs = 0.0
        self._ever_jobs = 0

    def accepted(self, now: float, running: int) -> None:
        """A call was accepted while so many jobs ran."""
        self._forget(now)
        self._rate += 1 / RATE_SECONDS
        self._most_calls = max(self._most_calls, self._rate)
        self._most_jobs = max(self._most_jobs, running)
        self._ever_jobs = max(self._ever_jobs, running)

    def is_far_away(self, now: float, running: int) -> bool:
        """Whether far fewer calls come than usual, and far fewer jobs run."""
        self._forget(now)
        few_calls = self._rate < FEW_CALLS * self._most_calls and self._ever_jobs >= FEWEST_JOBS
        return few_calls and running < FEW_JOBS * self._most_jobs

    def _forget(self, now: float) -> None:
        seconds, self._at = now - self._at, now
        if not seconds:
            return
        self._rate *= math.exp(-seconds / RATE_SECONDS)
        kept = math.exp(-seconds / PEAK_SECONDS)
        self._most_calls, self._most_jobs = kept * self._most_calls, kept * self._most_jobs
