"""Watch a run: events as JSON lines, statistics every second, one span per job, and metrics.

    pip install "seedance-async[otel]" opentelemetry-sdk
    python examples/observe.py PROMPTS

Each line is a prompt. Here the spans and metrics go to stdout. An application passes providers with
the exporters of its choice, or none if it has set the global ones.
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
    """One line of JSON, without the prompt: many people may read an application's log."""
    line: dict[str, object] = {"event": type(event).__name__, "at": round(event.at, 3)}
    if isinstance(event, JobEvent):
        line |= {"job": event.request_id or event.key, "credits": event.credits_charged}
    print(json.dumps(line), file=sys.stderr)


async def print_stats(session: SeedanceSession, every: float = 1.0) -> None:
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
        printing = asyncio.create_task(print_stats(session))
        try:
            batch = await session.run(requests)
        finally:
            printing.cancel()
        now = session.stats()
    tracers.shutdown()
    meters.shutdown()
    print(f"seconds to finish: median {now.time_to_finish_p50}, p95 {now.time_to_finish_p95}")
    print(f"polls per job: {now.polls_per_job}")
    return 1 if batch.failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
