"""The lifecycle of a job: its states, and the table of the moves between them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from seedance_async.api.models import GenerationStatus


class JobState(StrEnum):
    """Where a job is in its life.

    ```
    pending → submitting → queued → processing → succeeded | failed | cancelled
              submitting → rejected     refused, nothing charged
              submitting → uncertain    may have been charged; queued once the id is learned
              queued, processing → abandoned    the deadline passed or the state can't be read
    ```
    """

    PENDING = "pending"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"
    ABANDONED = "abandoned"

    @property
    def is_final(self) -> bool:
        """Whether this session does no more about the job."""
        return self in FINAL_STATES

    @property
    def is_running(self) -> bool:
        """Whether the server has accepted the job and has not reported its end."""
        return self in RUNNING_STATES

    @property
    def has_ended(self) -> bool:
        """Whether the server has reported the job's outcome."""
        return self in ENDED_STATES

    @property
    def is_resumable(self) -> bool:
        """Whether the job, known by its id, may still be going on at the server."""
        return self in RUNNING_STATES or self is JobState.ABANDONED

    @property
    def is_unanswered(self) -> bool:
        """Whether a submit has no answer, so that nobody knows whether the job was charged.

        In a journal that no run is writing, SUBMITTING is as uncertain as UNCERTAIN.
        """
        return self in (JobState.SUBMITTING, JobState.UNCERTAIN)


#: The submit has no outcome yet.
UNSETTLED_STATES = frozenset({JobState.PENDING, JobState.SUBMITTING})

#: The server has accepted the job and has not reported its end.
RUNNING_STATES = frozenset({JobState.QUEUED, JobState.PROCESSING})

#: The server has reported the end of the job.
ENDED_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

#: The session does no more about the job.
FINAL_STATES = ENDED_STATES | {JobState.REJECTED, JobState.UNCERTAIN, JobState.ABANDONED}

#: A job is uncertain again if the id that its server gave it turns out to be another job's.
_AFTER_RUNNING = ENDED_STATES | {JobState.ABANDONED, JobState.UNCERTAIN}

#: The whole lifecycle: from each state, the states that a job may move to.
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.SUBMITTING, JobState.REJECTED}),
    JobState.SUBMITTING: frozenset(
        {JobState.QUEUED, JobState.PROCESSING, JobState.REJECTED, JobState.UNCERTAIN}
    ),
    JobState.QUEUED: _AFTER_RUNNING | {JobState.PROCESSING},
    JobState.PROCESSING: _AFTER_RUNNING,
    JobState.UNCERTAIN: frozenset({JobState.QUEUED, JobState.PROCESSING}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.REJECTED: frozenset(),
    JobState.ABANDONED: frozenset(),
}

#: The state that each documented status leads to.
STATE_OF: Mapping[GenerationStatus, JobState] = {
    GenerationStatus.QUEUED: JobState.QUEUED,
    GenerationStatus.PROCESSING: JobState.PROCESSING,
    GenerationStatus.SUCCEEDED: JobState.SUCCEEDED,
    GenerationStatus.FAILED: JobState.FAILED,
    GenerationStatus.CANCELLED: JobState.CANCELLED,
}
