"""How late the end of a job is noticed by a session at its defaults, beside a poll by hand.

    python -m benchmarks.waiting [--quick]

All time is virtual; every answer takes 50 ms. Some jobs are submitted at once to a session that
knows nothing yet, with `max_in_flight` as their number and every other option at its default. They
take 20, 90 or 600 s in the median, log-normal with sigma 0.2, half of it in the server's queue. A
lag is the time from the end of a job to the moment when its handle says so. Few jobs are measured
in many sessions.

By hand: a coroutine for each job that sleeps five seconds, asks, and sleeps again, without any
limit on its rate.

The last rows are about learning: a session at its defaults makes many jobs, 20 at once, and the
service becomes ten times as fast in the middle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median
from typing import Any

import attrs

from benchmarks.report import Target, plot_path, pyplot, report
from seedance_async import GenerationRequest, SeedanceSession, WireRequest, WireResponse
from tests.support.virtual_time import VirtualTimeLoop

#: Seconds until any answer.
LATENCY = 0.05
#: Seconds between two polls by hand.
INTERVAL = 5.0
SECONDS = (20.0, 90.0, 600.0)
#: Jobs at once, and how many sessions are measured.
SIZES = {1: 200, 10: 20, 100: 4, 1000: 1, 5000: 1}
#: Up to so many jobs at once are few, for which there is a target in seconds.
FEW = 100
#: Jobs before the service becomes faster, and after; of these, so many may be noticed late.
BEFORE, AFTER, DOZEN = 100, 100, 12


class Server:
    """An API in memory whose jobs take the seconds that `draw` gives for each."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self.seconds: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.polls = 0

    async def send(self, request: WireRequest, *, on_sent: Any = None) -> WireResponse:
        now = asyncio.get_running_loop().time()
        body: dict[str, Any]
        if request.charges:
            if on_sent is not None:
                on_sent()
            name = f"req_{len(self.ends)}"
            self.seconds[name] = self._draw()
            self.ends[name] = now + self.seconds[name]
            body = {"success": True, "requestId": name, "status": "queued", "creditsCharged": 40}
        else:
            name = request.path.rpartition("/")[2]
            self.polls += 1
            body = {"success": True, "requestId": name, "status": self._status(name, now)}
        await asyncio.sleep(LATENCY)
        return WireResponse(200, {}, json.dumps(body).encode())

    def _status(self, name: str, now: float) -> str:
        left = self.ends[name] - now
        if left <= 0:
            return "succeeded"
        return "queued" if left > self.seconds[name] / 2 else "processing"

    async def aclose(self) -> None:
        pass


@attrs.frozen
class Noticed:
    """The lags of some jobs in seconds, in the order of their ends, and the polls for each."""

    lags: Sequence[float]
    polls: float

    @property
    def p50(self) -> float:
        return median(self.lags)

    @property
    def p95(self) -> float:
        return sorted(self.lags)[math.ceil(0.95 * len(self.lags)) - 1]

    @property
    def row(self) -> tuple[float, float, float]:
        return self.p50, self.p95, self.polls


async def watch(server: Server, jobs: int, in_flight: int, seed: int) -> list[float]:
    """Make jobs by a session; the lag of each, in the order of their ends."""
    loop, lags = asyncio.get_running_loop(), {}
    async with SeedanceSession(
        api_key="key",
        base_url="https://api.example",
        transport=server,
        max_in_flight=in_flight,
        rng=random.Random(seed),
    ) as session:
        async for job in session.as_completed(GenerationRequest("river") for _ in range(jobs)):
            end = server.ends[job.request_id or ""]
            lags[end] = loop.time() - end
    return [lags[end] for end in sorted(lags)]


def run(server: Server, jobs: int, in_flight: int, seed: int) -> list[float]:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(watch(server, jobs, in_flight, seed))


def log_normal(seconds: float, seed: int) -> Callable[[], float]:
    rng = random.Random(seed)
    return lambda: rng.lognormvariate(math.log(seconds), 0.2)


def by_session(jobs: int, seconds: float, seeds: int) -> tuple[Noticed, list[float]]:
    """What a session does with jobs at once, and the seconds that the jobs took."""
    lags: list[float] = []
    taken: list[float] = []
    polls = 0
    for seed in range(seeds):
        server = Server(log_normal(seconds, seed))
        lags += run(server, jobs, jobs, seed)
        taken += server.seconds.values()
        polls += server.polls
    return Noticed(lags, polls / len(lags)), taken


def by_hand(taken: Sequence[float]) -> Noticed:
    """What a five-second poll by hand does with the same jobs."""

    def polls() -> Iterator[tuple[int, float]]:
        for seconds in taken:
            # The job begins when its submit arrives, and is known once that is answered.
            needed = math.ceil(seconds / (INTERVAL + LATENCY))
            yield needed, needed * (INTERVAL + LATENCY) + LATENCY - seconds

    numbers, lags = zip(*polls(), strict=True)
    return Noticed(lags, fmean(numbers))


def after_a_change(before: float, after: float, seed: int) -> list[float]:
    """The lags of the jobs that are submitted once the service takes other times."""
    draws = [log_normal(before, seed), log_normal(after, seed)]
    count = 0

    def draw() -> float:
        nonlocal count
        count += 1
        return draws[count > BEFORE]()

    return run(Server(draw), BEFORE + AFTER, 20, seed)[BEFORE:]


def plot(lags: dict[str, Sequence[float]]) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(1, len(SECONDS), figsize=(15, 4), sharey=True)
    for axis, seconds in zip(axes, SECONDS, strict=True):
        for name, seen in lags.items():
            jobs, _, of = name.partition(" of ")
            if of.startswith(f"{seconds:g} s"):
                shares = [place / len(seen) for place in range(len(seen))]
                style = "k--" if "hand" in name else "-"
                axis.plot(sorted(seen), shares, style, label=jobs + of.partition(" s")[2])
        axis.set(title=f"jobs of {seconds:g} s", xlabel="noticed so late, seconds", xlim=(0, 10))
        axis.legend()
    axes[0].set(ylabel="share of the jobs")
    figure.tight_layout()
    figure.savefig(plot_path("waiting"))


def main() -> None:
    parser = argparse.ArgumentParser(description="How late the end of a job is noticed.")
    parser.add_argument("--quick", action="store_true", help="up to 1,000 jobs, fewer sessions")
    quick = parser.parse_args().quick
    logging.disable(logging.CRITICAL)
    sizes = {jobs: max(1, seeds // 5) for jobs, seeds in SIZES.items() if jobs <= 1000}
    rows: list[list[Any]] = []
    targets: list[Target] = []
    lags: dict[str, Sequence[float]] = {}
    for seconds in SECONDS:
        for jobs, seeds in (sizes if quick else SIZES).items():
            name = f"{jobs:,} of {seconds:g} s"
            ours, taken = by_session(jobs, seconds, seeds)
            hand = by_hand(taken)
            lags[name] = ours.lags
            rows.append([name, *ours.row, *hand.row])
            if jobs <= FEW and seconds == 90:
                targets.append(Target(f"{name}: median lag, s", ours.p50, at_most=2.5))
                targets.append(Target(f"{name}: p95, s", ours.p95, at_most=5))
            else:
                targets.append(Target(f"{name}: median, of hand's", ours.p50 / hand.p50, at_most=1))
            targets.append(Target(f"{name}: polls, of hand's", ours.polls / hand.polls, at_most=1))
        lags[f"by hand of {seconds:g} s"] = hand.lags
    for before, after in ((600.0, 60.0), (60.0, 600.0)):
        changed = [after_a_change(before, after, seed) for seed in range(1 if quick else 5)]
        for what, chosen in (
            (f"first {DOZEN} after", [lag for each in changed for lag in each[:DOZEN]]),
            ("later", [lag for each in changed for lag in each[DOZEN:]]),
        ):
            seen = Noticed(chosen, math.nan)
            name = f"{before:g} s, then {after:g} s: {what}"
            rows.append([name, seen.p50, seen.p95, "", "", "", ""])
            if what == "later":
                targets.append(Target(f"{name}: p95, s", seen.p95, at_most=5))
    report(
        "waiting",
        header=["jobs at once", "median lag s", "p95", "polls", "by hand: median", "p95", "polls"],
        rows=rows,
        targets=targets,
    )
    plot(lags)


if __name__ == "__main__":
    main()
