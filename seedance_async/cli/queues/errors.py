"""Why a job has no video, as an event tells it."""

from __future__ import annotations

from seedance_async import JobEvent, JobFailed, JobState, JobTrouble, SeedanceError
from seedance_async.cli.exit_codes import GivenUpError, TaskError


def failure_of(event: JobEvent, state: JobState) -> SeedanceError | None:
    """The error of a job that has ended; None if it succeeded."""
    if state is JobState.SUCCEEDED:
        return None
    if isinstance(event, JobTrouble) and event.error is not None:
        return event.error
    if state is JobState.ABANDONED:
        return GivenUpError("its deadline passed; the video may still come")
    reason = event.reason if isinstance(event, JobFailed) else None
    return TaskError(reason.message if reason is not None else "")
