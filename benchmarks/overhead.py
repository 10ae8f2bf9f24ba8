"""The SDK beside the loop that a good engineer would write by hand on bare aiohttp.

    python -m benchmarks.overhead [--jobs 2000 10000] [--rounds 3] [--quick] [--uvloop]

Many concurrent jobs against the stub in another process; each takes one submit and four polls at
the same intervals on both sides, checked by the stub's own count. Every run is a fresh process, the
sides take turns, the median counts. CPU is that of the client alone, its start and imports left
out, also those of a first job, which each side does before it is measured; memory is how far its
peak is above what it had before the work.

The SDK opens a fresh connection for each submit, so that none is lost to a connection that the
server is just closing. What that costs is in its figures. The row "by hand, POSTs on fresh
connections" tells how much it is; no target is measured against it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from typing import Any, Literal

import aiohttp

from benchmarks.report import Target, plot_path, pyplot, report
from seedance_async import Backoff, GenerationRequest, SeedanceSession

POLLS = 4
CONNECTIONS = 100
#: Jobs before the measurement.
FIRST = 1
PATH = "/api/open/v1/video/generations"
SIDES = {
    "hand": "by hand on aiohttp",
    "fresh": "by hand, POSTs on fresh connections",
    "sdk": "seedance-async",
    "direct": "seedance-async, direct transport",
}
#: Of the sides that are the SDK.
TRANSPORTS: dict[str, Literal["aiohttp", "direct"]] = {"sdk": "aiohttp", "direct": "direct"}


def prompt(number: int) -> str:
    return f"A river in autumn, number {number}, ".ljust(200, "x")


def media(number: int) -> str:
    return f"https://media.example/inputs/photo-{number:06}.jpg"


async def by_hand(url: str, jobs: int, interval: float, *, fresh: bool = False) -> int:
    """One coroutine a job, a semaphore, one connection pool: no retries, no safety, no books."""
    slots = asyncio.Semaphore(jobs)
    headers = {"Authorization": "Bearer key"}
    close = {"Connection": "close"} if fresh else None

    async def one(number: int) -> Any:
        body = {"prompt": prompt(number), "model": "seedance-2.0", "mediaUrls": [media(number)]}
        async with slots:
            async with http.post(PATH, json=body, headers=close) as response:
                response.raise_for_status()
                name = (await response.json())["requestId"]
            while True:
                await asyncio.sleep(interval)
                async with http.get(f"{PATH}/{name}") as response:
                    response.raise_for_status()
                    job = await response.json()
                if job["status"] in ("succeeded", "failed", "cancelled"):
                    return job["status"]

    async with aiohttp.ClientSession(
        url,
        headers=headers,
        connector=aiohttp.TCPConnector(limit=CONNECTIONS),
        timeout=aiohttp.ClientTimeout(total=300),
    ) as http:
        ended = await asyncio.gather(*(one(number) for number in range(jobs)))
    return ended.count("succeeded")


async def by_sdk(
    url: str, jobs: int, interval: float, transport: Literal["aiohttp", "direct"]
) -> int:
    session = SeedanceSession(
        transport=transport,
        api_key="key",
        base_url=url,
        max_in_flight=jobs,
        max_connections=CONNECTIONS,
        poll=Backoff(initial=interval, multiplier=1, maximum=interval, jitter=0),
        poll_rate=1e6,
    )
    async with session:
        requests = (
            GenerationRequest(prompt(number), media_urls=[media(number)]) for number in range(jobs)
        )
        return len((await session.run(requests)).succeeded)


def work(side: str, url: str, jobs: int, interval: float) -> Coroutine[Any, Any, int]:
    if side in TRANSPORTS:
        return by_sdk(url, jobs, interval, TRANSPORTS[side])
    return by_hand(url, jobs, interval, fresh=side == "fresh")


def measure(side: str, url: str, jobs: int, interval: float, uvloop: bool) -> dict[str, float]:
    """One run, in this process."""
    factory = None
    if uvloop:
        import uvloop as fast

        factory = fast.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work(side, url, FIRST, interval))  # what is imported at first use is there now
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        succeeded = runner.run(work(side, url, jobs, interval))
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
    assert succeeded == jobs, f"{succeeded} of {jobs} succeeded"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "jobs_a_second": jobs / seconds,
        "cpu_us": cpu / (jobs * (1 + POLLS)) * 1e6,
        "peak_mb": (after.ru_maxrss - before.ru_maxrss) / 1024,
    }


@contextmanager
def stub(*options: str) -> Iterator[str]:
    """The stub server in a process of its own; its origin."""
    command = [sys.executable, "-m", "benchmarks.stub", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


def served(url: str) -> tuple[int, int]:
    """How many submits and queries the stub has answered."""
    with urllib.request.urlopen(f"{url}/stats") as answer:
        told = json.load(answer)
    return told["submits"].get("seedance", 0), told["queries"].get("seedance", 0)


def run_fresh(side: str, jobs: int, interval: float, *, uvloop: bool = False) -> dict[str, float]:
    """One run in a process of its own, against a stub of its own; its requests are counted."""
    with stub("--polls", str(POLLS)) as url:
        command = [sys.executable, "-m", "benchmarks.overhead", "--side", side, "--url", url]
        command += ["--jobs", str(jobs), "--interval", str(interval)]
        told = subprocess.run(
            command + ["--uvloop"] * uvloop, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        sent = jobs + FIRST
        assert served(url) == (sent, sent * POLLS), "the sides must send the same requests"
    result: dict[str, float] = json.loads(told)
    return result


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def targets(jobs: int, told: dict[str, dict[str, float]]) -> list[Target]:
    """The default transport may cost a quarter more than by hand, the direct one a tenth."""
    sdk, direct, hand = told["sdk"], told["direct"], told["hand"]
    at = f"at {jobs:,} jobs: "
    on_direct = f"{at}direct transport, "

    def times(side: dict[str, float], name: str) -> float:
        return side[name] / hand[name]

    return [
        Target(at + "CPU a request, times by hand", times(sdk, "cpu_us"), at_most=1.25),
        Target(at + "memory, times by hand", times(sdk, "peak_mb"), at_most=1.0),
        Target(
            on_direct + "jobs a second, times by hand", times(direct, "jobs_a_second"), at_least=1.0
        ),
        Target(on_direct + "CPU a request, times by hand", times(direct, "cpu_us"), at_most=1.10),
        Target(on_direct + "memory, times by hand", times(direct, "peak_mb"), at_most=1.0),
    ]


def plot(told: dict[int, dict[str, dict[str, float]]]) -> None:
    plt = pyplot()
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4))
    names = {"jobs_a_second": "jobs a second", "cpu_us": "CPU µs a request", "peak_mb": "peak MB"}
    for panel, (name, title) in zip(panels, names.items(), strict=True):
        for shift, side in enumerate(SIDES):
            places = [place + (shift - 1.5) * 0.22 for place in range(len(told))]
            heights = [told[jobs][side][name] for jobs in told]
            panel.bar(places, heights, width=0.2, label=SIDES[side])
        panel.set_xticks(range(len(told)), [f"{jobs:,} jobs" for jobs in told])
        panel.set_title(title)
    panels[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(plot_path("overhead"))


def main() -> None:
    parser = argparse.ArgumentParser(description="The SDK beside a loop written by hand.")
    parser.add_argument("--jobs", type=int, nargs="+", default=[2000, 10_000])
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between polls")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="500 jobs, one round")
    parser.add_argument("--uvloop", action="store_true", help="both on uvloop as well")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side:
        side, jobs = chosen.side, chosen.jobs[0]
        print(json.dumps(measure(side, chosen.url, jobs, chosen.interval, chosen.uvloop)))
        return
    if chosen.quick:
        chosen.jobs, chosen.rounds = [500], 1
    if chosen.uvloop and find_spec("uvloop") is None:
        parser.error("uvloop is not installed")
    compare(chosen)


def compare(chosen: argparse.Namespace) -> None:
    rows, met, told = [], [], {}
    for jobs in chosen.jobs:
        runs: dict[tuple[str, bool], list[dict[str, float]]] = {}
        for _ in range(chosen.rounds):
            for fast in (False, True)[: 1 + chosen.uvloop]:
                for side in SIDES:
                    run = run_fresh(side, jobs, chosen.interval, uvloop=fast)
                    runs.setdefault((side, fast), []).append(run)
        summary = {key: medians(each) for key, each in runs.items()}
        for (side, fast), each in summary.items():
            loop = "uvloop" if fast else "asyncio"
            rows.append([SIDES[side], jobs, loop, *each.values()])
        told[jobs] = {side: summary[side, False] for side in SIDES}
        met += targets(jobs, told[jobs])
    report(
        "overhead",
        header=["", "jobs at once", "loop", "jobs a second", "CPU µs a request", "peak MB"],
        rows=rows,
        targets=met,
        details={
            "polls a job": POLLS,
            "seconds between polls": chosen.interval,
            "rounds": chosen.rounds,
            "cores of the machine": os.cpu_count(),
            "load before the last minute": os.getloadavg(),
        },
    )
    plot(told)


if __name__ == "__main__":
    main()
