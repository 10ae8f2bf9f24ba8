"""What the refusals of a server were about, judged by what helped: time, a job's end, nothing."""

from __future__ import annotations

import attrs

from seedance_async.api.rate_limit.limits import LearnedJobs, LearnedRate
from seedance_async.api.rate_limit.noise import Noise

#: How many jobs may have ended without our knowing: this many, or this share of those running.
UNSEEN_ENDS, UNSEEN_SHARE = 3, 0.25

#: Numbers of jobs are alike if they differ by at most this share; so often in a row is no accident.
ALIKE, OFTEN = 0.04, 4

#: How probable a limit makes the refusal of a call that was in flight at the first refusal; of one
#: that goes first after a hold; and of the same where limits are known.
IN_FLIGHT, GOES_FIRST, GOES_FIRST_AGAIN = 0.9, 0.5, 0.3

#: Between two refusals there must be so many acceptances, or else the rate may have moved.
APART = 2


class Learned:
    """The limits of a server, as far as its refusals show them.

    Attributes:
        rate: calls a second.
        jobs: jobs at once.
        noise: refusals that no limit explains; while there are any, no limit holds.

    Args:
        slowest: calls a second that are never thought too many.
    """

    def __init__(self, slowest: float) -> None:
        self.rate, self.jobs, self.noise = LearnedRate(slowest), LearnedJobs(), Noise()
        self._alike = self._full_with = 0
        self._case: _Refusals | None = None

    @property
    def pace(self) -> float | None:
        """Calls a second that the server seems to allow; None while no such limit is known."""
        return None if self.rate.pace is None or self.noise.is_found else self.rate.found

    @property
    def limit(self) -> int | None:
        """The same for concurrent jobs."""
        return None if self.noise.is_found else self.jobs.limit

    @property
    def is_nothing(self) -> bool:
        """Whether no limit is known."""
        return self.rate.pace is None and self.jobs.limit is None

    def wait(self, running: int, in_flight: int, now: float) -> float:
        """Seconds until the limits allow one more call; inf if time alone does not help."""
        if self.noise.is_found:
            return 0.0
        return max(self.rate.wait(now), self.jobs.wait(running + in_flight, in_flight, now))

    def accepted(
        self, running: int, in_flight: int, now: float, *, late: bool, pressed: bool, eased: bool
    ) -> None:
        """The server accepted a call.

        Args:
            running: jobs that are running, with this one; 0 where jobs are not counted.
            in_flight: other calls.
            now: the time.
            late: whether it was sent before the hold that lasts.
            pressed: whether others wait.
            eased: whether that is because few are let in after a hold.
        """
        case = self._case
        self._count(running + in_flight - 1, refused=False, late=late, eased=eased)
        self.jobs.accepted(running, now)
        if late:
            if case is not None:
                case.running = running
                case.full_with = running if case.rounds <= 1 else case.full_with
            return
        self.rate.accepted(pressed=pressed)
        if not self.noise.is_believed() and case is not None:
            self._judge(case, running, now)
        self._case = None

    def refused(self, running: int, in_flight: int, now: float, *, late: bool, eased: bool) -> bool:
        """The server refused a call. Returns whether all others must wait. As `accepted`."""
        self._count(running + in_flight, refused=True, late=late, eased=eased)
        if self.noise.explains():
            return False
        self.jobs.refused(running, None if self._case is None else self._case.running, now)
        case = self._case = self._case or _Refusals(now, running, eased)
        case.running = running
        case.rounds += not late
        return True

    def _count(self, occupied: int, *, refused: bool, late: bool, eased: bool) -> None:
        self.noise.count(self._by_limit(occupied, refused=refused, late=late), refused=refused)
        if self._case is not None and self.is_nothing:
            if not late:
                return  # it is no fair sample who goes first
            eased = self._case.eased
        self.noise.compare(refused=refused, eased=eased or not self.is_nothing)

    def _by_limit(self, occupied: int, *, refused: bool, late: bool) -> float | None:
        """How probable the refusal of a call is if limits are the cause; None if unknown."""
        case = self._case
        if case is not None and late:
            return IN_FLIGHT if self.is_nothing and case.rounds == 1 else None
        if case is not None:
            return GOES_FIRST if self.is_nothing else GOES_FIRST_AGAIN
        moved = refused and self.rate.pace and self.noise.accepted_in_a_row < APART
        allowed = not late and self.rate.is_below and self.jobs.allows(occupied)
        return 0.0 if allowed and not moved and not self.is_nothing else None

    def _judge(self, case: _Refusals, running: int, now: float) -> None:
        """A call was accepted again: learn from what helped."""
        if running and self._a_job_helped(case, running, now):
            self.rate.dismiss()
            self.jobs.settle(max(case.running, running), now)
            return
        is_below = self.rate.is_below
        self.rate.settle(case.since, now)
        self.jobs.dismiss()
        if self.rate.pace and is_below and running:
            self._compare(case, now)

    def _compare(self, case: _Refusals, now: float) -> None:
        """Where refusals come again and again with as many jobs, these are a limit as well."""
        if abs(case.full_with - self._full_with) < ALIKE * case.full_with:
            self._alike += 1
        else:
            self._alike, self._full_with = 0, case.full_with
        if self._alike > OFTEN and self.jobs.limit is None:
            self.jobs.settle(case.running, now, sure=False)

    def _a_job_helped(self, case: _Refusals, running: int, now: float) -> bool:
        """Whether the end of a job ended the refusals, and not time.

        More jobs than were running at the refusals say that it was time, unless as many can have
        ended without our knowing: a poll reports the end of a job only later.
        """
        before, may_be_rate = self.jobs.before, self.rate.explains(now - case.since)
        if before is None:
            unseen = max(UNSEEN_ENDS, UNSEEN_SHARE * case.full_with)
            return case.rounds > 2 and not may_be_rate and running - case.full_with <= unseen
        if running > case.running:
            return False
        return case.running >= before or self.rate.pace is None or not may_be_rate


@attrs.define(eq=False)
class _Refusals:
    """Consecutive refusals, until a call is accepted that was sent later.

    Args:
        since: when the first came.
        full_with: jobs running when those were answered that were in flight then.
        eased: whether few calls were let in at the first.
        running: jobs running at the last.
        rounds: how many came; those of concurrent calls count once.
    """

    since: float
    full_with: int
    eased: bool
    running: int = 0
    rounds: int = 0
