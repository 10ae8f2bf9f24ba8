"""The limits that can be learned from a server's refusals: a rate, and a number of jobs at once.

Pure arithmetic on the times and counts that are passed in. What a refusal was about is judged in
`learned`.
"""

from __future__ import annotations

import math
from collections import deque

from seedance_async.api.rate_limit.rate import RateBudget

#: A rate is computed from at least this many calls accepted between two refusals.
ENOUGH = 5

#: The last rate is that of so many calls.
RECENT_CALLS = 20

#: The pace is back at the rate found after the time of this many calls, within these seconds.
QUIET_CALLS, SHORTEST_QUIET, LONGEST_QUIET = 15, 12.0, 60.0

#: The limit is forgotten once the pace reaches this many times the rate found.
NO_LIMIT = 30

#: It falls at most to this share at once.
FALL = 0.6

#: If at least this share of the calls between two refusals was held by the gate, their number shows
#: what the server allows, and not just how many calls there were to make.
BUSY = 0.8

#: One job above the limit is tried after this time, if so many jobs were accepted in it, and in any
#: case after the longer one.
PROBE_SECONDS, PROBE_CALLS, LONGEST_PROBE = 90.0, 20, 300.0

#: The number of running jobs may be wrong by this share: polls report their ends late.
SLACK = 0.015

#: Seconds to wait for the end of a job before a full server is asked again.
PATIENCE = 30.0


class LearnedRate:
    """Calls a second.

    At a refusal the server's quota is used up. So the calls accepted between two refusals, divided
    by the time between them, are the rate it allows, whatever burst it allows. From just below that
    rate the pace rises with time, slowly at first as in CUBIC congestion control, then past the
    rate found, then ever faster, until the next refusal or until the limit is forgotten.

    Args:
        slowest: calls a second that the pace never falls below.
    """

    def __init__(self, slowest: float) -> None:
        self._slowest = slowest
        self._budget: RateBudget | None = None
        self._found = self._rises_from = 0.0
        self._quiet = SHORTEST_QUIET
        self._empty_at: float | None = None
        self._accepted = self._pressed = 0
        self._last: deque[float] = deque(maxlen=RECENT_CALLS)
        self._recent = 0.0
        self._refusal = (0.0, 0, 0, 0.0)

    @property
    def pace(self) -> float | None:
        """Calls a second now; None while no limit is known."""
        return None if self._budget is None else self._budget.rate

    @property
    def is_below(self) -> bool:
        """Whether the pace is below what the server allows, or no limit is known.

        Where it accepts far more than the rate found, that rate is not its limit.
        """
        return self._budget is None or self._budget.rate <= max(self._found, self._recent / 2)

    def wait(self, now: float) -> float:
        """Seconds until one more call fits."""
        if self._budget is None:
            return 0.0
        rise = 0.98 + 0.02 * ((now - self._rises_from) / self._quiet) ** 4
        if rise > NO_LIMIT:
            self.forget()
            return 0.0
        self._budget.rate = max(self._slowest, self._found * rise)
        return self._budget.wait(now)

    def spend(self, now: float) -> None:
        """One call is sent now."""
        if self._budget is not None:
            self._budget.spend(now)

    def accepted(self, now: float, *, pressed: bool, late: bool) -> None:
        """The server accepted a call.

        Args:
            now: the time.
            pressed: whether others were waiting, so that the pace held them.
            late: whether it was sent before the last refusal came.
        """
        if late:
            return
        self._accepted += 1
        self._pressed += pressed
        self._last.append(now)
        if self._budget is not None and len(self._last) == self._last.maxlen:
            self._recent = len(self._last) / max(1e-3, now - self._last[0])

    def explains(self, seconds: float) -> bool:
        """Whether refusals over this time can be about the rate, even if it fell a lot."""
        if self._budget is not None:
            return seconds * self._found <= 10
        return seconds <= (5 if self._empty_at is None else 30)

    def refused(self, now: float) -> None:
        """The server refused a call after it had accepted the one before."""
        self._refusal = (now, self._accepted, self._pressed, self._recent)

    def settle(self, now: float) -> None:
        """The refusal was about the rate: the next call, now, was accepted."""
        at, accepted, pressed, recent = self._refusal
        busy = pressed >= BUSY * accepted
        if self._empty_at is not None and busy and accepted >= ENOUGH:
            self._learn(accepted / max(at - self._empty_at, 1e-3), recent)
        if self._empty_at is None or accepted >= ENOUGH or not busy:
            self._empty_at = at
            self._accepted, self._pressed = self._accepted - accepted, self._pressed - pressed
        self._rises_from = now
        self._quiet = max(self._quiet, min(3 * (now - at), LONGEST_QUIET))

    def forget(self) -> None:
        """There is no limit, or it is far away."""
        self._budget = self._empty_at = None

    def dismiss(self) -> None:
        """The refusal was about something else, so the rate may be higher than it seemed."""
        self._empty_at = None

    def _learn(self, measured: float, recent: float) -> None:
        fell = self._budget is not None and self.is_below  # or it never was what it seemed
        unclear = fell or recent > 1.5 * measured
        if self._budget is None:
            self._budget = RateBudget(measured)
        elif fell:
            measured = max(min(self._budget.rate, measured), FALL * self._budget.rate)
        self._found = max(measured, self._slowest)
        quiet = min(max(QUIET_CALLS / self._found, SHORTEST_QUIET), LONGEST_QUIET)
        self._quiet = quiet / 4 if unclear and not fell else quiet


class LearnedJobLimit:
    """Concurrent jobs.

    The number running at a refusal is the limit. One more is tried now and then; each one accepted
    raises the limit, ever faster. If the server still refuses though jobs have ended, its limit was
    lowered: then ours falls by twice as much each time, and climbs back from there.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        #: The limit as it was when the refusals began.
        self.before: int | None = None
        self._base = 0
        self._refused_at = 0
        self._falls = 0
        self._accepted = self._probes = 0
        self._climbing = False
        self._lowered_at, self._probe_at = -math.inf, math.inf

    def wait(self, occupied: int, in_flight: int, now: float) -> float:
        """Seconds until one more fits; inf if only an answer or the end of a job makes room.

        Args:
            occupied: running jobs and calls in flight, each of which may become a job.
            in_flight: those calls alone.
            now: the time.
        """
        if self.limit is None or occupied < self.limit + self._is_probing(now):
            return 0.0
        waits_for_time = occupied == self.limit or not in_flight
        return max(0.0, self._probe_at - now) if waits_for_time else math.inf

    def allows(self, occupied: int) -> bool:
        """Whether one more job is fewer than those at which jobs were refused last."""
        return self.limit is None or occupied < self._base

    def _is_probing(self, now: float) -> bool:
        early = now >= self._lowered_at + PROBE_SECONDS and self._accepted >= PROBE_CALLS
        return self._climbing or early

    def accepted(self, running: int, in_flight: int, now: float) -> None:
        """The server accepted a job; `running` includes it, `in_flight` counts other calls."""
        self._accepted += 1
        if self.limit is None:
            return
        if self._is_probing(now) and running + in_flight > self.limit:
            self._probes += 1
            if self._probes > in_flight:  # all in flight at the last step were answered
                self._probes = 0
                self.limit += 1 + (self.limit - self._base) // 8
        if running > self.limit:  # or a job ended without our knowing
            self.limit, self._probe_at = running, max(self._probe_at, now + PATIENCE)

    def refused(self, running: int, now: float, *, first: bool) -> None:
        """The server refused a job while `running` ran; `first`: it accepted the one before."""
        if first:
            self.before, self._falls = self.limit, 0
        elif running < self._refused_at:
            self._falls += 1
        self._refused_at = running
        if self.limit is not None:
            fall = round(SLACK * running) + 2**self._falls - 1
            self._lower(min(self.limit, running - fall), now, now + PATIENCE)

    def settle(self, running: int, now: float, *, sure: bool = True) -> None:
        """The refusal was about the `running` jobs, of which one has ended since.

        `sure`: else it may have been a rate as well, and more jobs are tried at once.
        """
        if self.limit is None:
            self._lower(running, now, now)
        self._climbing = self._falls > 0 or not sure
        self._probe_at = now + LONGEST_PROBE

    def dismiss(self, running: int) -> None:
        """The refusal was about something else, while `running` jobs ran."""
        self.limit = self.before
        self._climbing = self.limit is not None and running >= self.limit

    def _lower(self, limit: int, now: float, probe_at: float) -> None:
        self.limit = self._base = max(1, limit)
        self._lowered_at = now
        self._accepted = self._probes = 0
        self._climbing = False
        self._probe_at = probe_at
