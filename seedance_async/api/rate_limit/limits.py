"""The limits that can be learned from a server's refusals: a rate, and a number of jobs at once.

Pure arithmetic on the times and counts that are passed in. What a refusal was about is judged in
`learned`.
"""

from __future__ import annotations

import math

from seedance_async.api.rate_limit.rate import RateBudget

#: After a refusal the pace is a little below the rate found, and back at it after so many calls or
#: seconds. What was accepted at less than a part of the pace says nothing of it any more, and at so
#: many times the rate found the limit is forgotten.
BELOW, QUIET_CALLS, QUIET_SECONDS, FASTER, NO_LIMIT = 0.04, 50, 25.0, 3, 30

#: A rate is computed from at least this many calls, once it is known from more, if at least such a
#: share of them was held by the gate: else it shows how many calls there were to make.
ENOUGH, ENOUGH_AGAIN, BUSY = 3, 10, 0.8

#: A rate has moved if the calls accepted differ from those expected by so many times the deviation
#: that chance makes, as where another client takes a part. Else this share of what was measured
#: before counts as well.
SIGMAS, KEPT = 3.0, 0.8

#: The number of running jobs is mostly wrong by this share: polls report their ends late.
SLACK = 0.02

#: Jobs are surely fewer than others below this share of them: polls do not miss so many ends.
FEWER = 0.9

#: One job above the limit is tried after so many were accepted and this time, in seconds, and in
#: any case after the longest; and another one soon if that was accepted.
TRY_CALLS, TRY_SECONDS, TRY_SOON, LONGEST_TRY = 16, 45.0, 5.0, 300.0


def are_fewer(jobs: float, than: float) -> bool:
    """Whether jobs are surely fewer, though polls report some ends late."""
    return jobs < FEWER * than


class LearnedRate(RateBudget):
    """Calls a second.

    When the server accepts again after refusals, its quota was just used up. So the calls accepted
    from one such moment to the next, divided by the time between them, are the rate that it allows,
    whatever burst or window. From just below that the pace rises, slowly at first as in CUBIC
    congestion control, past the rate found, then ever faster, until the next refusal.

    Attributes:
        found: calls a second that the server seems to allow; inf while no such limit is known.

    Args:
        slowest: calls a second that the pace never falls below.
    """

    def __init__(self, slowest: float) -> None:
        super().__init__(math.inf)
        self.found = self._measured_from = self._began = math.inf
        self._slowest = slowest
        self._since, self._quiet_calls, self._slower = -math.inf, 0, 1.0
        self._calls = self._pressed = 0
        self._calls_before = self._seconds_before = 0.0

    def pace(self, now: float) -> float:
        """Calls a second now."""
        if self.found == math.inf:
            return math.inf
        quiet = max(self._quiet_calls / QUIET_CALLS, (now - self._since) / QUIET_SECONDS)
        quiet /= self._slower
        rise = 1 - BELOW + BELOW * quiet**4
        if rise > NO_LIMIT:
            self.found = math.inf
        return max(self._slowest, self.found * rise)

    def is_below(self, now: float) -> bool:
        """Whether the pace is no more than what the server allows, or no limit is known."""
        return self.pace(now) <= self.found

    def wait(self, now: float) -> float:
        """Seconds until one more call fits."""
        self.rate = self.pace(now)
        return super().wait(now)

    def accepted(self, now: float, *, pressed: bool) -> None:
        """The server accepted a call; `pressed`: others waited, so that the gate held them."""
        self._began = min(self._began, now)
        self._quiet_calls += 1
        self._calls += 1
        self._pressed += pressed
        if self.found < math.inf and self.pace(now) > FASTER * self._measured_from:
            self._measured_from = self.pace(now)
            self.restart(now)

    def learn(self, since: float, now: float) -> None:
        """Refusals since then were about the rate, and are over."""
        if self._pressed < BUSY * self._calls:
            self.restart(now)
        if self._calls < (ENOUGH_AGAIN if self._calls_before else ENOUGH):
            return
        seconds = max(now - self._began, 1e-3)
        expected = self.found * seconds
        if abs(self._calls - expected) > SIGMAS * math.sqrt(expected):  # it has moved
            self._calls_before = self._seconds_before = 0.0
        calls, seconds = self._calls_before + self._calls, self._seconds_before + seconds
        if self.found < math.inf:  # else a burst was among them
            self._calls_before, self._seconds_before = KEPT * calls, KEPT * seconds
        self.found = self._measured_from = max(self._slowest, calls / seconds)
        self._since, self._quiet_calls = now, 0
        self._slower = max(1.0, 2 * (now - since) / QUIET_SECONDS)  # as where a window is long
        self.restart(now)

    def restart(self, now: float) -> None:
        """What was accepted before says nothing of the rate."""
        self._began, self._calls, self._pressed = now, 0, 0


class LearnedJobs:
    """Concurrent jobs.

    As many as were running at a refusal are the limit. After a while one more is tried, and if it
    is accepted, soon another; once far more run than were refused, ever more at once.

    Attributes:
        found: jobs at once; inf while no such limit is known.
    """

    def __init__(self) -> None:
        self.found = self._refused = math.inf
        self._accepted, self._since, self._try_at = 0, -math.inf, -math.inf

    def refused(self, running: int, now: float, *, at_once: bool = False) -> None:
        """The server refused a job while so many ran; `at_once`: more are tried without delay."""
        self.found = self._refused = min(self.found, max(1, running))
        self._accepted, self._since = 0, now
        self._try_at = now if at_once else now + LONGEST_TRY

    def accepted(self, running: int, now: float) -> None:
        """The server accepted a job; `running` includes it."""
        self._accepted += 1
        if self._accepted == TRY_CALLS:
            self._try_at = min(self._try_at, max(now, self._since + TRY_SECONDS))
        if running > self.found:
            self.found = running
            if not are_fewer(int(self._refused), running):
                self._try_at = now + TRY_SOON

    def wait(self, occupied: int, now: float) -> float:
        """Seconds until one more fits; inf if only an answer or the end of a job makes room.

        Args:
            occupied: running jobs and calls in flight, each of which may become a job.
            now: the time.
        """
        if occupied < self.found:
            return 0.0
        most = self.found + (self.found - self._refused) // 8
        return max(0.0, self._try_at - now) if occupied <= most else math.inf
