"""What the refusals of a server were about, judged by what helped: time, a job's end, nothing."""

from __future__ import annotations

import math

import attrs

from seedance_async.api.rate_limit.limits import SLACK, LearnedJobs, LearnedRate, are_fewer
from seedance_async.api.rate_limit.noise import ALLOWED, GOES_FIRST, UNHELD, Noise

#: The quota of a rate is refilled after so many seconds.
REFILLED = 5.0


class Learned:
    """The limits of a server, as far as its refusals show them.

    Attributes:
        rate: calls a second.
        jobs: jobs at once.
        noise: refusals that no limit explains; while there are any, no limit is known.

    Args:
        slowest: calls a second that are never thought too many.
    """

    def __init__(self, slowest: float) -> None:
        self._slowest, self.noise = slowest, Noise()
        self._case: _Refusals | None = None
        self._refused_with = math.inf  # the fewest jobs at a refusal, until surely more ran
        self._forget()

    @property
    def is_nothing(self) -> bool:
        """Whether no limit is known."""
        return self.rate.found == self.jobs.found == math.inf

    def wait(self, running: int, in_flight: int, now: float) -> float:
        """Seconds until the limits allow one more call; inf if time alone does not help."""
        return max(self.rate.wait(now), self.jobs.wait(running + in_flight, now))

    def accepted(
        self, running: int, in_flight: int, now: float, *, late: bool, eased: bool
    ) -> None:
        """The server accepted a call, after it has refused some.

        Args:
            running: jobs that are running, with this one; 0 where jobs are not counted.
            in_flight: other calls.
            now: the time.
            late: whether it was sent before the hold that lasts.
            eased: whether few are let in after that hold.
        """
        case = self._case
        if are_fewer(self._refused_with, running):
            self._refused_with = math.inf
        by_limit = self._by_limit(running + in_flight - 1, now, late=late, eased=eased)
        self.noise.count(by_limit, refused=False)
        self.jobs.accepted(running, now)
        if late:
            if case is not None:
                case.running = case.full_with = running
            return
        if self.noise.is_believed():
            self._forget()
        elif case is not None:
            self._judge(case, running, now)
        self._case = None

    def refused(self, running: int, in_flight: int, now: float, *, late: bool, eased: bool) -> bool:
        """The server refused a call. Returns whether all others must wait. As `accepted`."""
        occupied = running + in_flight
        by_limit = self._by_limit(occupied, now, late=late, eased=eased)
        self.noise.count(by_limit, refused=True)
        if self.noise.is_found:
            return False
        if not late:
            self._refused_with = min(self._refused_with, occupied)
        if self._case is None:
            self._case = _Refusals(now, running, not are_fewer(running, self.jobs.found))
        case = self._case
        case.last, case.running = now, running
        case.rounds += not late
        if case.is_full:
            self.jobs.refused(running, now)
        return True

    def _by_limit(self, occupied: int, now: float, *, late: bool, eased: bool) -> float | None:
        """How probable the refusal of a call is if limits are the cause; None if unknown."""
        case, is_nothing = self._case, self.is_nothing
        if self.noise.is_found and not late:
            return None if eased else UNHELD
        if occupied == 0 and self.jobs.found < math.inf == self.rate.found:
            return ALLOWED  # where nothing runs, a number of jobs is no cause
        if late:
            return UNHELD if case is not None and is_nothing and case.rounds == 1 else None
        if case is not None:
            return None if case.is_full else GOES_FIRST
        if is_nothing:
            return ALLOWED if eased else None
        fits = are_fewer(occupied, self._refused_with)
        return ALLOWED if fits and self.rate.is_below(now) else None

    def _forget(self) -> None:
        self.rate, self.jobs = LearnedRate(self._slowest), LearnedJobs()

    def _judge(self, case: _Refusals, running: int, now: float) -> None:
        """A call was accepted again: learn from what helped."""
        by_jobs = running > 0 and self._a_job_helped(case, running)
        are_far_fewer = are_fewer(running, case.full_with)
        if by_jobs:
            most = running if are_far_fewer else round((1 - SLACK) * max(case.running, running))
            self.jobs.refused(most, now, at_once=are_far_fewer)
        if by_jobs and not are_far_fewer:
            self.rate.restart(now)  # else, with far fewer running, it may have been the rate
        else:
            self.rate.learn(case.since, now)

    def _a_job_helped(self, case: _Refusals, running: int) -> bool:
        """Whether the end of a job ended the refusals, and not time.

        More jobs than were running at the refusals say that it was time, unless as many can have
        ended without our knowing: a poll reports the end of a job only later.
        """
        if case.is_full:
            return running <= case.full_with
        is_long = case.rounds > 2 and case.last - case.since > REFILLED
        may_have_ended = not are_fewer(case.full_with, running)
        return is_long and may_have_ended and not are_fewer(case.running, case.full_with)


@attrs.define(eq=False)
class _Refusals:
    """Consecutive refusals, until a call is accepted that was sent later.

    Args:
        since: when the first came.
        full_with: jobs running when those were answered that were in flight then.
        is_full: whether those were as many as the limit known.
        last: when the last came.
        running: jobs running then.
        rounds: how many came; those of concurrent calls count once.
    """

    since: float
    full_with: int
    is_full: bool
    last: float = -math.inf
    running: int = 0
    rounds: int = 0
