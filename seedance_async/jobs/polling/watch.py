"""One watched job: its place in the schedule, its deadline, and its failed polls."""

from __future__ import annotations

import math
from collections.abc import Hashable

import attrs

from seedance_async.api.errors import (
    AuthenticationError,
    NotFoundError,
    RateLimitError,
    SeedanceError,
)
from seedance_async.jobs.polling.scheduler import Item
from seedance_async.jobs.registry import JobRecord

#: Seconds after which a job is given up that the server does not know (404): a job just accepted
#: may not be readable at once.
NOT_FOUND_TIMEOUT = 60.0

#: The same for a job attached by an id that the server has never known: it is probably mistyped,
#: or of another account. Whoever attached it has the id, and can attach it again.
UNKNOWN_ID_TIMEOUT = 5.0

#: Fewer failed polls than this give up no job, however long they have gone on.
ENOUGH_POLLS = 3


@attrs.define(eq=False, repr=False, weakref_slot=False)
class FailedPolls:
    """A job's consecutive failed polls. The last ones, if they were 404s, are counted apart, too.

    `since` is the event loop's time of the first.
    """

    since: float = math.inf
    polls: int = 0
    not_found_since: float = math.inf
    not_found_polls: int = 0

    def are_enough(
        self,
        error: SeedanceError,
        now: float,
        timeout: float,
        not_found_timeout: float = NOT_FOUND_TIMEOUT,
    ) -> bool:
        """Count one more; whether the job should be given up."""
        not_found = isinstance(error, NotFoundError)
        if not not_found:
            self.not_found_since, self.not_found_polls = math.inf, 0
        if isinstance(error, (AuthenticationError, RateLimitError)):
            return False  # the client's gate holds all polls; it says nothing about this job
        self.since, self.polls = min(self.since, now), self.polls + 1
        enough = self.polls >= ENOUGH_POLLS and now - self.since >= timeout
        if not_found:
            self.not_found_since = min(self.not_found_since, now)
            self.not_found_polls += 1
            lost = now - self.not_found_since >= not_found_timeout
            enough = enough or (lost and self.not_found_polls >= ENOUGH_POLLS)
        return enough


@attrs.define(eq=False, repr=False, weakref_slot=False)
class Watch(Item):
    """One job that is polled.

    Attributes:
        record: the job.
        deadline: the event loop's time at which `limit` is looked at; from the final poll on, that
            by which this must be answered.
        limit: the time at which the session stops waiting for it: that of the server's queue, and
            once it is processed, that of the processing; minus infinity once its final poll is due.
        kind: what it has in common with jobs that are expected to take the same time.
        attempt: polls since the delays began to grow.
        polls: polls in all.
        poll_again: whether to poll it again as soon as the poll in flight is answered.
        seen_running: its age in seconds when a poll last showed it running.
        failed: its consecutive failed polls, or None if the last one was answered.
    """

    record: JobRecord
    deadline: float
    limit: float
    kind: Hashable
    attempt: int = 0
    polls: int = 0
    poll_again: bool = False
    seen_running: float = 0.0
    failed: FailedPolls | None = None

    def __lt__(self, other: Watch) -> bool:
        return self.deadline < other.deadline

    def __repr__(self) -> str:
        return f"<Watch of job {self.record.request_id}>"

    @property
    def final(self) -> bool:
        """Whether its final poll is due or in flight."""
        return self.limit == -math.inf

    def is_overdue(self, now: float) -> bool:
        """Whether a poll sent now is the last one."""
        return now >= self.limit
