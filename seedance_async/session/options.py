"""The options of a session, each written once."""

from __future__ import annotations

import attrs

from seedance_async.api.backoff import Backoff
from seedance_async.api.options import RetryPolicy, Timeouts, count, is_a, policy, seconds, whole
from seedance_async.jobs.polling.adaptive import LearnedPolls


@attrs.frozen(kw_only=True, eq=False, repr=False)
class SessionOptions:
    """The limits and policies of a session; see `SeedanceSession` for what each means."""

    max_in_flight: int = count(20)
    max_connections: int = count(50)
    max_downloads: int = count(4)
    poll: Backoff | LearnedPolls = attrs.field(
        default=LearnedPolls(), validator=is_a(Backoff, LearnedPolls)
    )
    poll_rate: float = seconds(20.0)
    job_timeout: float = seconds(3600.0)
    poll_patience: float = seconds(900.0)
    cancel_on_error: bool = policy(False)
    max_credits: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole))
    resubmit_uncertain: bool = policy(False)
    retry: RetryPolicy = policy(RetryPolicy())
    timeouts: Timeouts = policy(Timeouts())
