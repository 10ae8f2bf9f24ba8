"""Why a job has no video, in the words of its worker: an outcome has no more."""

from __future__ import annotations

from seedance_async import DownloadError, JobState, SeedanceError
from seedance_async.cli.exit_codes import (
    GivenUpError,
    LimitReachedError,
    StoppedRunError,
    TaskError,
)
from seedance_async.engines import Outcome


def refusal_of(outcome: Outcome) -> SeedanceError:
    """Why nothing was accepted, or nothing is waited for any more."""
    if outcome.state == JobState.CANCELLED:
        return StoppedRunError(outcome.error or "it was cancelled before it was submitted")
    text = outcome.error or "its worker gives no reason"
    return (
        LimitReachedError(text) if outcome.error_type == "BudgetExceededError" else TaskError(text)
    )


def failure_of(outcome: Outcome) -> SeedanceError | None:
    """What went wrong with a task; None if its video is saved."""
    match JobState(outcome.state):
        case JobState.SUCCEEDED if outcome.file is not None:
            return None
        case JobState.SUCCEEDED:
            return DownloadError(outcome.error or "", request_id=outcome.request_id or "")
        case JobState.UNCERTAIN | JobState.ABANDONED:
            return GivenUpError(outcome.error or "the video may still come")
        case JobState.REJECTED:
            return refusal_of(outcome)
        case _:
            return TaskError(outcome.error or "")
