"""How late the end of a job is noticed by a session at its defaults, beside a poll by hand.

    python -m benchmarks.waiting [--quick]

All time is virtual; every answer takes 50 ms. Jobs take 20, 90 or 600 s in the median, log-normal
with sigma 0.2, half of it in the server's queue. A lag is the time from the end of a job to the
moment when the session's user has it.

"at once": so many jobs are submitted to a session that knows nothing yet, with `max_in_flight` as
their number and every other option at its default. Few jobs are measured in many sessions.
"20 at a time": a session with no option set makes one job after the other, and the jobs count that
are submitted once 40 have ended.

By hand: a coroutine for each job that sleeps five seconds, asks, and sleeps again, without any
limit on its rate.

Then a service becomes ten times as fast, and as slow; and a server with one machine, which takes
300 s for a job, gets `run` of 200 jobs from a session with no option set.
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
SIZES = {1: 500, 10: 50, 100: 10, 1000: 1, 5000: 1}
#: Up to so many jobs at once are few, for which there is a target in seconds.
FEW = 100
#: Jobs, one after the other, before those that count, and these.
LEARNT, COUNTED = 60, 300
#: Jobs before the service becomes faster, and after; of these, so many may be noticed late.
BEFORE, AFTER, DOZEN = 100, 100, 12
#: Jobs for the server with one machine, and the seconds that each takes.
QUEUE, MACHINE_SECONDS = 200, 300.0


class Server:
    """An API in memory whose jobs take the seconds that `draw` gives for each.

    With one machine it makes one job after the other; without, all at once.
    """

    def __init__(self, draw: Callable[[], float], *, one_machine: bool = False) -> None:
        self._draw, self._one_machine = draw, one_machine
        self.busiest = 0
        self.seconds: dict[str, float] = {}
        self.ends: dict[str, float] = {}
        self.polls = 0

    async def send(self, request: WireRequest, *, on_sent: Any = None) -> WireResponse:
        now = asyncio.get_running_loop().time()
        body: dict[str, Any]
        if request.charges:
            if on_sent is not None:
                on_sent()
            name = self._accept(now)
            body = {"success": True, "requestId": name, "status": "queued", "creditsCharged": 40}
        else:
            name = request.path.rpartition("/")[2]
            self.polls += 1
            body = {"success": True, "requestId": name, "status": self._status(name, now)}
        await asyncio.sleep(LATENCY)
        return WireResponse(200, {}, json.dumps(body).encode())

    def _accept(self, now: float) -> str:
        name = f"req_{len(self.ends)}"
        begins = max([now, *self.ends.values()]) if self._one_machine else now
        self.seconds[name] = self._draw()
        self.ends[name] = begins + self.seconds[name]
        if self._one_machine:
            self.busiest = max(self.busiest, sum(end > now for end in self.ends.values()))
        return name

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


def one_after_the_other(seconds: float) -> tuple[Noticed, list[float]]:
    """What a session does that knows such jobs, 20 at a time, and the seconds that they took."""
    polls: list[int] = []  # when each job was submitted
    seconds_of = log_normal(seconds, 1)

    def draw() -> float:
        polls.append(server.polls)
        return seconds_of()

    server = Server(draw)
    lags = run(server, LEARNT + COUNTED, 20, 1)
    taken = list(server.seconds.values())[LEARNT:]
    return Noticed(lags[LEARNT:], (server.polls - polls[LEARNT]) / COUNTED), taken


def from_one_machine() -> tuple[int, int]:
    """Of many jobs for a server with one machine: how many are lost, and the most at the server."""
    server = Server(lambda: MACHINE_SECONDS, one_machine=True)
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        succeeded = runner.run(succeed(server))
    return QUEUE - succeeded, server.busiest


async def succeed(server: Server) -> int:
    async with SeedanceSession(
        api_key="key", base_url="https://api.example", transport=server, rng=random.Random(1)
    ) as session:
        batch = await session.run(GenerationRequest("river") for _ in range(QUEUE))
    return len(batch.succeeded)


def after_a_change(before: float, after: float, seed: int) -> list[float]:
    """The lags of the jobs that are submitted once the service takes other times."""
    draws = [log_normal(before, seed), log_normal(after, seed)]
    count = 0

    def draw() -> float:
        nonlocal count
        count += 1
        return draws[count > BEFORE]()

    return run(Server(draw), BEFORE + AFTER, 20, seed)[BEFORE:]


def plot(lags: dict[float, dict[str, Sequence[float]]]) -> None:
    plt = pyplot()
    figure, axes = plt.subplots(1, len(lags), figsize=(15, 4), sharey=True)
    for axis, (seconds, rows) in zip(axes, lags.items(), strict=True):
        for name, seen in rows.items():
            shares = [place / len(seen) for place in range(len(seen))]
            axis.plot(sorted(seen), shares, "k--" if "hand" in name else "-", label=name)
        axis.set(title=f"jobs of {seconds:g} s", xlabel="noticed so late, seconds", xlim=(0, 8))
        axis.legend()
    axes[0].set(ylabel="share of the jobs")
    figure.tight_layout()
    figure.savefig(plot_path("waiting"))


class Report:
    """The rows and targets so far."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self.targets: list[Target] = []
        self.lags: dict[float, dict[str, Sequence[float]]] = {}

    def measure(self, seconds: float, sizes: dict[int, int]) -> None:
        """All rows for jobs that take so long."""
        lags = self.lags[seconds] = {}
        for jobs, seeds in sizes.items():
            name = f"{jobs:,} at once"
            ours, taken = by_session(jobs, seconds, seeds)
            lags[name] = ours.lags
            self._add(f"{name}, {seconds:g} s", ours, by_hand(taken), in_seconds=jobs <= FEW)
        ours, taken = one_after_the_other(seconds)
        lags["20 at a time"], hand = ours.lags, by_hand(taken)
        lags["by hand"] = hand.lags
        self._add(f"20 at a time, {seconds:g} s", ours, hand, in_seconds=True)

    def _add(self, name: str, ours: Noticed, hand: Noticed, *, in_seconds: bool) -> None:
        self.rows.append([name, *ours.row, *hand.row])
        if in_seconds and "90 s" in name:
            self.targets.append(Target(f"{name}: median lag, s", ours.p50, at_most=2.5))
            self.targets.append(Target(f"{name}: p95, s", ours.p95, at_most=5))
        else:
            of = ours.p50 / hand.p50
            self.targets.append(Target(f"{name}: median lag, of that by hand", of, at_most=1))
        of = ours.polls / hand.polls
        self.targets.append(Target(f"{name}: polls, of those by hand", of, at_most=1))

    def change(self, before: float, after: float, seeds: int) -> None:
        """The rows for a service that changes its pace."""
        changed = [after_a_change(before, after, seed) for seed in range(seeds)]
        name = f"{before:g} s, then {after:g} s"
        first = Noticed([lag for each in changed for lag in each[:DOZEN]], math.nan)
        later = Noticed([lag for each in changed for lag in each[DOZEN:]], math.nan)
        self.rows.append([f"{name}: first {DOZEN}", first.p50, first.p95, *[""] * 4])
        self.rows.append([f"{name}: after those", later.p50, later.p95, *[""] * 4])
        self.targets.append(Target(f"{name}: p95 after a dozen, s", later.p95, at_most=5))


def main() -> None:
    parser = argparse.ArgumentParser(description="How late the end of a job is noticed.")
    parser.add_argument("--quick", action="store_true", help="up to 1,000 jobs, fewer sessions")
    quick = parser.parse_args().quick
    logging.disable(logging.CRITICAL)
    sizes = {jobs: max(1, seeds // 5) for jobs, seeds in SIZES.items() if jobs <= 1000}
    made = Report()
    for seconds in SECONDS:
        made.measure(seconds, sizes if quick else SIZES)
    for before, after in ((600.0, 60.0), (60.0, 600.0)):
        made.change(before, after, 1 if quick else 5)
    lost, busiest = from_one_machine()
    name = f"one machine, {QUEUE} jobs of {MACHINE_SECONDS:g} s"
    made.targets.append(Target(f"{name}: lost", lost, at_most=0))
    made.targets.append(Target(f"{name}: at the server at once", busiest, at_most=20))
    report(
        "waiting",
        header=["jobs", "median lag s", "p95", "polls", "by hand: median", "p95", "polls"],
        rows=made.rows,
        targets=made.targets,
    )
    plot(made.lags)


if __name__ == "__main__":
    main()
