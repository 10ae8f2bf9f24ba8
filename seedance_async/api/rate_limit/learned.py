"""What the server grants, learnt from what it refuses: a rate, and a number of jobs at once.

Pure arithmetic on the times and counts that the gate gives. Which of the two a refusal was about
is judged by the gate, from what helped: time passing, or a job's end.
"""

from __future__ import annotations

import math

from seedance_async.api.rate_limit.rate import RateBudget

#: Calls taken between two refusals from which a rate can be read.
ENOUGH = 8

#: Calls that are taken after a refusal before the rate is back at what was found.
QUIET_CALLS = 60

#: How many times the rate that was found the pace has to reach for that limit to be forgotten.
NO_LIMIT = 30

#: Of the calls between two refusals the share that was held by the gate, from which on their number
#: tells what the server grants and not what was asked of it.
BUSY = 0.8

#: Refusals in a row that came though less was asked for than had been granted: if so many did not
#: go away by asking for less, they are not about the rate.
UNMOVED = 8

#: Calls for which refusals are then not taken to be about the rate; twice as many each time.
DOUBT_CALLS, MOST_DOUBT_CALLS = 500, 16_000

#: Jobs taken between two attempts at one more than was granted; or seconds, where few are taken.
PROBE_CALLS = 150
PROBE_SECONDS = 300.0

#: The share of the jobs running by which that number may be off: their ends are learnt late.
SLACK = 0.015

#: Seconds for which a job's end is waited for before a full server is asked again.
PATIENCE = 30.0


class GrantedRate:
    """Calls a second.

    At a refusal the server has nothing left. So what it took between two refusals, over the time
    between them, is what it grants, whatever burst it allows. From just below that the pace
    rises along a cubic, as in CUBIC congestion control: hardly at first, then through what was
    found, then ever faster, until the next refusal.

    What is found falls only at a refusal that comes before the pace is back there. A server may
    refuse for reasons that have nothing to do with a rate; if asking for less again and again does
    not help, no rate is kept for a while.

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
        self._taken = self._pressed = 0
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
        """One call goes out now."""
        if self._pace is not None:
            self._pace.spend(now)

    def took(self, *, pressed: bool) -> None:
        """The server took a call; `pressed`: more were waiting, so the pace is what held them."""
        self._taken += 1
        self._pressed += pressed
        self._doubting = max(0, self._doubting - 1)
        if pressed and self._pace is not None:
            self._calls += 1
            rise = 1 + 0.02 * ((self._calls / self._quiet) ** 3 - 1)
            self._pace.rate = self._found * rise
            if rise > NO_LIMIT:
                self._pace = self._empty_at = None

    def explains(self, seconds: float) -> bool:
        """Whether refusals for so long can be about the rate, even if it was lowered a lot."""
        if self._pace is not None:
            return seconds * self._found <= 10
        return seconds <= (5 if self._empty_at is None else 30)

    def refused(self, now: float) -> None:
        """The server refused a call, having taken the one before."""
        self._refusal = (now, self._taken, self._pressed)

    def settle(self, now: float) -> None:
        """The refusal was about the rate: the next call, now, was taken."""
        at, taken, pressed = self._refusal
        if self._doubting:
            return
        before, busy = self._found, pressed >= BUSY * taken
        if self._empty_at is not None and busy:
            self._learn(taken, max(at - self._empty_at, 1e-3))
        if self._doubting:
            return
        if self._empty_at is None or taken >= ENOUGH or not busy:
            self._empty_at = at
            self._taken, self._pressed = self._taken - taken, self._pressed - pressed
        if self._pace is not None:
            self._slow_down(self._pace, now - at, settled=self._found <= 1.1 * before)

    def dismiss(self) -> None:
        """The refusal was about something else, and so there may be more to be had than was."""
        self._empty_at = None

    def _learn(self, taken: int, seconds: float) -> None:
        # Between two moments of having nothing left, the count is certain but for one call.
        most = (taken + 1) / seconds
        if self._pace is None:
            if taken >= ENOUGH:
                self._found = max(taken / seconds, self._slowest)
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
        else:  # not below two thirds: the time between may have begun when less was granted
            self._found = max(min(pace, most), pace * 0.65, self._slowest)

    def _give_up(self) -> None:
        """Asking for less did not help, so it is not the rate that is refused."""
        self._pace = self._empty_at = None
        self._unmoved = 0
        self._doubting, self._doubt = self._doubt, min(2 * self._doubt, MOST_DOUBT_CALLS)

    def _slow_down(self, pace: RateBudget, stall: float, *, settled: bool) -> None:
        """Begin the cubic anew, the flatter the more time the refusal has cost.

        While what is found still rises from one refusal to the next, the next is come by sooner.
        """
        found = self._found
        calls, seconds = (QUIET_CALLS, max(10, 15 * stall)) if settled else (QUIET_CALLS / 4, 1)
        self._quiet = max(min(calls, 120 * found), seconds * found, 1.0)
        self._calls = 0
        pace.rate = 0.98 * found


class GrantedJobs:
    """Jobs that run at once.

    The number running at a refusal is what is granted. One more is tried now and then; each that
    is taken raises the number. If the server still refuses though jobs have ended, the number
    was lowered: then it falls by twice as much each time, and climbs back from there. If it refuses
    again and again though no more than that were asked for, it is not about the jobs: none is kept
    for a while.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        #: The limit as it was when the refusals began.
        self.before: int | None = None
        self._base = 0
        self._refused_at = 0
        self._falls = 0
        self._taken = self._probes = 0
        self._climbing = False
        self._probe_at = math.inf
        self._unmoved = 0
        self._doubting, self._doubt = 0, DOUBT_CALLS

    def wait(self, occupied: int, out: int, now: float) -> float:
        """Seconds until one more fits; inf if that depends on an answer or a job's end alone.

        Args:
            occupied: jobs running, and calls out that may become one each.
            out: those calls alone.
            now: the time.
        """
        if self.limit is None or occupied < self.limit + self._probing:
            return 0.0
        waits_for_time = occupied == self.limit or not out
        return max(0.0, self._probe_at - now) if waits_for_time else math.inf

    @property
    def _probing(self) -> bool:
        return self._climbing or self._taken >= PROBE_CALLS

    def took(self, running: int, out: int, now: float) -> None:
        """The server took a job: so many are running, it included, and so many calls are out."""
        self._taken += 1
        self._doubting = max(0, self._doubting - 1)
        if self.limit is None:
            return
        if self._probing and running + out > self.limit:
            self._probes += 1
            if self._probes > out:  # all that were out at the last step have been answered
                self._probes = 0
                self.limit += 1 + (self.limit - self._base) // 32  # the higher, the faster
        if running > self.limit:  # it may also be that a job has ended unseen
            self.limit, self._probe_at = running, max(self._probe_at, now + PATIENCE)

    def refused(self, running: int, now: float, *, first: bool) -> None:
        """The server refused a job while so many were running; `first`: it took the one before."""
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
        """The refusal was about the jobs running: so many, and one has ended since.

        `certain`: there were so many refusals in a row that it can be nothing else.
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
        """The refusal was about something else; so many were running."""
        self.limit = self.before
        self._climbing = self.limit is not None and running >= self.limit

    def _count_unmoved(self, running: int) -> None:
        if self.limit is None:
            return
        if running >= self.limit:  # one more was tried, and is not granted
            self._unmoved = max(0, self._unmoved - 1)
            return
        if self._taken >= PROBE_CALLS:
            self._unmoved, self._doubt = 0, DOUBT_CALLS
            return
        self._unmoved += 1
        if self._unmoved > UNMOVED:
            self.limit, self._unmoved = None, 0
            self._doubting, self._doubt = self._doubt, min(2 * self._doubt, MOST_DOUBT_CALLS)

    def _lower(self, limit: int, probe_at: float) -> None:
        self.limit = self._base = max(1, limit)
        self._taken = self._probes = 0
        self._climbing = False
        self._probe_at = probe_at
