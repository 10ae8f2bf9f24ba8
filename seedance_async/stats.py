"""What a session tells of itself at one moment."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from seedance_async.registry import JobState


@attrs.frozen
class SessionStats:
    """A session at one moment.

    Attributes:
        counts: jobs by state, since the session began.
        in_flight: jobs that this session submitted, or is submitting, and that have not ended.
        credits_charged: the sum of the charges that the server told.
        credits_unknown: jobs accepted without a charge that could be read.
        polls: status queries sent for tracked jobs.
        refusals: submits that a rate limit refused.
    """

    counts: Mapping[JobState, int]
    in_flight: int
    credits_charged: int
    credits_unknown: int
    polls: int
    refusals: int
