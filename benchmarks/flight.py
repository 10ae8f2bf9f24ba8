"""A hundred thousand jobs in flight: the cost of each, and how free the event loop stays.

    python -m benchmarks.flight [--jobs 100000] [--seconds 20] [--quick] [--uvloop]

Each row is a process of its own. All jobs are submitted by one `session.run`, and none ends. Then,
for some seconds, they are polled at a fixed rate: through a transport that answers in memory, and
over HTTP from the stub in another process. How late a 5 ms timer fires shows how free the loop is.
Memory is the growth of the process; the row "traced" counts each allocation instead, which slows
everything else down, so only its memory is meaningful.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

from benchmarks.overhead import media, prompt, stub
from benchmarks.report import Target, plot_path, pyplot, report
from seedance_async import GenerationRequest, SeedanceSession, WireRequest, WireResponse

TICK = 0.005
KINDS = {"null": "in memory", "traced": "in memory, traced", "stub": "over HTTP, the stub"}


class NullTransport:
    """An API in memory: it accepts every submit, and no job ever ends."""

    def __init__(self) -> None:
        self._jobs = 0

    async def send(self, request: WireRequest, *, on_sent: Any = None) -> WireResponse:
        if request.charges:
            if on_sent is not None:
                on_sent()
            self._jobs += 1
            name = f"req_{self._jobs:016x}"
            body = {"success": True, "requestId": name, "status": "queued", "creditsCharged": 40}
            return WireResponse(200, {}, json.dumps(body).encode())
        name = request.path.rpartition("/")[2]
        number = int(name[4:], 16) - 1
        body = {"success": True, "requestId": name, "status": "processing", "output": None}
        body |= {"model": "seedance-2.0", "prompt": prompt(number), "aspectRatio": "16:9"}
        return WireResponse(200, {}, json.dumps(body).encode())

    async def aclose(self) -> None:
        pass


class Lags:
    """How late a short timer fires, measured repeatedly."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(TICK)
            self.milliseconds.append((loop.time() - began - TICK) * 1000)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Leave(Exception):  # noqa: N818 - not an error
    """Ends the session while its jobs run."""


def resident() -> int:
    """The resident memory of this process, in bytes."""
    statm = Path("/proc/self/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def fly(kind: str, url: str | None, jobs: int, seconds: float, rate: float) -> dict[str, Any]:
    """Submit, poll for a while, leave the session; the measurements."""
    lags, seen = Lags(), {}
    session = SeedanceSession(
        api_key="key",
        base_url=url or "https://api.example",
        transport="aiohttp" if url else NullTransport(),  # type: ignore[arg-type]
        max_in_flight=jobs,
        max_connections=100,
        poll_rate=rate,
        job_timeout=1e6,
    )
    gc.collect()
    before = tracemalloc.get_traced_memory()[0] if kind == "traced" else resident()
    ticking = asyncio.create_task(lags.watch())
    began = time.perf_counter()
    try:
        async with session:
            requests = (GenerationRequest(prompt(n), media_urls=[media(n)]) for n in range(jobs))
            running = asyncio.create_task(session.run(requests))
            while session.registry.live < jobs:  # an event would slow the SDK
                if running.done():
                    await running  # it ends early with an error alone
                await asyncio.sleep(0.05)
            seen["submits"] = jobs / (time.perf_counter() - began)
            seen["lag while submitting"] = lags.quantile(0.99)
            lags.milliseconds.clear()
            polls, cpu, began = session.stats().polls, time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            passed = time.perf_counter() - began
            seen["polls"] = (session.stats().polls - polls) / passed
            seen["cpu"] = (time.process_time() - cpu) / passed
            seen["p50"], seen["p99"] = lags.quantile(0.5), lags.quantile(0.99)
            seen["max"], seen["lags"] = max(lags.milliseconds), lags.milliseconds[:]
            seen["tasks"] = len(asyncio.all_tasks())
            gc.collect()
            after = tracemalloc.get_traced_memory()[0] if kind == "traced" else resident()
            seen["bytes"] = (after - before) / jobs
            await asyncio.sleep(2 * TICK)  # the tick delayed by the garbage collection
            lags.milliseconds.clear()
            began = time.perf_counter()
            raise Leave  # noqa: TRY301
    except Leave:
        seen["leaving"] = time.perf_counter() - began
        await asyncio.sleep(2 * TICK)  # the tick delayed by leaving, if any
        seen["lag leaving"] = max(lags.milliseconds)
    ticking.cancel()
    await asyncio.gather(running, ticking, return_exceptions=True)
    return seen


def measure(chosen: argparse.Namespace) -> None:
    """One row, in this process."""
    logging.disable(logging.CRITICAL)  # leaving would log the ids of all jobs
    factory = None
    if chosen.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    if chosen.kind == "traced":
        tracemalloc.start()
    with asyncio.Runner(loop_factory=factory) as runner:
        work = fly(chosen.kind, chosen.url, chosen.jobs, chosen.seconds, chosen.rate)
        print(json.dumps(runner.run(work)))


def run_fresh(kind: str, chosen: argparse.Namespace, rate: float, *, fast: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.flight", "--kind", kind, "--rate", str(rate)]
    command += ["--jobs", str(chosen.jobs), "--seconds", str(chosen.seconds)]
    command += ["--uvloop"] * fast
    if kind == "stub":
        with stub("--seconds", "1000000") as url:
            return finished([*command, "--url", url])
    return finished(command)


def finished(command: list[str]) -> dict[str, Any]:
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def plot(seen: dict[str, dict[str, Any]]) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, measured in seen.items():
        lags = sorted(max(lag, 0.01) for lag in measured["lags"])
        shares = [1 - place / len(lags) for place in range(len(lags))]
        axes.plot(lags, shares, label=name)
    axes.set(xscale="log", yscale="log", xlabel="a 5 ms timer is late by more than, ms")
    axes.set(ylabel="share of the samples", title="How free the event loop stays")
    axes.axvline(20, color="black", linewidth=0.8, linestyle="--")
    axes.legend()
    figure.tight_layout()
    figure.savefig(plot_path("flight"))


def main() -> None:
    parser = argparse.ArgumentParser(description="A hundred thousand jobs in flight.")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of polling to measure")
    parser.add_argument(
        "--null-rate", type=float, default=2000.0, help="polls per second in memory"
    )
    parser.add_argument("--stub-rate", type=float, default=500.0, help="polls/s over HTTP")
    parser.add_argument("--quick", action="store_true", help="5,000 jobs, 5 seconds")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop as well")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.kind:
        measure(chosen)
        return
    if chosen.quick:
        chosen.jobs, chosen.seconds = 5000, 5.0
        chosen.null_rate, chosen.stub_rate = 100.0, 25.0
    compare(chosen)


def compare(chosen: argparse.Namespace) -> None:
    rates = {"null": chosen.null_rate, "traced": chosen.null_rate, "stub": chosen.stub_rate}
    seen = {}
    for kind, rate in rates.items():
        for fast in (False, True)[: 1 + (chosen.uvloop and kind != "traced")]:
            name = KINDS[kind] + (", uvloop" if fast else "")
            seen[name] = run_fresh(kind, chosen, rate, fast=fast)
    columns = {
        "bytes": "bytes/job",
        "submits": "submits/s",
        "polls": "polls/s",
        "cpu": "CPU s/s",
        "p50": "lag p50 ms",
        "p99": "p99 ms",
        "max": "max ms",
        "tasks": "tasks",
        "leaving": "leaving s",
        "lag leaving": "max ms leaving",
    }
    null, traced, served = (seen[KINDS[kind]] for kind in rates)
    used = served["polls"] / rates["stub"]
    report(
        "flight",
        header=["transport", "jobs", *columns.values()],
        rows=[[name, chosen.jobs, *(row[c] for c in columns)] for name, row in seen.items()],
        targets=[
            Target("bytes per waiting job, with its request", traced["bytes"], at_most=1536),
            Target("loop lag in memory, p99 ms", null["p99"], at_most=20),
            Target("loop lag over HTTP, p99 ms", served["p99"], at_most=20),
            Target("share of the poll rate used", used, at_least=0.95),
            Target("tasks", max(null["tasks"], served["tasks"]), at_most=320),
        ],
        details={"polls a second allowed": rates},
    )
    plot({name: measured for name, measured in seen.items() if name != KINDS["traced"]})


if __name__ == "__main__":
    main()
