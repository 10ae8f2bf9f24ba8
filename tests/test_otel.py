"""Spans and metrics, as the application's exporters get them."""

import asyncio
import json
import subprocess
import sys
from collections import Counter

import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from seedance_async import GenerationRequest, SubmitUncertainError
from seedance_async.otel import DURATION_BOUNDS, instrument
from tests.conftest import KEY
from tests.support.fakes import LOST, error_reply, told

pytestmark = pytest.mark.virtual_time

SECRET = "a-word-of-the-user"
REQUEST = GenerationRequest(
    f"a river and {SECRET}",
    media_urls=[f"https://media.example/{SECRET}.jpg?signature={SECRET}"],
    metadata={"note": SECRET},
    duration=5,
    resolution="480p",
)


@attrs.define
class Exported:
    """What the application's exporters were given."""

    spans_exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracers: TracerProvider = attrs.field(init=False)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans_exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)

    @property
    def spans(self):
        return self.spans_exporter.get_finished_spans()

    def instrument(self, **options):
        return instrument(self.tracers, self.meters, **options)

    def points(self, name):
        """The points of a metric, each with its labels besides the usual ones."""
        usual = {"gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "seedance"}
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data is not None else ():
            for metric in resource.scope_metrics[0].metrics:
                if metric.name == name:
                    for point in metric.data.data_points:
                        labels = dict(point.attributes)
                        assert labels.items() >= usual.items()
                        yield {k: v for k, v in labels.items() if k not in usual}, point

    def sums(self, name):
        """The values of a counter by its labels, without the model."""
        values = Counter()
        for labels, point in self.points(name):
            rest = sorted(item for item in labels.items() if item[0] != "gen_ai.request.model")
            values[tuple(value for _, value in rest)] += point.value
        return dict(values)


@pytest.fixture
def exported():
    return Exported()


@pytest.fixture
def observed(make_session, exported):
    """A session whose spans and metrics are collected."""

    def make(record_prompts=False, **options):
        on_event = exported.instrument(record_prompts=record_prompts)
        return make_session(on_event=on_event, **options)

    return make


# --- spans --------------------------------------------------------------------------------------


async def test_a_job_is_one_span_from_submit_to_end(observed, exported, api):
    api.seconds = 30.0  # long enough that a poll finds it in processing
    async with observed() as session:
        await session.generate(REQUEST)
    (span,) = exported.spans
    assert (span.name, span.kind) == ("generate_content seedance-2.0", SpanKind.CLIENT)
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "seedance",
        "gen_ai.request.model": "seedance-2.0",
        "gen_ai.output.type": "video",
        "gen_ai.response.id": "req_0",
        "seedance.request.mode": "first_frame",
        "seedance.request.duration": 5,
        "seedance.request.resolution": "480p",
        "seedance.credits_charged": 40,
    }
    assert [event.name for event in span.events] == [
        "seedance.job.accepted",
        "seedance.job.started",
    ]
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope.name == "seedance_async"


async def test_a_span_is_a_child_of_the_one_that_is_current_where_submit_is_called(
    observed, exported
):
    tracer = exported.tracers.get_tracer("the application")

    async def handler(session, number):
        with tracer.start_as_current_span(f"handler {number}"):
            return await session.submit(attrs.evolve(REQUEST, duration=5 + number))

    async with observed() as session:
        await asyncio.gather(*(handler(session, number) for number in range(3)))
    parents = {s.context.span_id: s.name for s in exported.spans if s.kind is SpanKind.INTERNAL}
    jobs = [span for span in exported.spans if span.kind is SpanKind.CLIENT]
    assert len(jobs) == 3
    for span in jobs:
        number = span.attributes["seedance.request.duration"] - 5
        assert parents[span.parent.span_id] == f"handler {number}"


async def test_the_spans_of_a_run_are_children_of_the_one_around_it(observed, exported):
    tracer = exported.tracers.get_tracer("the application")
    async with observed() as session:
        with tracer.start_as_current_span("nightly"):
            await session.run([REQUEST] * 3)
    *jobs, nightly = exported.spans
    assert {span.parent.span_id for span in jobs} == {nightly.context.span_id}


async def failed(session, api):
    api.script["get"].append(told("req_0", "failed", error={"code": SECRET, "message": SECRET}))
    await session.run([REQUEST])


async def cancelled(session, api):
    await (await session.submit(REQUEST)).cancel()


async def refused(session, api):
    api.script["create"].append(error_reply(400, message=SECRET))
    await session.run([REQUEST])


async def uncertain(session, api):
    api.script["create"].append(LOST)
    await session.run([REQUEST])


async def abandoned(session, api):
    api.seconds = 1e4
    await session.run([REQUEST])


async def withdrawn(session, api):
    api.script["create"] += [error_reply(429)] * 100
    submitting = asyncio.ensure_future(session.submit(REQUEST))
    await asyncio.sleep(0.1)
    submitting.cancel()
    await asyncio.wait({submitting})


ENDS = [
    (failed, "GenerationFailedError"),
    (cancelled, "GenerationCancelledError"),
    (refused, "BadRequestError"),
    (uncertain, "SubmitUncertainError"),
    (abandoned, "JobTimeoutError"),
    (withdrawn, "CancelledError"),
]


@pytest.mark.parametrize(("happens", "error_type"), ENDS)
async def test_an_unsuccessful_job_is_an_error_span_of_the_type_that_the_caller_gets(
    observed, exported, api, happens, error_type
):
    async with observed(job_timeout=100.0) as session:
        await happens(session, api)
    (span,) = exported.spans
    assert span.attributes["error.type"] == error_type
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    ((labels, _),) = exported.points("gen_ai.client.operation.duration")
    assert labels["error.type"] == error_type
    assert set(exported.sums("seedance.client.jobs.in_flight").values()) == {0}


async def test_a_job_that_was_never_sent_has_no_span(observed, exported):
    async with observed() as session:
        await session.run([attrs.evolve(REQUEST, duration=99), object()])
    assert exported.spans == ()
    counted = exported.sums("seedance.client.submits")
    assert counted == {("InvalidRequestError", "rejected"): 2}


async def test_a_resumed_job_has_a_span_and_no_duration(observed, exported, api):
    api.jobs["req_old"] = asyncio.get_running_loop().time()
    async with observed() as session:
        await (await session.attach("req_old"))
    (span,) = exported.spans
    assert span.name == "generate_content"
    assert span.attributes["gen_ai.response.id"] == "req_old"
    assert span.events[0].name == "seedance.job.resumed"
    assert list(exported.points("gen_ai.client.operation.duration")) == []
    assert exported.sums("seedance.client.submits") == {}


async def test_an_uncertain_submit_that_is_settled_is_charged_and_counted_once(
    observed, exported, api
):
    api.script["create"].append(LOST)
    api.jobs["req_lost"] = asyncio.get_running_loop().time()
    async with observed() as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(REQUEST, key="mine")
        await session.attach('{"v": 1, "request_id": "req_lost", "key": "mine"}')
    assert [span.attributes.get("gen_ai.response.id") for span in exported.spans] == [
        None, "req_lost",
    ]  # fmt: skip
    assert exported.sums("seedance.client.submits") == {("SubmitUncertainError", "uncertain"): 1}


async def test_the_spans_of_jobs_left_running_are_ended(make_session, exported):
    on_event = exported.instrument()
    with pytest.raises(ZeroDivisionError):
        async with make_session(on_event=on_event) as session:
            for _ in range(5):
                await session.submit(REQUEST)
            raise ZeroDivisionError
    assert len(exported.spans) == 5
    assert exported.sums("seedance.client.jobs.in_flight") == {(): 0}


# --- metrics ------------------------------------------------------------------------------------


async def test_durations_are_seconds_from_the_submit_until_the_end_is_noticed(
    observed, exported, api
):
    api.seconds, api.answer_after = 200.0, 3.0
    async with observed() as session:
        await session.run([REQUEST] * 4)
    ((labels, point),) = exported.points("gen_ai.client.operation.duration")
    assert labels == {"gen_ai.request.model": "seedance-2.0"}
    assert point.count == 4
    assert 203.0 <= point.min <= point.max < 300.0


async def test_the_bounds_are_the_recommended_ones_continued_for_jobs_of_minutes(
    observed, exported
):
    async with observed() as session:
        await session.generate(REQUEST)
    ((_, point),) = exported.points("gen_ai.client.operation.duration")
    recommended = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96)
    assert point.explicit_bounds[:14] == pytest.approx((*recommended, 81.92))
    assert point.explicit_bounds == DURATION_BOUNDS
    assert DURATION_BOUNDS[-1] > 3600.0, "the default timeout of a job"


async def test_submits_credits_and_refusals_are_counted(observed, exported, api):
    api.script["create"] += [error_reply(429), error_reply(400), LOST]
    api.script["get"] += [error_reply(429), LOST]
    async with observed() as session:
        await session.run([attrs.evolve(REQUEST, prompt=f"prompt {n}") for n in range(5)])
    assert exported.sums("seedance.client.submits") == {
        ("accepted",): 3,
        ("BadRequestError", "rejected"): 1,
        ("SubmitUncertainError", "uncertain"): 1,
    }
    assert exported.sums("seedance.client.credits") == {(): 120}
    assert exported.sums("seedance.client.refusals") == {("query",): 1, ("submit",): 1}
    assert exported.sums("seedance.client.poll.failures") == {
        ("RateLimitError",): 1, ("TransportError",): 1,
    }  # fmt: skip


async def test_the_jobs_in_flight_are_those_that_have_not_ended(observed, exported):
    async with observed() as session:
        jobs = [await session.submit(REQUEST) for _ in range(3)]
        assert exported.sums("seedance.client.jobs.in_flight") == {(): 3}
        await asyncio.gather(*jobs)
        assert exported.sums("seedance.client.jobs.in_flight") == {(): 0}


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("happens", "_"), ENDS)
async def test_nothing_that_the_user_or_the_server_wrote_and_no_key_is_exported(
    observed, exported, api, happens, _
):
    async with observed(job_timeout=100.0) as session:
        await happens(session, api)
    shown = exported.reader.get_metrics_data().to_json()
    shown += "".join(span.to_json() for span in exported.spans)
    assert exported.spans
    assert SECRET not in shown
    assert KEY not in shown


async def test_the_prompt_is_recorded_if_enabled_and_nothing_else_is(observed, exported):
    async with observed(record_prompts=True) as session:
        await session.generate(REQUEST)
    (span,) = exported.spans
    attributes = dict(span.attributes)
    messages = json.loads(attributes.pop("gen_ai.input.messages"))
    parts = [{"type": "text", "content": REQUEST.prompt}]
    assert messages == [{"role": "user", "parts": parts}]
    assert SECRET not in str(attributes)
    assert SECRET not in exported.reader.get_metrics_data().to_json()


# --- what it needs ------------------------------------------------------------------------------


def test_only_the_api_package_is_imported_and_by_this_module_alone():
    code = (
        "import sys, seedance_async; assert not [m for m in sys.modules if 'opentelemetry' in m]\n"
        "from seedance_async import otel; print(*sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    modules = set(process.stdout.split())
    assert "opentelemetry.trace" in modules
    assert not any(name.startswith("opentelemetry.sdk") for name in modules)


async def test_without_providers_and_without_an_sdk_it_does_nothing(make_session):
    async with make_session(on_event=instrument()) as session:
        await session.generate(REQUEST)
