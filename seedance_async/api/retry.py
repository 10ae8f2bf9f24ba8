"""What a failure allows: whether a call may be sent again, and when.

Money depends on `judge_submit`; it is the one place that decides whether a submit may be repeated.
The judgements are pure: an error in, a verdict out. `Attempts` counts and times those of one call.
"""

from __future__ import annotations

import asyncio
import random
from enum import Enum

from seedance_async.api.errors import (
    APIError,
    AuthenticationError,
    BudgetExceededError,
    InsufficientCreditsError,
    RateLimitError,
    SeedanceError,
    ServerError,
    TooManyAbandonedError,
    TooManyUncertainError,
    TransportError,
    UnreachableError,
)
from seedance_async.api.options import RetryPolicy
from seedance_async.api.rate_limit import Gate

#: Refusals by a rate limit after which a call has waited long enough even though others are
#: accepted meanwhile.
ENOUGH_REFUSALS = 100


class Verdict(Enum):
    """What a failed call allows."""

    RETRY = "retry"  # nothing happened; retry after a backoff
    THROTTLED = "throttled"  # the server refused for now; wait as it says
    REFUSED = "refused"  # certainly nothing was done, and retrying will not help
    UNCERTAIN = "uncertain"  # it may have been done


# The statuses below 500 that certainly mean that the job was not accepted. Not among them: a
# timeout (408), a conflict (409), "too early" (425), and what gateways invent, such as 460 and 499
# for a client that went away after the job may have been accepted. The API documents 401 alone;
# the others have their ordinary HTTP meanings.
_REFUSALS = frozenset(
    {400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 413, 414, 415, 417, 421, 422, 426}
    | {428, 431, 451}
)


def judge_submit(error: SeedanceError) -> Verdict:
    """What the failure of a submit allows. Whatever is not certain is UNCERTAIN."""
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
    """What the failure of a repeatable call allows: a query, a cancellation."""
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


_STOPPING = (
    InsufficientCreditsError,
    BudgetExceededError,
    TooManyAbandonedError,
    TooManyUncertainError,
    UnreachableError,
)


def stops_submits(error: SeedanceError) -> bool:
    """Whether a failure concerns every submit and not one job: a bad key, no credits, no host.

    A 403 with another code may be about this prompt alone (moderation), so it stops nothing.
    """
    if isinstance(error, _STOPPING):
        return True
    return isinstance(error, AuthenticationError) and (
        error.status == 401 or error.code == "unauthorized"
    )


class Attempts:
    """How often and for how long one call has failed, against what the policy allows.

    Args:
        policy, rng: the client's.
        gate: the one that the call waits at.
        most: calls in all. None for a submit that does not reach the server, for which time alone
            counts: an outage of some minutes must not use up the attempts of a whole batch.
        began: when the call began, by the event loop's clock.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        rng: random.Random,
        gate: Gate,
        *,
        most: int | None,
        began: float,
    ) -> None:
        self._policy, self._rng, self._gate, self._most = policy, rng, gate, most
        self._failures = self._refusals = 0
        self._began = self._failing_since = began

    def after(self, error: SeedanceError, verdict: Verdict, timeout: float) -> float:
        """Seconds before the next attempt; raises `error` if there must be none.

        After a refusal that holds everybody, the gate makes the call wait, so this returns 0.

        Args:
            error: how the last attempt failed.
            verdict: what that allows.
            timeout: seconds for which attempts may fail.
        """
        now = asyncio.get_running_loop().time()
        if verdict is Verdict.THROTTLED:
            self._check_throttled(error, now)
            self._failures = 0
            if self._gate.trouble.is_on(now):
                return 0.0
            own = self._policy.backoff.delay(self._refusals - 1, self._rng)
            return max(own, requested_wait(error))
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        wait = self._policy.backoff.delay(self._failures - 1, self._rng)
        # Nothing may have got through while it waited for its turn, either.
        trouble = max(self._began, self._gate.trouble.failing_since)
        spent = max(now + wait, self._gate.trouble.until) - min(self._failing_since, trouble)
        enough = self._most is not None and self._failures >= self._most
        if enough or spent > timeout:
            raise error
        return wait

    def _check_throttled(self, error: SeedanceError, now: float) -> None:
        self._refusals += 1
        asked, most = requested_wait(error), self._policy.throttle_timeout
        until = now + asked
        nothing_accepted = until - max(self._began, self._gate.trouble.refusing_since) > most
        starved = until - self._began > most and self._refusals >= ENOUGH_REFUSALS
        if asked > self._policy.max_retry_after or nothing_accepted or starved:
            raise error


def requested_wait(error: SeedanceError) -> float:
    """Seconds that the server's Retry-After asked for; 0 if there was none."""
    return (error.retry_after or 0.0) if isinstance(error, APIError) else 0.0
