"""The polling policies that a session is given, and what proposes the delays under each."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Protocol

import attrs

from seedance_async.api.backoff import Backoff, is_finite


class PollTimes(Protocol):
    """Proposes when a job is polled next, and learns from what polls have shown."""

    def running(self, kind: Hashable, after: float, by: float, *, queued: bool = False) -> None:
        """A job seen running at age `after` (0 at first) still ran at age `by`, in seconds."""

    def finished(self, kind: Hashable, after: float, by: float) -> None:
        """A job seen running at age `after` (0 at first) had ended at age `by`, in seconds."""

    def delay(
        self, kind: Hashable, age: float, polls: int, rng: random.Random, *, queued: bool = False
    ) -> float:
        """Seconds until the next poll of a job of this age, after this many polls."""


@attrs.frozen(kw_only=True)
class LearnedPolls:
    """Poll when an end is likely: by `backoff` at first, then by when similar jobs ended.

    A session learns how long jobs take, for each model, duration, resolution and mode. After about
    a dozen have ended, polls are rare until the first of the jobs can be expected to end, and dense
    where most of them do. This takes fewer polls than `backoff` alone, and notices ends sooner
    where they can be foreseen.

    Args:
        backoff: the delays while little is known, and the measure of how many polls a job may take.
            By default they grow to about five seconds, as often as a person would look. While a job
            is queued they are 1.7 times as long: it has to be processed before it ends.
        stretch: the longest delay, before an end is expected, in multiples of `backoff.maximum`; at
            least 1.

    Raises:
        ValueError: `stretch` is below 1 or not a finite number.
    """

    backoff: Backoff = attrs.field(
        default=Backoff(initial=2.8, multiplier=2.0, maximum=4.9),
        validator=attrs.validators.instance_of(Backoff),
    )
    stretch: float = 6.0

    def __attrs_post_init__(self) -> None:
        given = self.stretch
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise ValueError(f"LearnedPolls.stretch must be a number, not {given!r}")
        if not (is_finite(given) and given >= 1):
            raise ValueError(f"LearnedPolls.stretch must be at least 1 and finite: {given!r:.40}")


class PlainPolls:
    """`PollTimes` that learn nothing: the delays of a backoff alone."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff

    def running(self, kind: Hashable, after: float, by: float, *, queued: bool = False) -> None:
        """See `PollTimes`."""

    def finished(self, kind: Hashable, after: float, by: float) -> None:
        """See `PollTimes`."""

    def delay(
        self, kind: Hashable, age: float, polls: int, rng: random.Random, *, queued: bool = False
    ) -> float:
        """See `PollTimes`."""
        return self._backoff.delay(polls, rng)


def poll_times(policy: Backoff | LearnedPolls) -> PollTimes:
    """What proposes the delays under this policy; each session has its own."""
    if isinstance(policy, Backoff):
        return PlainPolls(policy)
    from seedance_async.jobs.polling.adaptive.planner import PollPlanner  # only if it is used

    return PollPlanner(policy.backoff, stretch=policy.stretch)
