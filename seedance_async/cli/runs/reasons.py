"""Why a request did not succeed, in words, and what the user can do about it."""

from __future__ import annotations

import re

from seedance_async import (
    APIError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    GenerationCancelledError,
    InsufficientCreditsError,
    InvalidRequestError,
    JobError,
    JobState,
    JournalError,
    MediaUploadError,
    RateLimitError,
    SeedanceError,
    ServerError,
    SubmitUncertainError,
    TooManyAbandonedError,
    TransportError,
)
from seedance_async.api.retry import stops_submits
from seedance_async.cli.exit_codes import (
    EarlierRunError,
    InterruptedRunError,
    LimitReachedError,
    StoppedRunError,
    TaskError,
)
from seedance_async.cli.runs.outcome import Outcome

#: Words by which services say that the content was refused. Codes are not documented.
_MODERATION = re.compile(
    r"moderat|content.?polic|policy.?violat|unsafe|nsfw"
    r"|safety.(system|filter|check)|(sensitive|prohibited).?content",
    re.IGNORECASE,
)

#: What to do about a request that was not accepted; the first kind that fits counts.
_REMEDIES: tuple[tuple[type[SeedanceError] | tuple[type[SeedanceError], ...], str], ...] = (
    (InsufficientCreditsError, "add credits to the account, and run again"),
    (BudgetExceededError, "raise --max-credits, and run again"),
    (LimitReachedError, "raise --max-credits of the workers, and run again"),
    (MediaUploadError, "see to the file or the bucket, and run again"),
    (InterruptedRunError, "run again to submit what was not submitted"),
    ((RateLimitError, ServerError, TransportError), "run again later; see that the API is reached"),
    (TooManyAbandonedError, "look at the service, and run again later"),
    ((JournalError, ConfigurationError), "see to the journal and its disk, and run again"),
    (StoppedRunError, "run again"),
    ((APIError, InvalidRequestError, TaskError), "correct it, and run again"),
)


def reason_of(outcome: Outcome) -> str:
    """What went wrong, without what tells this job from another; "" if nothing did."""
    error = outcome.error
    if isinstance(error, SubmitUncertainError):
        return error.reason
    if isinstance(error, GenerationCancelledError):
        return ""
    if isinstance(error, JobError):
        told = str(error).removeprefix(f"job {error.request_id}: ")
        return told.removeprefix("the generation failed: ")
    return "" if error is None else str(error)


def remedy_for(outcome: Outcome) -> str | None:
    """What to do about a job that was not accepted, failed or was cancelled; None if unknown."""
    error = outcome.error
    if error is None:
        return None
    ended = outcome.state in (JobState.FAILED, JobState.CANCELLED)
    paid = " (a new job, paid for anew)" if ended else ""
    if _is_moderation(error):
        return f"moderation: change the prompt or the media, run again{paid}"
    if ended:
        return None
    if isinstance(error, BudgetExceededError) and error.unpriced:
        return "settle what is uncertain (`seedance journal adopt`), and run again"
    if isinstance(error, AuthenticationError):
        if stops_submits(error):
            return "set SEEDANCE_API_KEY to a key that this API accepts, and run again"
        return "the key may not do this: change the request or the key, and run again"
    return next((words for kind, words in _REMEDIES if isinstance(error, kind)), None)


def _is_moderation(error: SeedanceError) -> bool:
    if isinstance(error, AuthenticationError) and stops_submits(error):
        return False
    if isinstance(error, JobError):
        detail = error.generation.error if error.generation is not None else None
        return detail is not None and bool(_MODERATION.search(f"{detail.code} {detail.message}"))
    if isinstance(error, APIError):
        return bool(_MODERATION.search(f"{error.code} {error.message}"))
    return isinstance(error, EarlierRunError) and bool(_MODERATION.search(str(error)))
