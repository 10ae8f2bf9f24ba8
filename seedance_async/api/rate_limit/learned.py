"""What the refusals of a server were about, judged by what helped: time, a job's end, nothing."""

from __future__ import annotations

import math

import attrs

from seedance_async.api.rate_limit.limits import SLACK, LearnedJobs, LearnedRate, are_fewer
from seedance_async.api.rate_limit.noise import ALLOWED, GOES_FIRST, HAS_FALLEN, IN_FLIGHT, Noise

#: How many jobs may have ended without our knowing: this many, or this share of those running.
UNSEEN_ENDS, UNSEEN_SHARE = 3, 0.25

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
        by_limit = self._by_limit(running + in_flight, now, late=late, eased=eased)
        self.noise.count(by_limit, refused=True)
        if self.noise.is_found:
            return False
        if self._case is None:
            self._case = _Refusals(now, running, not are_fewer(running, self.jobs.found))
        case = self._case
        case.running = running
        case.rounds += not late
        case.has_fallen |= are_fewer(running + in_flight, case.full_with)
        if case.is_full:
            self.jobs.refused(running, now)
        return True

    def _by_limit(self, occupied: int, now: float, *, late: bool, eased: bool) -> float | None:
        """How probable the refusal of a call is if limits are the cause; None if unknown."""
        case, is_nothing = self._case, self.is_nothing
        if occupied == 0 and self.jobs.found < math.inf == self.rate.found:
            return ALLOWED  # where nothing runs, a number of jobs is no cause
        if late:
            return IN_FLIGHT if case is not None and is_nothing and case.rounds == 1 else None
        if case is None:
            fits = are_fewer(occupied, self.jobs.found) and self.rate.is_below(now)
            return ALLOWED if (eased if is_nothing else fits) else None
        if not case.is_full:
            return GOES_FIRST
        # If it is refused though jobs have ended, then the limit has just fallen: that is rare, but
        # from then on refusals are certain.
        if case.has_fallen:
            return IN_FLIGHT
        return HAS_FALLEN if are_fewer(occupied, case.full_with) else None

    def _forget(self) -> None:
        self.rate, self.jobs = LearnedRate(self._slowest), LearnedJobs()

    def _judge(self, case: _Refusals, running: int, now: float) -> None:
        """A call was accepted again: learn from what helped."""
        by_jobs = running > 0 and self._a_job_helped(case, running, now)
        are_far_fewer = are_fewer(running, case.full_with)
        if by_jobs:
            most = running if are_far_fewer else round((1 - SLACK) * max(case.running, running))
            self.jobs.refused(most, now, at_once=are_far_fewer)
        if by_jobs and not are_far_fewer:
            self.rate.restart(now)  # with far fewer running, it may have been a rate, after all
        else:
            self.rate.learn(case.since, now)

    def _a_job_helped(self, case: _Refusals, running: int, now: float) -> bool:
        """Whether the end of a job ended the refusals, and not time.

        More jobs than were running at the refusals say that it was time, unless as many can have
        ended without our knowing: a poll reports the end of a job only later.
        """
        if running - case.full_with > max(UNSEEN_ENDS, UNSEEN_SHARE * case.full_with):
            return False
        if case.is_full:
            return running <= case.full_with
        is_long = case.rounds > 2 and now - case.since > REFILLED
        return is_long and not are_fewer(case.running, case.full_with)


@attrs.define(eq=False)
class _Refusals:
    """Consecutive refusals, until a call is accepted that was sent later.

    Args:
        since: when the first came.
        full_with: jobs running when those were answered that were in flight then.
        is_full: whether those were as many as the limit known.
        running: jobs running at the last.
        rounds: how many came; those of concurrent calls count once.
        has_fallen: whether calls were refused though jobs had ended.
    """

    since: float
    full_with: int
    is_full: bool
    running: int = 0
    rounds: int = 0
    has_fallen: bool = False
