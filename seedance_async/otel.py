"""OpenTelemetry: one span per job, and metrics, made from a session's events and nothing else.

Needs the extra `otel`, which is the API package alone. The application chooses the SDK and the
exporters that the spans and metrics go to.

```python
async with SeedanceSession(on_event=instrument()) as session:
    ...
```

The names are those of the semantic conventions for generative AI, which are still in development
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). They cover neither videos nor this service
yet, so `gen_ai.output.type` is "video", `gen_ai.provider.name` is "seedance", and everything that
they have no name for is `seedance.*`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider, get_tracer

import seedance_async
from seedance_async import (
    Event,
    GenerationRequest,
    JobAbandoned,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRejected,
    JobResumed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    JobTrouble,
    JobWithdrawn,
    PollFailed,
    RequestThrottled,
    SubmitBecameUncertain,
)

OPERATION = "generate_content"
PROVIDER = "seedance"

#: Upper bounds in seconds: the recommended ones, which end at 82 seconds, doubled on until an hour
#: and a half, because a job takes minutes.
DURATION_BOUNDS = tuple(0.01 * 2**power for power in range(20))

#: The outcome of a submit, by event.
_OUTCOMES: dict[type[Event], str] = {
    JobAccepted: "accepted",
    JobRejected: "rejected",
    SubmitBecameUncertain: "uncertain",
    JobWithdrawn: "withdrawn",
}

#: The events that end a job's span, with their `error.type`: the error that the caller gets. Empty
#: for success, and where the event itself has the error.
_ENDS: dict[type[Event], str] = {
    JobSucceeded: "",
    JobFailed: "GenerationFailedError",
    JobCancelled: "GenerationCancelledError",
    JobAbandoned: "JobTimeoutError",
    JobWithdrawn: "CancelledError",
    JobRejected: "",
    SubmitBecameUncertain: "",
}


def instrument(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    *,
    record_prompts: bool = False,
) -> Callable[[Event], None]:
    """A callback for a session's `on_event`; each session needs one of its own.

    A job's span begins when the job is submitted, or resumed from another session. It ends when the
    session notices that the job has ended, or when the session is left. Its parent is the span that
    is current where `submit` is called.

    Args:
        tracer_provider, meter_provider: the application's; by default the global ones.
        record_prompts: put the prompt into the span, as `gen_ai.input.messages`. Nothing else that
            the user wrote is ever recorded: no media, no URL, no metadata, no key.
    """
    return _Instrumentation(tracer_provider, meter_provider, record_prompts)


@attrs.define
class _OpenSpan:
    """The span of a job that has not ended. `began` is when it was submitted in this session."""

    span: Span
    labels: dict[str, Any]
    began: float | None


class _Instrumentation:
    def __init__(
        self, tracers: TracerProvider | None, meters: MeterProvider | None, record_prompts: bool
    ) -> None:
        version = seedance_async.__version__
        self._tracer = get_tracer("seedance_async", version, tracers)
        self._record_prompts = record_prompts
        self._open: dict[str, _OpenSpan] = {}
        meter = get_meter("seedance_async", version, meters)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
        )
        self._submits = meter.create_counter(
            "seedance.client.submits", "{submit}", "Submits, by outcome."
        )
        self._credits = meter.create_counter(
            "seedance.client.credits", "{credit}", "Credits charged, as reported by the server."
        )
        self._refusals = meter.create_counter(
            "seedance.client.refusals", "{request}", "Calls refused by a rate limit."
        )
        self._failures = meter.create_counter(
            "seedance.client.poll.failures", "{request}", "Status queries that failed."
        )
        self._in_flight = meter.create_up_down_counter(
            "seedance.client.jobs.in_flight",
            "{job}",
            "Jobs submitted or resumed that have not ended.",
        )

    def __call__(self, event: Event) -> None:
        if isinstance(event, RequestThrottled):
            labels = _labels(None) | {"seedance.operation": event.operation}
            self._refusals.add(1, labels)
        elif isinstance(event, PollFailed):
            self._failures.add(1, _labels(event.request) | {"error.type": _error_type(event)})
        elif isinstance(event, JobEvent):
            self._job_event(event)

    def _job_event(self, event: JobEvent) -> None:
        kind = type(event)
        if kind in _OUTCOMES and (event.key in self._open or kind is JobRejected):
            self._count(event, _OUTCOMES[kind])
        if kind is JobSubmitted:
            self._begin(event, event.at)
        elif kind in (JobAccepted, JobResumed):
            self._accepted(event)
        elif kind is JobStarted and event.key in self._open:
            self._open[event.key].span.add_event("seedance.job.started")
        elif kind in _ENDS and event.key in self._open:
            self._end(event, self._open.pop(event.key))

    def _count(self, event: JobEvent, outcome: str) -> None:
        labels = _labels(event.request) | {"seedance.submit.outcome": outcome}
        error = _error_type(event)
        self._submits.add(1, labels | ({"error.type": error} if error else {}))

    def _begin(self, event: JobEvent, began: float | None) -> _OpenSpan:
        labels = _labels(event.request)
        request = event.request
        name = OPERATION if request is None else f"{OPERATION} {request.model}"
        details = _details(request, self._record_prompts)
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=labels | details)
        opened = self._open[event.key] = _OpenSpan(span, labels, began)
        self._in_flight.add(1, labels)
        return opened

    def _accepted(self, event: JobEvent) -> None:
        opened = self._open.get(event.key) or self._begin(event, None)
        opened.span.set_attribute("gen_ai.response.id", event.request_id or "")
        resumed = isinstance(event, JobResumed)
        opened.span.add_event("seedance.job.resumed" if resumed else "seedance.job.accepted")
        if event.credits_charged is None:
            return
        opened.span.set_attribute("seedance.credits_charged", event.credits_charged)
        if not resumed and event.credits_charged > 0:
            self._credits.add(event.credits_charged, opened.labels)

    def _end(self, event: JobEvent, opened: _OpenSpan) -> None:
        self._in_flight.add(-1, opened.labels)
        error = _error_type(event)
        labels = opened.labels | ({"error.type": error} if error else {})
        if opened.began is not None:
            self._duration.record(event.at - opened.began, labels)
        if error:
            opened.span.set_attribute("error.type", error)
            opened.span.set_status(StatusCode.ERROR)
        opened.span.end()


def _error_type(event: JobEvent) -> str:
    """The class of the error that the job's caller gets; empty if there is none."""
    name = _ENDS.get(type(event), "")
    if not name and isinstance(event, JobTrouble):
        return type(event.error).__name__
    return name


def _labels(request: GenerationRequest | None) -> dict[str, Any]:
    """The attributes that spans and metrics share."""
    labels = {"gen_ai.operation.name": OPERATION, "gen_ai.provider.name": PROVIDER}
    if request is not None and isinstance(
        request.model, str
    ):  # a rejected request may have anything
        labels["gen_ai.request.model"] = request.model
    return labels


def _details(request: GenerationRequest | None, record_prompts: bool) -> dict[str, Any]:
    """The attributes that only spans have."""
    details: dict[str, Any] = {"gen_ai.output.type": "video"}
    if request is None:
        return details
    details["seedance.request.mode"] = request.mode.value
    fields = {name: getattr(request, name) for name in ("duration", "resolution", "aspect_ratio")}
    details |= {f"seedance.request.{n}": value for n, value in fields.items() if value is not None}
    if record_prompts:
        parts = [{"type": "text", "content": request.prompt}]
        details["gen_ai.input.messages"] = json.dumps([{"role": "user", "parts": parts}])
    return details
