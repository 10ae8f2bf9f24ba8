"""How a session is to poll, as its user says it, and who proposes the delays then."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Protocol

import attrs

from seedance_async.api.backoff import Backoff, is_finite


class PollTimes(Protocol):
    """Who proposes when a job is polled next, and is told what the polls have shown."""

    def running(self, kind: Hashable, after: float, by: float) -> None:
        """A job known to run at age `after` (0 at first) still ran at age `by`, in seconds."""

    def finished(self, kind: Hashable, after: float, by: float) -> None:
        """A job known to run at age `after` (0 at first) had ended at age `by`, in seconds."""

    def delay(self, kind: Hashable, age: float, polls: int, rng: random.Random) -> float:
        """Seconds until a job of this age, polled so often without an end, is polled next."""


@attrs.frozen(kw_only=True)
class LearnedPolls:
    """Poll when news is likely: as `backoff` at first, then by when jobs alike have ended.

    Within a session, and for each model, duration, resolution and mode, the times of those that
    have ended are learnt. From a dozen on, a job's first poll comes late, the next ones are dense
    around the expected end, and stragglers are polled ever more rarely. It makes about as many
    polls as `backoff` alone would, fewer where jobs take equally long, and notices the end sooner.

    Args:
        backoff: the delays for what is not known yet, and the measure of how many polls a job may
            take.
        stretch: how many times `backoff.maximum` a delay may be at most, at least 1.

    Raises:
        ValueError: `stretch` is below 1 or no finite number.
    """

    backoff: Backoff = attrs.field(
        default=Backoff(), validator=attrs.validators.instance_of(Backoff)
    )
    stretch: float = 4.0

    def __attrs_post_init__(self) -> None:
        given = self.stretch
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise ValueError(f"LearnedPolls.stretch must be a number, not {given!r}")
        if not (is_finite(given) and given >= 1):
            raise ValueError(f"LearnedPolls.stretch must be at least 1 and finite: {given!r:.40}")


class PlainPolls:
    """`PollTimes` that learn nothing: the delays of a backoff."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff

    def running(self, kind: Hashable, after: float, by: float) -> None:
        """See `PollTimes`."""

    def finished(self, kind: Hashable, after: float, by: float) -> None:
        """See `PollTimes`."""

    def delay(self, kind: Hashable, age: float, polls: int, rng: random.Random) -> float:
        """See `PollTimes`."""
        return self._backoff.delay(polls, rng)


def poll_times(policy: Backoff | LearnedPolls) -> PollTimes:
    """Who proposes the delays under this policy; one for each session."""
    if isinstance(policy, Backoff):
        return PlainPolls(policy)
    from seedance_async.jobs.polling.adaptive.planner import (
        PollPlanner,  # imported only if it is used
    )

    return PollPlanner(policy.backoff, stretch=policy.stretch)
