"""An outcome: what became of one request, as a record and as words. It does no I/O."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import attrs

from seedance_async import (
    AuthenticationError,
    GenerationRequest,
    InsufficientCreditsError,
    Job,
    JobState,
    RateLimitError,
    SeedanceError,
    ServerError,
    SubmitUncertainError,
    TransportError,
)
from seedance_async.cli.exit_codes import StoppedRunError
from seedance_async.cli.runs.advice import Advice

#: The state of a line that certainly was never sent. All other states are the SDK's.
NOT_SUBMITTED = "not_submitted"

#: Refusals that concern the account or the moment, not the request: it can be sent again as it is.
_NOT_ABOUT_THE_REQUEST = (
    AuthenticationError,
    InsufficientCreditsError,
    RateLimitError,
    ServerError,
    TransportError,
)
_SAFE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@attrs.frozen(kw_only=True)
class Outcome:
    """What became of one request.

    Attributes:
        line: its line in the input; None for a job taken up by its id.
        state: a `JobState`, or `NOT_SUBMITTED`.
        key: the job's key in the journal, where there is one.
        file: the video, where one was saved.
        error: what went wrong; a succeeded job has one where its video was not saved.
        next_step: what the user can do about it, or None.
    """

    state: str
    line: int | None = None
    key: str | None = None
    request: GenerationRequest | None = None
    prompt: str | None = None
    request_id: str | None = None
    credits_charged: int | None = None
    file: Path | None = None
    output_url: str | None = attrs.field(default=None, repr=False)
    error: SeedanceError | None = None
    next_step: str | None = None

    @classmethod
    def of_job(
        cls,
        job: Job,
        line: int | None,
        *,
        file: Path | None = None,
        error: SeedanceError | None = None,
        advice: Advice,
    ) -> Outcome:
        """The outcome of a job that has ended.

        Args:
            job: the job.
            line: its line in the input, if any.
            file: where its video was saved.
            error: why its video was not saved; else the job's own error counts.
            advice: the run's, for what to do next.
        """
        generation, request = job.generation, job.request
        error = error or job.error
        return cls(
            line=line,
            key=job.key if advice.journal is not None else None,
            request=request,
            prompt=request.prompt if request else generation.prompt if generation else None,
            state=str(job.state),
            request_id=job.request_id or getattr(error, "request_id", None),
            credits_charged=job.credits_charged,
            file=file,
            output_url=generation.output_url if generation else None,
            error=error,
            next_step=_next_step(job, error, advice),
        )

    @classmethod
    def not_submitted(
        cls, line: int | None, request: GenerationRequest, reason: SeedanceError | None
    ) -> Outcome:
        """The outcome of a request that was never sent."""
        return cls(
            line=line,
            request=request,
            prompt=request.prompt,
            state=NOT_SUBMITTED,
            error=reason or StoppedRunError("the run ended before this line was submitted"),
        )

    @classmethod
    def uncertain(
        cls,
        line: int | None,
        request: GenerationRequest,
        error: SubmitUncertainError,
        advice: Advice,
    ) -> Outcome:
        """The outcome of a request of which there is no job to ask."""
        return cls(
            line=line,
            key=error.key,
            request=request,
            prompt=request.prompt,
            state=JobState.UNCERTAIN.value,
            error=error,
            next_step=advice.settle(error.key),
        )

    @property
    def is_unsaved(self) -> bool:
        """Whether the video is made but was not saved."""
        return self.state == JobState.SUCCEEDED and self.error is not None

    @property
    def can_be_sent_as_it_is(self) -> bool:
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
            "key": self.key,
            "prompt": self.prompt,
            "state": self.state,
            "request_id": self.request_id,
            "credits_charged": self.credits_charged,
            "file": None if self.file is None else str(self.file),
            "output_url": self.output_url,
            "error": error and {"type": type(error).__name__, "message": str(error)},
            "next_step": self.next_step,
        }


def file_name(line: int, request_id: str | None) -> str:
    """A name for a line's video that sorts as the input does, safe whatever the id says."""
    request_id = request_id or ""
    if not _SAFE_ID.fullmatch(request_id):
        digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
        request_id = f"job-{digest[:32]}"
    return f"{line:04d}-{request_id}.mp4"


def _next_step(job: Job, error: SeedanceError | None, advice: Advice) -> str | None:
    if job.state is JobState.UNCERTAIN:
        return advice.settle(job.key)
    if job.request_id is None or error is None:
        return None
    if job.state is JobState.SUCCEEDED:
        return advice.fetch([job.request_id])
    if job.state is JobState.ABANDONED:
        return advice.fetch([job.request_id], wait=True)
    return None
