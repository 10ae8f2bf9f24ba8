"""What the refusals of a server were about, judged by what helped: time, a job's end, nothing."""

from __future__ import annotations

import attrs

from seedance_async.api.rate_limit.limits import LearnedJobLimit, LearnedRate
from seedance_async.api.rate_limit.noise import Noise

#: How many jobs may have ended without our knowing: this many, or this share of those running.
UNSEEN_ENDS, UNSEEN_SHARE = 3, 0.25

#: Numbers of jobs are alike if they differ by at most this share; so often in a row is no accident.
ALIKE, OFTEN = 0.04, 4


class Learned:
    """The limits of a server, as far as its refusals show them.

    Attributes:
        rate: calls a second.
        jobs: jobs at once.
        noise: refusals that no limit explains.
        counts_jobs: whether the ends of jobs are reported; else no limit on jobs can be learned.

    Args:
        slowest: calls a second that are never thought too many.
    """

    def __init__(self, slowest: float) -> None:
        self._slowest = slowest
        self.rate, self.jobs, self.noise = LearnedRate(slowest), LearnedJobLimit(), Noise()
        self._suspended = self.rate, self.jobs  # while it is tried whether there is any limit
        self.counts_jobs = False
        self._alike = self._full_with = 0
        self._case: _Refusals | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether no limit is known."""
        return self.rate.pace is None and self.jobs.limit is None

    def wait(self, running: int, in_flight: int, now: float) -> float:
        """Seconds until the limits allow one more call; inf if time alone does not help."""
        return max(self.rate.wait(now), self.jobs.wait(running + in_flight, in_flight, now))

    def accepted(
        self, running: int, in_flight: int, now: float, *, late: bool, eased: bool
    ) -> None:
        """The server accepted a call.

        Args:
            running: jobs that are running, with this one.
            in_flight: other calls.
            now: the time.
            late: whether it was sent before the hold that lasts.
            eased: whether few calls are let in at once.
        """
        allowed = not late and self._allows(running + in_flight - 1)
        self._doubt(running - 1, now, refused=False, allowed=allowed)
        self._count(refused=False, late=late, eased=eased)
        self.jobs.accepted(running, in_flight, now)
        if late:
            if self._case is not None:
                self._case.accepted_late(running)
            return
        if self._case is not None and self._judge(self._case, running, now):
            self._case = None

    def refused(self, running: int, in_flight: int, now: float, *, late: bool, eased: bool) -> bool:
        """The server refused a call. Returns whether all others must wait. As `accepted`."""
        allowed = not late and self._allows(running + in_flight)
        self._doubt(running, now, refused=True, allowed=allowed)
        self._count(refused=True, late=late, eased=eased)
        if self._case is None and self.noise.explains_run:
            return False
        first = self._case is None
        if self._case is None:
            self._case = _Refusals(now, running, eased)
            self.rate.refused(now)
        self._case.add(running, late=late)
        self.jobs.refused(running, now, first=first)
        return True

    def _doubt(self, running: int, now: float, *, refused: bool, allowed: bool) -> None:
        """Try whether there is any limit, once enough refusals have no other reason."""
        noise = self.noise
        if noise.doubts_limits(now, running, refused=refused, allowed=allowed):
            noise.begin_trial()
            self._suspended = self.rate, self.jobs
            self.rate, self.jobs = LearnedRate(self._slowest), LearnedJobLimit()
            self._case = None
        elif noise.end_trial() is False:
            self.rate, self.jobs = self._suspended

    def _allows(self, occupied: int) -> bool:
        """Whether there are limits, and none of them explains a refusal."""
        return not self.is_nothing and self.rate.is_below and self.jobs.allows(occupied)

    def _count(self, *, refused: bool, late: bool, eased: bool) -> None:
        if self._case is not None and self.is_nothing:
            if not late:
                return  # it is no fair sample who goes first
            eased = self._case.eased
        self.noise.count(refused=refused, eased=eased or not self.is_nothing)

    def _judge(self, case: _Refusals, running: int, now: float) -> bool:
        """A call was accepted again: learn from what helped. Returns whether that is clear yet."""
        if self.is_nothing and self._began_by_chance(case):
            return True
        job_helped = self._a_job_helped(case, running, now)
        if job_helped is None:
            return False
        if job_helped:
            self.rate.dismiss()
            self.jobs.settle(case.running, now)
        else:
            below = self.rate.is_below
            self.rate.settle(now)
            self.jobs.dismiss(case.running)
            if below:
                self._compare(case, now)
        return True

    def _compare(self, case: _Refusals, now: float) -> None:
        """Where refusals come again and again with as many jobs, these are a limit as well."""
        if abs(case.full_with - self._full_with) < ALIKE * case.full_with:
            self._alike += 1
        else:
            self._alike, self._full_with = 0, case.full_with
        if self._alike > OFTEN and self.counts_jobs and self.jobs.limit is None:
            self.jobs.settle(case.running, now, sure=False)

    def _began_by_chance(self, case: _Refusals) -> bool:
        """Only a full pressure can show that, or one at which it was so before."""
        fair = not case.eased or self.noise.share > 0
        return fair and self.noise.judge(
            case.late_refused, case.late, last=case.late_run, first=case.rounds - 1
        )

    def _a_job_helped(self, case: _Refusals, running: int, now: float) -> bool | None:
        """Whether the end of a job ended the refusals, and not time.

        None where it may have been either: a poll reports the end of a job only later. The next
        calls show it: either that end is reported, or more calls are accepted than jobs can have
        ended without our knowing.
        """
        if not self.counts_jobs:
            return False
        before, may_be_rate = self.jobs.before, self.rate.explains(now - case.since)
        looks_full = before is None and case.rounds > 2 and not may_be_rate
        if running > case.running:
            return None if looks_full and case.may_have_ended_unseen(running) else False
        if before is None:
            return looks_full
        return case.running >= before or self.rate.pace is None or not may_be_rate


@attrs.define(eq=False)
class _Refusals:
    """Consecutive refusals, until it is clear what ended them.

    Args:
        since: when the first came.
        full_with: jobs running at the first.
        running: jobs running at the last.
        eased: whether few calls were let in at once at the first.
        rounds: how many came; those of concurrent calls count once.
        late, late_refused, late_run: answers to calls that were in flight at the first, refusals
            among them, and the last of these in a row.
    """

    since: float
    full_with: int
    eased: bool
    running: int = 0
    rounds: int = 0
    late: int = 0
    late_refused: int = 0
    late_run: int = 0

    def add(self, running: int, *, late: bool) -> None:
        """Count one more."""
        self.running = running
        self.rounds += not late
        if self.rounds <= 1:
            self.late += late
            self.late_refused += late
            self.late_run += late

    def accepted_late(self, running: int) -> None:
        """A call sent before the refusal was accepted; this many jobs are running now."""
        self.running = running
        if self.rounds <= 1:
            self.full_with = running
            self.late += 1
            self.late_run = 0

    def may_have_ended_unseen(self, running: int) -> bool:
        """Whether the jobs above `full_with` can be jobs that ended without our knowing."""
        most = max(UNSEEN_ENDS, UNSEEN_SHARE * self.full_with)
        return running - self.full_with <= most
