"""Watch a run: its events as lines of JSON, its figures once a second, a span a job, and metrics.

    pip install "seedance-async[otel]" opentelemetry-sdk
    python examples/observe.py PROMPTS

Every prompt is one line. The spans and the metrics go to stdout here; an application gives them to
the exporter of its choice, and needs no providers here if it has set the global ones.
"""

import asyncio
import json
import sys
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from seedance_async import Event, GenerationRequest, JobEvent, SeedanceSession
from seedance_async.otel import instrument


def log(event: Event) -> None:
    """One line of JSON: no prompt, for an application's log is read by many."""
    line: dict[str, object] = {"event": type(event).__name__, "at": round(event.at, 3)}
    if isinstance(event, JobEvent):
        line |= {"job": event.request_id or event.key, "credits": event.credits_charged}
    print(json.dumps(line), file=sys.stderr)


async def tell(session: SeedanceSession, every: float = 1.0) -> None:
    while True:
        await asyncio.sleep(every)
        now = session.stats()
        print(f"{now.in_flight} in flight, {now.credits_charged} credits, ETA {now.eta}")


async def main(prompts: Path) -> int:
    tracers, meters = (
        TracerProvider(),
        MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]),
    )
    tracers.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    trace = instrument(tracers, meters)

    def on_event(event: Event) -> None:
        trace(event)
        log(event)

    lines = (line.strip() for line in prompts.read_text(encoding="utf-8").splitlines())
    requests = (GenerationRequest(line, duration=4, resolution="480p") for line in lines if line)
    async with SeedanceSession(on_event=on_event) as session:
        telling = asyncio.create_task(tell(session))
        try:
            batch = await session.run(requests)
        finally:
            telling.cancel()
        now = session.stats()
    tracers.shutdown()
    meters.shutdown()
    print(f"half of the jobs took {now.time_to_finish_p50:.1f} seconds or less,")
    print(f"95 of 100 {now.time_to_finish_p95:.1f}; {now.polls_per_job:.1f} polls a job")
    return 1 if batch.failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
