"""The limits that can be learned from a server's refusals: a rate, and a number of jobs at once.

Pure arithmetic on the times and counts that are passed in. What a refusal was about is judged in
`learned`.
"""

from __future__ import annotations

import math

from seedance_async.api.rate_limit.rate import RateBudget

#: A rate is computed from at least this many calls accepted between two refusals, if at least such
#: a share of them was held by the gate: else it shows how many calls there were to make.
ENOUGH, BUSY = 5, 0.8

#: After a refusal the pace is a little below the rate found, and back at it after the time of so
#: many calls, within these seconds; the limit is forgotten at so many times the rate found.
BELOW, QUIET_CALLS, SHORTEST_QUIET, LONGEST_QUIET, NO_LIMIT = 0.04, 10, 10.0, 30.0, 30

#: It falls at most to this share at once.
FALL = 0.6

#: One job above the limit is tried after this time, if so many jobs were accepted in it, and in any
#: case after the longer one; while a full server refuses, after the last.
PROBE_SECONDS, PROBE_CALLS, LONGEST_PROBE, PATIENCE = 90.0, 20, 300.0, 60.0

#: The number of running jobs may be wrong by this share: polls report their ends late.
SLACK = 0.02


class LearnedRate:
    """Calls a second.

    At a refusal the server's quota is used up. So the calls accepted between two refusals, divided
    by the time between them, are the rate it allows, whatever burst it allows. From just below that
    rate the pace rises with time, slowly at first as in CUBIC congestion control, then past the
    rate found, then ever faster, until the next refusal or until the limit is forgotten.

    Attributes:
        found: calls a second that the server seems to allow.
        pace: calls a second now; None while no such limit is known.

    Args:
        slowest: calls a second that the pace never falls below.
    """

    def __init__(self, slowest: float) -> None:
        self.pace: float | None = None
        self._slowest, self._budget = slowest, RateBudget(slowest)
        self.found = self._rises_from = 0.0
        self._quiet = SHORTEST_QUIET
        self._empty_at: float | None = None
        self._accepted = self._pressed = 0

    @property
    def is_below(self) -> bool:
        """Whether the pace is below what the server allows, or no limit is known."""
        return self.pace is None or self.pace <= self.found

    def wait(self, now: float) -> float:
        """Seconds until one more call fits."""
        if self.pace is None:
            return 0.0
        rise = 1 - BELOW + BELOW * ((now - self._rises_from) / self._quiet) ** 4
        if rise > NO_LIMIT:
            self.pace = self._empty_at = None
            return 0.0
        self.pace = self._budget.rate = max(self._slowest, self.found * rise)
        return self._budget.wait(now)

    def spend(self, now: float) -> None:
        """One call is sent now."""
        if self.pace is not None:
            self._budget.spend(now)

    def accepted(self, *, pressed: bool) -> None:
        """The server accepted a call; `pressed`: others waited, so that the pace held them."""
        self._accepted += 1
        self._pressed += pressed

    def explains(self, seconds: float) -> bool:
        """Whether refusals over this time can be about the rate, even if it fell a lot."""
        if self.pace is not None:
            return seconds * self.found <= 10
        return seconds <= (5 if self._empty_at is None else 30)

    def settle(self, since: float, now: float) -> None:
        """Refusals since then were about the rate: the next call, now, was accepted."""
        accepted, busy = self._accepted - 1, self._pressed >= BUSY * self._accepted
        if self._empty_at is not None and busy and accepted >= ENOUGH:
            self._learn(accepted / max(since - self._empty_at, 1e-3))
        if self._empty_at is None or accepted >= ENOUGH or not busy:
            self._empty_at, self._accepted, self._pressed = since, 1, 1
        self._rises_from = now
        self._quiet = max(self._quiet, min(3 * (now - since), 2 * LONGEST_QUIET))

    def dismiss(self) -> None:
        """The refusal was about something else, so the rate may be higher than it seemed."""
        self._empty_at = None

    def _learn(self, rate: float) -> None:
        if self.pace is not None and self.is_below:  # it fell, or never was what it seemed
            rate = max(min(self.pace, rate), FALL * self.pace)
        self.found = self.pace = max(rate, self._slowest)
        self._quiet = min(max(QUIET_CALLS / self.found, SHORTEST_QUIET), LONGEST_QUIET)


class LearnedJobs:
    """Concurrent jobs.

    The number running at a refusal is the limit. One more is tried now and then; each one accepted
    raises the limit, ever faster. If the server still refuses though jobs have ended, its limit was
    lowered: then ours falls by twice as much each time, and climbs back from there.

    Attributes:
        limit: jobs at once; None while no such limit is known.
        before: the same as it was when the refusals began.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.before: int | None = None
        self._base = self._falls = self._accepted = 0
        self._lowered_at, self._probe_at = -math.inf, math.inf

    def wait(self, occupied: int, in_flight: int, now: float) -> float:
        """Seconds until one more fits; inf if only an answer or the end of a job makes room.

        Args:
            occupied: running jobs and calls in flight, each of which may become a job.
            in_flight: those calls alone.
            now: the time.
        """
        if self.limit is None:
            return 0.0
        more = 1 + (self.limit - self._base) // 8 if now >= self._probe_at else 0
        if occupied < self.limit + more:
            return 0.0
        waits_for_time = occupied == self.limit or not in_flight
        return max(0.0, self._probe_at - now) if waits_for_time else math.inf

    def allows(self, occupied: int) -> bool:
        """Whether one more job is fewer than those at which jobs were refused last."""
        return self.limit is None or occupied < self._base

    def accepted(self, running: int, now: float) -> None:
        """The server accepted a job; `running` includes it."""
        self._accepted += 1
        if self.limit is not None:
            self.limit = max(self.limit, running)
            if self._accepted == PROBE_CALLS:
                self._probe_at = min(self._probe_at, max(now, self._lowered_at + PROBE_SECONDS))

    def refused(self, running: int, before: int | None, now: float) -> None:
        """The server refused a job while `running` ran; `before`: at the refusal before, if any."""
        if before is None:
            self.before, self._falls = self.limit, 0
        elif running < before:
            self._falls += 1
        if self.limit is not None:
            fall = round(SLACK * running) + (4**self._falls - 1) // 4
            self._lower(min(self.limit, running - fall), now, now + PATIENCE)

    def settle(self, running: int, now: float, *, sure: bool = True) -> None:
        """The refusal was about so many running jobs; if that is not sure, more are tried."""
        if self.limit is None:
            self._lower(running, now, now)
        self._probe_at = now if self._falls or not sure else now + LONGEST_PROBE

    def dismiss(self) -> None:
        """The refusal was about something else."""
        self.limit = self.before

    def _lower(self, limit: int, now: float, probe_at: float) -> None:
        self.limit = self._base = max(1, limit)
        self._lowered_at, self._probe_at, self._accepted = now, probe_at, 0
