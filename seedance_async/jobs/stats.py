"""The figures of a session at one moment, and what is kept to compute them.

Keeping them costs the same with any number of jobs: counters, and a ring of the last times.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import attrs

from seedance_async.api.long_waits import Awaited
from seedance_async.jobs.state import JobState

#: How many of the last jobs count for the times to finish.
REMEMBERED_TIMES = 1000


@attrs.frozen
class SessionStats:
    """A session at one moment.

    Attributes:
        counts: jobs by state, since the session began.
        in_flight: jobs that this session submitted, or is submitting, and that are not known to
            have ended: those that it no longer waits for count for an hour at least.
        credits_charged: the sum of the charges that the server reported.
        credits_unknown: jobs accepted without a charge that could be read.
        polls: status queries sent for tracked jobs.
        refusals: submits that a rate limit refused.
        query_refusals: polls and other calls that a rate limit refused.
        submit_rate: submits per second that the server seems to allow, learned from its refusals;
            None while no such limit is known.
        submit_limit: the same for jobs at once.
        submit_noise: the share of submits that is refused however few are sent.
        submit_hold: seconds until the next submit is sent at the earliest; 0 while nothing holds
            submits back.
        polls_per_job: polls per job until its end was seen, on average; None while no job has
            ended.
        time_to_finish_p50: seconds from acceptance until the end was noticed, the median of the
            last 1,000 jobs that the server ended; None while there is none. Jobs that were accepted
            in another session are left out, since nobody knows when that was.
        time_to_finish_p95: the same, for 95 of 100 jobs.
        finish_rate: jobs expected to end per second: those running now, divided by the mean time
            to finish. None if that is unknown. The remaining length of an input, divided by this
            rate, is how long it will take.
        poll_stretch: how many times longer than it should be each interval between two polls is,
            since `poll_rate` allows no more; 1 while the rate suffices.
        loop_lag: the longest delay of the event loop in seconds, seen when a poll was due.
        waiting: what is waited for at this moment for more than ten seconds ("network", "gate",
            "slot", "credits", "journal", "upload", "source", "download"), and for how many seconds.
        eta: seconds until all jobs that are pending or in flight have ended: their number divided
            by `finish_rate`. It holds if as many jobs go on running at once and take as long as the
            last ones did. 0 if there are none, None if it cannot be known. Requests that a stream
            has not pulled yet do not count.
    """

    counts: Mapping[JobState, int]
    in_flight: int
    credits_charged: int
    credits_unknown: int
    polls: int
    refusals: int
    query_refusals: int = 0
    submit_rate: float | None = None
    submit_limit: int | None = None
    submit_noise: float = 0.0
    submit_hold: float = 0.0
    polls_per_job: float | None = None
    time_to_finish_p50: float | None = None
    time_to_finish_p95: float | None = None
    finish_rate: float | None = None
    loop_lag: float = 0.0
    poll_stretch: float = 1.0
    waiting: Mapping[Awaited, float] = attrs.field(factory=dict)

    @property
    def eta(self) -> float | None:
        """See the class."""
        left = sum(count for state, count in self.counts.items() if not state.is_final)
        if not left:
            return 0.0
        return None if self.finish_rate is None else left / self.finish_rate


class FinishTimes:
    """How long the last jobs took, and how often a job is polled."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED_TIMES)
        self._jobs = self._polls = 0

    def note(self, seconds: float | None, polls: int) -> None:
        """A job has ended.

        Args:
            seconds: since its acceptance, or None if that was not seen.
            polls: how often it was polled.
        """
        self._jobs += 1
        self._polls += polls
        if seconds is not None:
            self._seconds.append(seconds)

    @property
    def polls_per_job(self) -> float | None:
        """Polls per job, over all jobs that have ended."""
        return self._polls / self._jobs if self._jobs else None

    def remaining(self, age: float) -> float | None:
        """Seconds until a job of this age ends: the median of the last ones that took longer."""
        longer = sorted(seconds for seconds in self._seconds if seconds > age)
        return longer[(len(longer) - 1) // 2] - age if longer else None

    def rate(self, running: int) -> float | None:
        """Jobs that end per second while this many are running (Little's law); None if unknown."""
        total = sum(self._seconds)
        return running * len(self._seconds) / total if running and total > 0 else None

    def quantiles(self, *shares: float) -> tuple[float | None, ...]:
        """The times within which these shares of the last jobs ended, by nearest rank."""
        ordered = sorted(self._seconds)
        if not ordered:
            return (None,) * len(shares)
        return tuple(ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in shares)
