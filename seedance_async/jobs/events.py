"""What happens in a session, as it happens: frozen events, in order, to one callable.

`SeedanceSession(on_event=...)` is called on the event loop, so it must be quick and must not
block; anything slower should go through a queue of its own. Whatever it raises is logged once per
kind of event and affects no job. No event shows a prompt in its repr, and none holds the API key.

Nothing here decides about a job: events are made from the registry's moves, and by those who send,
poll and save.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from seedance_async.api.errors import ConfigurationError, SeedanceError, frameless
from seedance_async.api.long_waits import Awaited
from seedance_async.api.models import ErrorDetail
from seedance_async.api.rate_limit import GateState
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord, SavedFile
from seedance_async.jobs.state import JobState

_log = logging.getLogger(__name__)


def _name_of_type(error: object) -> str:
    """An error as it may be shown: its message can quote a prompt or the server."""
    return type(error).__name__


@attrs.frozen(kw_only=True)
class Event:
    """Something that has happened.

    Attributes:
        at: when, in seconds of the event loop's clock.
    """

    at: float


@attrs.frozen(kw_only=True)
class RequestThrottled(Event):
    """The server refused a call by a rate limit (429, or 503 that asks to wait).

    Attributes:
        operation: "submit", or "query" for every other call.
        retry_after: seconds the server asks to wait, or None.
    """

    operation: Literal["submit", "query"]
    retry_after: float | None


@attrs.frozen(kw_only=True)
class RequestRetried(Event):
    """A call did not get through, which did no harm, and is sent again; or a download goes on.

    A poll is not repeated but comes again anyway, see `PollFailed`.

    Attributes:
        operation: "submit", "download" of a video that broke off, or "query" for every other call.
        error: how it failed.
        delay: seconds until it is sent again; longer if others are in line before it.
    """

    operation: Literal["submit", "query", "download"]
    error: SeedanceError = attrs.field(repr=_name_of_type)
    delay: float


@attrs.frozen(kw_only=True)
class LimitsChanged(Event):
    """What the server's refusals show of its limits has changed, or a long hold begins or is over.

    Attributes:
        operation: "submit", or "query" for every other call.
        held_for: seconds until the next call is sent; 0 while nothing holds calls back.
        rate: calls a second that the server seems to allow; None while no limit is known.
        limit: the same for jobs at once.
        noise: the share of calls that is refused however few are sent.
    """

    operation: Literal["submit", "query"]
    held_for: float
    rate: float | None
    limit: int | None
    noise: float


@attrs.frozen(kw_only=True)
class WaitBecameLong(Event):
    """Somebody has waited for more than ten seconds; said once in ten minutes for the same thing.

    Attributes:
        awaited: "network", "gate" (refusals, or nothing gets through), "slot" (`max_in_flight`),
            "credits" (`max_credits`), "journal", "upload", "source" or "download".
        waited: seconds so far.
    """

    awaited: Awaited
    waited: float


@attrs.frozen(kw_only=True)
class JobEvent(Event):
    """Something about one job.

    Attributes:
        key: the job's name in its session.
        request_id: the server's id, or None while it is not known.
        credits_charged: what the job cost according to the server, or None.
        seconds: since the session saw the job accepted; None before that, and for a job that was
            accepted in another session.
        request: the request, or None for a job attached by its id. It is in no repr.
    """

    key: str
    request_id: str | None = None
    credits_charged: int | None = None
    seconds: float | None = None
    request: GenerationRequest | None = attrs.field(default=None, repr=False)


class JobSubmitted(JobEvent):
    """A job is submitted: it has a slot and its credits, and is sent as rate limits permit.

    Exactly one of `JobAccepted`, `JobRejected`, `SubmitBecameUncertain` and `JobWithdrawn` follows.
    """

    __slots__ = ()


class JobWithdrawn(JobEvent):
    """The caller was cancelled before anything was sent: there is no such job."""

    __slots__ = ()


class JobAccepted(JobEvent):
    """The server has accepted the job, and with a journal that is on disk.

    It may also follow an uncertain submit, once its id is learned.
    """

    __slots__ = ()


class JobResumed(JobEvent):
    """A job that was accepted in another session is resumed; it is not charged again."""

    __slots__ = ()


class JobStarted(JobEvent):
    """The server says that it is processing the job."""

    __slots__ = ()


class JobSucceeded(JobEvent):
    """The video is made."""

    __slots__ = ()


@attrs.frozen(kw_only=True)
class JobFailed(JobEvent):
    """The server says that the job failed.

    Attributes:
        reason: the server's words, or None if it gives none.
    """

    reason: ErrorDetail | None = attrs.field(default=None, repr=False)


class JobCancelled(JobEvent):
    """The server says that the job was cancelled."""

    __slots__ = ()


@attrs.frozen(kw_only=True)
class JobTrouble(JobEvent):
    """Something went wrong with a job; each subclass says what that means.

    Attributes:
        error: what it was; None if a deadline passed.
    """

    error: SeedanceError | None = attrs.field(repr=_name_of_type)


class JobRejected(JobTrouble):
    """The job was not accepted, and nothing was charged for it."""

    __slots__ = ()


class SubmitBecameUncertain(JobTrouble):
    """The job may have been accepted and charged, here or in an earlier run of the journal."""

    __slots__ = ()


class JobAbandoned(JobTrouble):
    """The session no longer waits for the job; the video may still come."""

    __slots__ = ()


class PollFailed(JobTrouble):
    """A status query brought no usable answer, which says nothing about the job."""

    __slots__ = ()


@attrs.frozen(kw_only=True)
class VideoSaved(JobEvent):
    """The job's video is whole and in its place.

    Attributes:
        path: where; of an object in a store, its bucket and its key.
        size: bytes.
        url: the object in a store; None for a file.
    """

    path: Path
    size: int
    url: str | None = None


_ENDS: Mapping[JobState, type[JobEvent]] = {
    JobState.SUCCEEDED: JobSucceeded,
    JobState.FAILED: JobFailed,
    JobState.CANCELLED: JobCancelled,
    JobState.REJECTED: JobRejected,
    JobState.UNCERTAIN: SubmitBecameUncertain,
    JobState.ABANDONED: JobAbandoned,
}


class EventEmitter:
    """Calls one listener with everything that happens in a session, in order.

    From `submitted` until `release`, and within `holding`, the events of that job are held back:
    the outcome of a submit is reported only once it is on disk.

    Args:
        on_event: called with each event.

    Raises:
        ConfigurationError: it cannot be called, or it would have to be awaited.
    """

    def __init__(self, on_event: Callable[[Event], object]) -> None:
        if not callable(on_event) or inspect.iscoroutinefunction(on_event):
            raise ConfigurationError("on_event must be a plain function: it is called, not awaited")
        self._on_event = on_event
        self._held: dict[JobRecord, list[JobEvent]] = {}
        self._broken: set[type[Event]] = set()

    @contextmanager
    def holding(self, record: JobRecord) -> Iterator[None]:
        """Hold back the events of a job until the block is left, and emit them then."""
        self._held.setdefault(record, [])
        try:
            yield
        finally:
            self.release(record)

    def release(self, record: JobRecord) -> None:
        """Emit the events that were held back."""
        for event in self._held.pop(record, ()):
            self._emit(event)

    def submitted(self, record: JobRecord) -> None:
        """A job is about to be sent; its outcome is emitted after `release`."""
        self._add(JobSubmitted, record)
        self._held.setdefault(record, [])

    def withdrawn(self, record: JobRecord) -> None:
        """A job was forgotten before it was sent; emitted if its submit was."""
        if record in self._held:
            self._add(JobWithdrawn, record)

    def moved(self, record: JobRecord, before: JobState) -> None:
        """The state of a job has changed."""
        state = record.state
        if state.is_running and not before.is_running:
            known = before is JobState.UNCERTAIN or record.accepted_at is not None
            self._add(JobAccepted if known else JobResumed, record)
        if state is JobState.PROCESSING:
            self._add(JobStarted, record)
        elif state is JobState.FAILED:
            reason = record.generation.error if record.generation is not None else None
            self._add(JobFailed, record, reason=reason)
        elif state in (JobState.SUCCEEDED, JobState.CANCELLED):
            self._add(_ENDS[state], record)
        elif state in _ENDS:
            self._add(_ENDS[state], record, error=record.error)

    def poll_failed(self, record: JobRecord, error: SeedanceError) -> None:
        """A status query of a job has failed."""
        self._add(PollFailed, record, error=error)

    def saved(self, record: JobRecord, saved: SavedFile) -> None:
        """The video of a job is in its place."""
        self._add(VideoSaved, record, path=saved.path, size=saved.size, url=saved.url)

    def throttled(self, operation: Literal["submit", "query"], retry_after: float | None) -> None:
        """A rate limit has refused a call."""
        now = asyncio.get_running_loop().time()
        self._emit(RequestThrottled(at=now, operation=operation, retry_after=retry_after))

    def retried(
        self,
        operation: Literal["submit", "query", "download"],
        error: SeedanceError,
        delay: float,
    ) -> None:
        """A call that failed is sent again."""
        now = asyncio.get_running_loop().time()
        kept = frameless(error)
        self._emit(RequestRetried(at=now, operation=operation, error=kept, delay=delay))

    def limits_changed(self, operation: Literal["submit", "query"], state: GateState) -> None:
        """What a gate does has changed."""
        now, values = asyncio.get_running_loop().time(), attrs.asdict(state)
        self._emit(LimitsChanged(at=now, operation=operation, **values))

    def waited(self, awaited: Awaited, waited: float) -> None:
        """Somebody waits for long."""
        now = asyncio.get_running_loop().time()
        self._emit(WaitBecameLong(at=now, awaited=awaited, waited=waited))

    def _add(self, kind: type[JobEvent], record: JobRecord, **more: Any) -> None:
        now = asyncio.get_running_loop().time()
        request: object = record.request  # a stream may yield anything
        event = kind(
            at=now,
            key=record.key,
            request_id=record.request_id,
            credits_charged=record.credits_charged,
            seconds=None if record.accepted_at is None else now - record.accepted_at,
            request=request if isinstance(request, GenerationRequest) else None,
            **more,
        )
        held = self._held.get(record)
        if held is None:
            self._emit(event)
        else:
            held.append(event)

    def _emit(self, event: Event) -> None:
        try:
            self._on_event(event)
        except (Exception, asyncio.CancelledError):  # the latter from a future's `result`, say
            kind = type(event)
            if kind not in self._broken:
                self._broken.add(kind)
                _log.exception(
                    "on_event failed at a %s; the job goes on, and this is logged once a kind",
                    kind.__name__,
                )
