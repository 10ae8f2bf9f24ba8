"""An outcome: the result of one request, as a record and for people. It does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from seedance_async import (
    AuthenticationError,
    GenerationRequest,
    InsufficientCreditsError,
    Job,
    JobState,
    MediaUploadError,
    RateLimitError,
    SeedanceError,
    ServerError,
    SubmitUncertainError,
    TransportError,
)
from seedance_async.cli.exit_codes import EarlierRunError, StoppedRunError
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import state_of
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.journal import JournalEntry

#: The state of a line that was certainly never sent. All other states are those of `JobState`.
NOT_SUBMITTED = "not_submitted"

#: Refusals that concern the account or the moment, not the request: it can be sent again as it is.
_NOT_ABOUT_THE_REQUEST = (
    AuthenticationError,
    InsufficientCreditsError,
    MediaUploadError,
    RateLimitError,
    ServerError,
    TransportError,
)


@attrs.frozen(kw_only=True)
class Outcome:
    """The result of one request.

    Attributes:
        line: the line of the input where it begins; None for a job known by its id.
        take: which take of the line it is.
        state: a `JobState`, or `NOT_SUBMITTED`.
        key: the job's key in the journal, if there is one.
        file: the video, if one was saved to this machine.
        object_url: the video, if one was saved to a bucket.
        error: what went wrong; a succeeded job has one if its video was not saved.
        next_step: what the user can do about it, or None.
        columns: what else the input says of it.
    """

    state: str
    line: int | None = None
    take: int = 1
    key: str | None = None
    request: GenerationRequest | None = None
    prompt: str | None = None
    request_id: str | None = None
    credits_charged: int | None = None
    file: Path | None = None
    object_url: str | None = None
    output_url: str | None = attrs.field(default=None, repr=False)
    error: SeedanceError | None = None
    next_step: str | None = None
    columns: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def of_job(
        cls,
        job: Job,
        line: Line | None,
        *,
        file: Path | str | None = None,
        error: SeedanceError | None = None,
        next_steps: NextSteps,
    ) -> Outcome:
        """The outcome of a job that has ended.

        Args:
            job: the job.
            line: where it is in the input, if anywhere.
            file: where its video was saved: a path, or the URL of an object.
            error: why its video was not saved; by default the job's own error.
            next_steps: the run's.
        """
        generation, request = job.generation, job.request
        error = error or job.error
        request_id = job.request_id or getattr(error, "request_id", None)
        return cls(
            line=None if line is None else line.number,
            take=1 if line is None else line.take,
            key=job.key if next_steps.journal is not None else None,
            request=request,
            prompt=request.prompt if request else generation.prompt if generation else None,
            state=str(job.state),
            request_id=request_id,
            credits_charged=job.credits_charged,
            file=file if isinstance(file, Path) else None,
            object_url=file if isinstance(file, str) else None,
            output_url=generation.output_url if generation else None,
            error=error,
            next_step=_next_step(job.state, job.key, job.request_id, error, next_steps),
        )

    @classmethod
    def of_entry(
        cls,
        entry: JournalEntry,
        line: Line,
        *,
        file: Path | str | None,
        unfinished: SeedanceError,
        next_steps: NextSteps,
    ) -> Outcome:
        """The outcome of a job of an earlier run, which this run did not resume.

        Args:
            entry: the job as the journal has it.
            line: where it is in the input.
            file: where its video is, if it was saved: a path, or the URL of an object.
            unfinished: the error if something is left to be waited for or saved.
            next_steps: the run's.
        """
        state, request = _given_up(entry), line.request
        error: SeedanceError | None
        if state is JobState.UNCERTAIN:
            reason = entry.error or "the process ended between the submit and its answer"
            error = SubmitUncertainError(reason, request=request, key=entry.key)
        elif state in (JobState.FAILED, JobState.CANCELLED):
            reason = f": {entry.error}" if entry.error else ""
            error = EarlierRunError(f"the generation {state} in an earlier run{reason}")
        else:
            error = None if file is not None else unfinished
        return cls(
            line=line.number,
            take=line.take,
            key=entry.key,
            request=request,
            prompt=request.prompt,
            state=str(state),
            request_id=entry.request_id,
            credits_charged=entry.credits_charged,
            file=file if isinstance(file, Path) else None,
            object_url=file if isinstance(file, str) else None,
            error=error,
            next_step=_next_step(state, entry.key, entry.request_id, error, next_steps),
        )

    @classmethod
    def not_submitted(cls, line: Line, reason: SeedanceError | None) -> Outcome:
        """The outcome of a request that was never sent."""
        return cls(
            line=line.number,
            take=line.take,
            request=line.request,
            prompt=line.request.prompt,
            state=NOT_SUBMITTED,
            error=reason or StoppedRunError("the run ended before this line was submitted"),
        )

    @classmethod
    def uncertain(cls, line: Line, error: SubmitUncertainError, next_steps: NextSteps) -> Outcome:
        """The outcome of a request that may have been sent, and has no job to ask."""
        return cls(
            line=line.number,
            take=line.take,
            key=error.key,
            request=line.request,
            prompt=line.request.prompt,
            state=str(JobState.UNCERTAIN),
            error=error,
            next_step=next_steps.settle(error.key),
        )

    @property
    def is_saved(self) -> bool:
        """Whether the video is where it was to be saved."""
        return self.file is not None or self.object_url is not None

    @property
    def is_unsaved(self) -> bool:
        """Whether the video was made and not saved."""
        return self.state == JobState.SUCCEEDED and self.error is not None

    @property
    def can_be_resubmitted(self) -> bool:
        """Whether it certainly cost nothing and nothing is wrong with the request itself."""
        if self.state == NOT_SUBMITTED:
            return True
        refused = self.state == JobState.REJECTED
        return refused and isinstance(self.error, _NOT_ABOUT_THE_REQUEST)

    def as_record(self) -> dict[str, Any]:
        """Plain JSON data; the fields are those of docs/cli.md."""
        error = self.error
        return {
            "line": self.line,
            "take": self.take,
            "key": self.key,
            "prompt": self.prompt,
            "state": self.state,
            "request_id": self.request_id,
            "credits_charged": self.credits_charged,
            "file": self.object_url if self.file is None else str(self.file),
            "output_url": self.output_url,
            "error": error and {"type": type(error).__name__, "message": str(error)},
            "next_step": self.next_step,
            "columns": dict(self.columns),
        }


def _given_up(entry: JournalEntry) -> JobState:
    """The state of an entry's job in a run that does not resume it."""
    state = state_of(entry)
    if entry.request_id is None:
        return JobState.UNCERTAIN
    return state if state.has_ended else JobState.ABANDONED


def _next_step(
    state: JobState,
    key: str,
    request_id: str | None,
    error: SeedanceError | None,
    next_steps: NextSteps,
) -> str | None:
    if state is JobState.UNCERTAIN:
        return next_steps.settle(key)
    if request_id is None or error is None:
        return None
    if state is JobState.SUCCEEDED:
        return next_steps.download([request_id])
    if state is JobState.ABANDONED:
        return next_steps.download([request_id], wait=True)
    return None
