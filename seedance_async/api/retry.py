"""What a failure allows: whether a call may be sent again, must not be, or nobody can know.

Money hangs on `judge_submit`; it is the one place that decides. Pure: an error in, a verdict out.
"""

from __future__ import annotations

from enum import Enum

from seedance_async.api.errors import (
    APIError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientCreditsError,
    RateLimitError,
    SeedanceError,
    ServerError,
    TransportError,
)


class Verdict(Enum):
    """What a failed call allows."""

    RETRY = "retry"  # nothing happened; try again after a backoff
    THROTTLED = "throttled"  # the server refused for now; wait as it says
    REFUSED = "refused"  # certainly nothing was done, and trying again will not help
    UNCERTAIN = "uncertain"  # it may have been done


# The statuses below 500 that say for sure that the job was not taken. Not among them: a timeout
# (408), a conflict (409), "too early" (425), and what gateways make up, such as 460 and 499 for
# a client that went away after the job may have been taken.
_REFUSALS = frozenset(
    {400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 413, 414, 415, 417, 421, 422, 426}
    | {428, 431, 451}
)


def judge_submit(error: SeedanceError) -> Verdict:
    """What the failure of a submit allows. Whatever is not known for sure is UNCERTAIN."""
    if isinstance(error, TransportError):
        if error.delivered == "maybe":
            return Verdict.UNCERTAIN
        return Verdict.RETRY if error.transient else Verdict.REFUSED
    if isinstance(error, RateLimitError):
        return Verdict.THROTTLED
    if isinstance(error, ServerError):
        refused = error.status == 503 and error.retry_after is not None and error.code is not None
        return Verdict.THROTTLED if refused else Verdict.UNCERTAIN
    if isinstance(error, APIError) and error.status in _REFUSALS:
        return Verdict.REFUSED
    return Verdict.UNCERTAIN


def judge_repeatable(error: SeedanceError) -> Verdict:
    """What the failure of a call that may be repeated allows: a query, a cancellation."""
    if isinstance(error, TransportError):
        return Verdict.RETRY if error.transient else Verdict.REFUSED
    if isinstance(error, RateLimitError):
        return Verdict.THROTTLED
    if isinstance(error, APIError):
        if error.status == 503 and error.retry_after is not None:
            return Verdict.THROTTLED
        again = isinstance(error, ServerError) or error.status in (408, 425)
        return Verdict.RETRY if again else Verdict.REFUSED
    return Verdict.REFUSED


def stops_submits(error: SeedanceError) -> bool:
    """Whether a refusal concerns every submit and not the one job: a bad key, no credits left.

    A 403 with another code may be about this prompt alone (moderation), so it stops nothing.
    """
    if isinstance(error, (InsufficientCreditsError, BudgetExceededError)):
        return True
    return isinstance(error, AuthenticationError) and (
        error.status == 401 or error.code == "unauthorized"
    )
