"""News of a run, told as it happens: what was saved, what went wrong, what holds the run up.

What is much the same is told once in a while, with how often it happened since: a thousand refused
polls are one line in ten seconds.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable

import attrs

from seedance_async import (
    APIError,
    Event,
    GenerationRequest,
    JobState,
    LimitsChanged,
    PollFailed,
    RequestRetried,
    RequestThrottled,
    VideoSaved,
)
from seedance_async.cli.live.jobs import LineOf
from seedance_async.cli.runs.outcome import NOT_SUBMITTED, Outcome
from seedance_async.cli.runs.reasons import reason_of
from seedance_async.cli.text import shorten

#: Seconds in which what is much the same is told once.
SPELL = 10.0

#: The share of refusals by chance from which it is told.
_MUCH = 0.05

_CALLS = {"submit": "submits", "query": "queries"}

#: A URL before the words of an error: it is long, and the same in all of them.
_URL = re.compile(r"https?://\S+: ")

#: Says a line, in a style.
Say = Callable[[str, str | None], None]

_WORDS = {
    JobState.FAILED: ("failed", "red"),
    JobState.CANCELLED: ("was cancelled", "yellow"),
    JobState.REJECTED: ("was refused, nothing charged", "red"),
    JobState.UNCERTAIN: ("is uncertain: perhaps accepted and charged", "bold yellow"),
    JobState.ABANDONED: ("is no longer waited for", "yellow"),
    JobState.SUCCEEDED: ("was made, but not saved", "yellow"),
}


@attrs.define
class _Spell:
    """The last time that something was told, and how often it has happened since."""

    told_at: float
    since: int = 0


class News:
    """Tells what happens in a run.

    Args:
        say: says a line.
        line_of: the line of a request.
    """

    def __init__(self, say: Say, line_of: LineOf) -> None:
        self._say, self._line_of = say, line_of
        self._spells: dict[str, _Spell] = {}

    def hear(self, event: Event) -> None:
        """Tell an event, if it is news."""
        if isinstance(event, VideoSaved):
            place = event.url or event.path
            self._say(f"{self._name(event.request, event.request_id)} saved: {place}", None)
        elif isinstance(event, RequestThrottled):
            self._throttled(event)
        elif isinstance(event, RequestRetried):
            self._retried(event)
        elif isinstance(event, PollFailed):
            self._poll_failed(event)
        elif isinstance(event, LimitsChanged):
            self._tell(f"limits {event.operation}", _limits(event), "yellow")

    def settled(self, outcome: Outcome) -> None:
        """Tell the outcome of a request, unless all went well or it was never sent."""
        if outcome.error is None or outcome.state == NOT_SUBMITTED:
            return
        words, style = _WORDS[JobState(outcome.state)]
        reason = reason_of(outcome)
        name = self._name(outcome.request, outcome.request_id) or f"task {outcome.key}"
        self._tell(f"{outcome.state} {reason}", f"{name} {words}{reason and ': '}{reason}", style)

    def _retried(self, event: RequestRetried) -> None:
        if event.operation == "download":
            self._tell("retried download", f"{_short(event.error)}; it goes on", "yellow")
            return
        text = f"a {event.operation} did not get through, and is sent again"
        self._tell(f"retried {event.operation}", f"{text}: {_short(event.error)}", "yellow")

    def _poll_failed(self, event: PollFailed) -> None:
        name = self._name(event.request, event.request_id)
        text = f"the state of {name} could not be read, and is asked for again"
        topic = f"poll {type(event.error).__name__}"
        self._tell(topic, f"{text}: {_short(event.error)}", "yellow")

    def _throttled(self, event: RequestThrottled) -> None:
        wait = "" if event.retry_after is None else f" for {event.retry_after:g} s"
        text = (
            f"the server refuses {_CALLS[event.operation]}{wait} (rate limit); they are sent again"
        )
        self._tell(f"throttled {event.operation}", text, "yellow")

    def _tell(self, topic: str, text: str, style: str | None) -> None:
        now = asyncio.get_running_loop().time()
        spell = self._spells.get(topic)
        if spell is not None and now - spell.told_at < SPELL:
            spell.since += 1
            return
        more = f" ({spell.since:,} more like it since)" if spell is not None and spell.since else ""
        self._spells[topic] = _Spell(now)
        self._say(text + more, style)

    def _name(self, request: GenerationRequest | None, request_id: str | None) -> str:
        """A job for people: its line, or its id."""
        line = self._line_of(request)
        if line is not None:
            take = f", take {line.take}" if line.take > 1 else ""
            return f"line {line.number}{take}"
        return f"job {request_id}" if request_id else shorten(request.prompt if request else "", 40)


def _short(error: BaseException | None) -> str:
    """An error in one line: that of a gateway quotes a whole page."""
    if isinstance(error, APIError) and error.code is None:
        return f"HTTP {error.status}"
    return shorten(_URL.sub("", str(error)), 120)


def _limits(event: LimitsChanged) -> str:
    """What holds calls back, and what the server seems to allow."""
    calls, told = _CALLS[event.operation], list[str]()
    if event.held_for >= 1:
        until = f" for {event.held_for:.0f} s" if math.isfinite(event.held_for) else ""
        told.append(f"{calls} are held back{until}")
    allowed = [f"{event.rate:.3g} {calls} a second"] if event.rate is not None else []
    allowed += [f"{event.limit} jobs at once"] if event.limit is not None else []
    if allowed:
        told.append(f"the server seems to allow {' and '.join(allowed)}")
    if event.noise >= _MUCH:
        told.append(f"it refuses {event.noise:.0%} of {calls} by chance")
    return "; ".join(told) or f"{calls} are sent as usual again: no limit is known"
