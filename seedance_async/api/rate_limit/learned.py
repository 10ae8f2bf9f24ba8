"""The server's limits as inferred from its refusals: a rate, and a number of concurrent jobs.

Pure arithmetic on the times and counts that the gate passes in. The gate judges which of the two a
refusal was about, from what helped afterwards: time passing, or the end of a job.
"""

from __future__ import annotations

import math

from seedance_async.api.rate_limit.rate import RateBudget

#: A rate is computed from at least this many calls accepted between two refusals.
ENOUGH = 8

#: After a refusal, the pace is back at the rate found once this many calls were accepted.
QUIET_CALLS = 60

#: The limit is forgotten once the pace reaches this many times the rate found.
NO_LIMIT = 30

#: If at least this share of the calls between two refusals was held by the gate, their number shows
#: what the server allows, and not just how many calls there were to make.
BUSY = 0.8

#: If this many refusals in a row came at less than the server had allowed before, slowing down does
#: not help, so they are not about the rate.
UNMOVED = 8

#: For this many calls, refusals are then not attributed to the rate; twice as many each time.
DOUBT_CALLS, MOST_DOUBT_CALLS = 500, 16_000

#: One job above the limit is tried after this many accepted jobs, or seconds where jobs are few.
PROBE_CALLS = 150
PROBE_SECONDS = 300.0

#: The number of running jobs may be wrong by this share: polls report their ends late.
SLACK = 0.015

#: Seconds to wait for the end of a job before a full server is asked again.
PATIENCE = 30.0


class LearnedRate:
    """Calls a second.

    At a refusal the server's quota is used up. So the calls accepted between two refusals, divided
    by the time between them, are the rate it allows, whatever burst it allows. From just below that
    rate the pace rises along a cubic, as in CUBIC congestion control: slowly at first, then past
    the rate found, then ever faster, until the next refusal.

    The rate found falls only at a refusal that comes before the pace is back at it. A server may
    refuse for reasons that have nothing to do with a rate; if slowing down repeatedly does not
    help, no rate is kept for a while.

    Args:
        slowest: calls a second that the pace never falls below.
    """

    def __init__(self, slowest: float) -> None:
        self._slowest = slowest
        self._pace: RateBudget | None = None
        self._found = 0.0
        self._quiet = float(QUIET_CALLS)
        self._calls = 0
        self._empty_at: float | None = None
        self._accepted = self._pressed = 0
        self._refusal = (0.0, 0, 0)
        self._unmoved = 0
        self._doubting, self._doubt = 0, DOUBT_CALLS

    @property
    def pace(self) -> float | None:
        """Calls a second now; None while no limit is known."""
        return None if self._pace is None else self._pace.rate

    def wait(self, now: float) -> float:
        """Seconds until one more call fits."""
        return 0.0 if self._pace is None else self._pace.wait(now)

    def spend(self, now: float) -> None:
        """One call is sent now."""
        if self._pace is not None:
            self._pace.spend(now)

    def accepted(self, *, pressed: bool) -> None:
        """The server accepted a call; `pressed`: others were waiting, so the pace held them."""
        self._accepted += 1
        self._pressed += pressed
        self._doubting = max(0, self._doubting - 1)
        if pressed and self._pace is not None:
            self._calls += 1
            rise = 1 + 0.02 * ((self._calls / self._quiet) ** 3 - 1)
            self._pace.rate = self._found * rise
            if rise > NO_LIMIT:
                self._pace = self._empty_at = None

    def explains(self, seconds: float) -> bool:
        """Whether refusals over this time can be about the rate, even if it fell a lot."""
        if self._pace is not None:
            return seconds * self._found <= 10
        return seconds <= (5 if self._empty_at is None else 30)

    def refused(self, now: float) -> None:
        """The server refused a call after it had accepted the one before."""
        self._refusal = (now, self._accepted, self._pressed)

    def settle(self, now: float) -> None:
        """The refusal was about the rate: the next call, now, was accepted."""
        at, accepted, pressed = self._refusal
        if self._doubting:
            return
        before, busy = self._found, pressed >= BUSY * accepted
        if self._empty_at is not None and busy:
            self._learn(accepted, max(at - self._empty_at, 1e-3))
        if self._doubting:
            return
        if self._empty_at is None or accepted >= ENOUGH or not busy:
            self._empty_at = at
            self._accepted, self._pressed = self._accepted - accepted, self._pressed - pressed
        if self._pace is not None:
            self._slow_down(self._pace, now - at, settled=self._found <= 1.1 * before)

    def dismiss(self) -> None:
        """The refusal was about something else, so the rate may be higher than it seemed."""
        self._empty_at = None

    def _learn(self, accepted: int, seconds: float) -> None:
        # Between two moments of an empty quota, the count is certain up to one call.
        most = (accepted + 1) / seconds
        if self._pace is None:
            if accepted >= ENOUGH:
                self._found = max(accepted / seconds, self._slowest)
                self._pace = RateBudget(self._found)
            return
        pace = self._pace.rate
        if pace >= self._found:
            self._unmoved, self._doubt = 0, DOUBT_CALLS
            self._found = max(self._found, min(pace, most))
            return
        self._unmoved += 1
        if self._unmoved > UNMOVED:
            self._give_up()
        else:  # not below two thirds: the interval may have begun while less was allowed
            self._found = max(min(pace, most), pace * 0.65, self._slowest)

    def _give_up(self) -> None:
        """Slowing down did not help, so the refusals are not about the rate."""
        self._pace = self._empty_at = None
        self._unmoved = 0
        self._doubting, self._doubt = self._doubt, min(2 * self._doubt, MOST_DOUBT_CALLS)

    def _slow_down(self, pace: RateBudget, stall: float, *, settled: bool) -> None:
        """Start the cubic again, the flatter the more time the refusal cost.

        While the rate found still rises from one refusal to the next, it is steeper.
        """
        found = self._found
        calls, seconds = (QUIET_CALLS, max(10, 15 * stall)) if settled else (QUIET_CALLS / 4, 1)
        self._quiet = max(min(calls, 120 * found), seconds * found, 1.0)
        self._calls = 0
        pace.rate = 0.98 * found


class LearnedJobLimit:
    """Concurrent jobs.

    The number running at a refusal is the limit. One more is tried now and then; each one accepted
    raises the limit. If the server still refuses though jobs have ended, its limit was lowered:
    then ours falls by twice as much each time, and climbs back from there. If the server refuses
    repeatedly below the limit, the refusals are not about the jobs, and no limit is kept for a
    while.
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
        self._probe_at = math.inf
        self._unmoved = 0
        self._doubting, self._doubt = 0, DOUBT_CALLS

    def wait(self, occupied: int, in_flight: int, now: float) -> float:
        """Seconds until one more fits; inf if only an answer or the end of a job makes room.

        Args:
            occupied: running jobs and calls in flight, each of which may become a job.
            in_flight: those calls alone.
            now: the time.
        """
        if self.limit is None or occupied < self.limit + self._probing:
            return 0.0
        waits_for_time = occupied == self.limit or not in_flight
        return max(0.0, self._probe_at - now) if waits_for_time else math.inf

    @property
    def _probing(self) -> bool:
        return self._climbing or self._accepted >= PROBE_CALLS

    def accepted(self, running: int, in_flight: int, now: float) -> None:
        """The server accepted a job; `running` includes it, `in_flight` counts other calls."""
        self._accepted += 1
        self._doubting = max(0, self._doubting - 1)
        if self.limit is None:
            return
        if self._probing and running + in_flight > self.limit:
            self._probes += 1
            if self._probes > in_flight:  # all in flight at the last step were answered
                self._probes = 0
                self.limit += 1 + (self.limit - self._base) // 32  # the higher, the faster
        if running > self.limit:  # or a job ended without our knowing
            self.limit, self._probe_at = running, max(self._probe_at, now + PATIENCE)

    def refused(self, running: int, now: float, *, first: bool) -> None:
        """The server refused a job while `running` ran; `first`: it accepted the one before."""
        if first:
            self._count_unmoved(running)
            self.before, self._falls = self.limit, 0
        elif running < self._refused_at:
            self._falls += 1
        self._refused_at = running
        if self.limit is not None:
            fall = round(SLACK * running) + 2**self._falls - 1
            self._lower(min(self.limit, running - fall), now + PATIENCE)

    def settle(self, running: int, now: float, *, certain: bool) -> None:
        """The refusal was about the `running` jobs, of which one has ended since.

        `certain`: after that many refusals in a row it can be nothing else.
        """
        if self._doubting:
            return
        if self.limit is None:
            self._lower(running, now)
        self._climbing = self._falls > 0
        self._probe_at = now + PROBE_SECONDS
        if certain:
            self._unmoved = 0

    def dismiss(self, running: int) -> None:
        """The refusal was about something else, while `running` jobs ran."""
        self.limit = self.before
        self._climbing = self.limit is not None and running >= self.limit

    def _count_unmoved(self, running: int) -> None:
        if self.limit is None:
            return
        if running >= self.limit:  # one more was tried and refused
            self._unmoved = max(0, self._unmoved - 1)
            return
        if self._accepted >= PROBE_CALLS:
            self._unmoved, self._doubt = 0, DOUBT_CALLS
            return
        self._unmoved += 1
        if self._unmoved > UNMOVED:
            self.limit, self._unmoved = None, 0
            self._doubting, self._doubt = self._doubt, min(2 * self._doubt, MOST_DOUBT_CALLS)

    def _lower(self, limit: int, probe_at: float) -> None:
        self.limit = self._base = max(1, limit)
        self._accepted = self._probes = 0
        self._climbing = False
        self._probe_at = probe_at
