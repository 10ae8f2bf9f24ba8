"""How close a session comes to a client that knows what the server refuses, and why.

Each regime is a reason for refusals: limits of several kinds, limits that move or are shared, and
refusals that have nothing to do with how much is asked for. The client runs against each on virtual
time with as many jobs in flight as slots, many and then few, beside an oracle (the same client
against a server that lets each call wait until it is allowed and refuses none at random) and beside
a backoff written by hand in every coroutine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import random
import sys
from bisect import bisect_left
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

import attrs

from benchmarks.report import Target, plot_path, pyplot, report, table
from benchmarks.throttled_server import AtOnce, Both, Down, Noise, Rate, Server, Window
from seedance_async import GenerationRequest, SeedanceClient
from seedance_async.api.client import PendingSubmit
from seedance_async.api.prepared_request import prepare
from tests.support.virtual_time import VirtualTimeLoop

#: The client runs once with each, and the worst run counts; the backoff runs with the first only.
SEEDS = (20260, 1, 2)
#: Jobs in flight at most, of all: many, and the default of a session.
MANY, FEW = 500, 20
#: The session's default of `max_connections`, for all.
CONNECTIONS = 50
#: Seconds between two polls of a job, by which the end of a job is noticed late.
POLL = 5.0
#: Seconds in which what the server does must be found out.
LEARNING = 60.0
#: Throughput is back once it reached RECOVERED of the oracle's in so many seconds.
RECOVERED, SPAN = 0.9, 30.0


# --- regimes --------------------------------------------------------------------------------------


@attrs.frozen
class Regime:
    """What the server does.

    Args:
        make: its limit, from a seed.
        seconds: how long it is watched.
        healthy_from: when its health returns, or its limit moves.
        by_limit: whether a limit causes the refusals, so that they can be avoided.
        retry_after: whether a refusal says how long to wait.
        others: submits a second by another client.
        in_flight: jobs in flight at most.
    """

    name: str
    make: object
    seconds: float = 900.0
    healthy_from: tuple = ()
    by_limit: bool = True
    retry_after: bool = False
    others: float = 0.0
    in_flight: int = MANY

    def run(self, rival, seed):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(self._run(rival, seed))

    async def _run(self, rival, seed):
        is_oracle, limit = rival == "oracle", self.make(seed)
        limit = limit.oracle() if is_oracle else limit
        server = Server(limit, seed, self.retry_after, self.others, patient=is_oracle)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await (by_hand if rival == "by hand" else gate)(server, self.in_flight)
        return Run(server.accepted, len(server.sent), len(server.refused))


def regimes():
    """All of them; those with a choice, without and with Retry-After."""
    phases, storm = (600.0, 1200.0), (300.0, 2100.0)
    found = []
    for told in (False, True):
        told_so = ", Retry-After" if told else ""

        def add(name, make, told_so=told_so, told=told, **more):
            found.append(Regime(name + told_so, make, retry_after=told, **more))

        add("5 submits/s, burst 10", lambda _: Rate((0, 5.0)))
        add("100 jobs at once", lambda _: AtOnce((0, 100)))
        add("2 submits/s and 100 jobs at once", lambda _: Both(Rate((0, 2.0)), AtOnce((0, 100))))
        add("120 submits in any minute", lambda _: Window(120))
        add(
            "0.5, 5, 0.5 submits/s",
            lambda _: Rate((0, 0.5), (phases[0], 5.0), (phases[1], 0.5)),
            seconds=1800.0, healthy_from=phases,
        )  # fmt: skip
        add(
            "20, 200, 20 jobs at once",
            lambda _: AtOnce((0, 20), (phases[0], 200), (phases[1], 20)),
            seconds=1800.0, healthy_from=phases,
        )  # fmt: skip
        add("5 submits/s, half of them another's", lambda _: Rate((0, 5.0)), others=2.5)
        add("100 jobs at once, half another's", lambda _: AtOnce((0, 100)), others=50 / 62)
        for share in (0.01, 0.03, 0.1, 0.3, 0.6):
            add(
                f"{share:.0%} refused at random",
                lambda seed, share=share: Noise((0, share), seed=seed),
                seconds=600.0, by_limit=False,
            )  # fmt: skip
        add(
            "30 min of 429 to all",
            lambda _: Down((0, False), (storm[0], True), (storm[1], False)),
            seconds=2700.0, healthy_from=storm[1:], by_limit=False,
        )  # fmt: skip
        add(
            "30 min of 429 to half, at random",
            lambda seed: Noise((0, 0.0), (storm[0], 0.5), (storm[1], 0.0), seed=seed),
            seconds=2700.0, healthy_from=storm[1:], by_limit=False,
        )  # fmt: skip
    outages = ((0, False), (300, True), (420, False), (720, True), (840, False))
    add("2 min of 503, twice", lambda _: Down(*outages, status=503), seconds=1140.0,
        healthy_from=(420.0, 840.0), by_limit=False)  # fmt: skip
    few = (attrs.evolve(each, name=f"{FEW} jobs: {each.name}", in_flight=FEW) for each in found)
    return found + list(few)


@attrs.frozen
class Run:
    """When submits were accepted, and how many were sent and refused."""

    accepted: list
    sent: int
    refused: int

    def between(self, begin, end):
        return bisect_left(self.accepted, end) - bisect_left(self.accepted, begin)

    def share(self, oracle, begin, end):
        return self.between(begin, end) / max(1, oracle.between(begin, end))

    @property
    def refused_share(self):
        return self.refused / max(1, self.sent)

    def recovery(self, oracle, begin, end):
        """Seconds after `begin` until as much as by the oracle is accepted, for a while and on."""
        for at in range(int(begin), int(end - SPAN) + 1):
            soon, later = self.share(oracle, at, at + SPAN), self.share(oracle, at, end)
            if oracle.between(at, at + SPAN) and min(soon, later) >= RECOVERED:
                return at - begin
        return float("nan")


# --- rivals ---------------------------------------------------------------------------------------


async def gate(server, in_flight):
    """The SDK's client, which is not told the limit, and to which the ends of jobs are reported."""
    async with SeedanceClient(
        api_key="key",
        base_url="https://api.example",
        transport=server,
        max_connections=CONNECTIONS,
        rng=random.Random(server.seed),
    ) as client:
        client.submit_gate.counts_jobs = True
        prepared = prepare(GenerationRequest("a river"), allow_local=False)

        async def submit():
            submission = await client.create_prepared(prepared, PendingSubmit(_ignore))
            return int(submission.request_id.removeprefix("req_"))

        await make_videos(server, in_flight, submit, client.submit_gate.job_ended)


async def by_hand(server, in_flight):
    """Each coroutine has its own full-jitter backoff that respects Retry-After."""
    connections, rng = asyncio.Semaphore(CONNECTIONS), random.Random(server.seed)

    async def submit():
        for attempt in itertools.count():
            async with connections:
                response = await server.send(SUBMIT)
            if response.status == 200:
                return int(json.loads(response.body)["requestId"].removeprefix("req_"))
            own = rng.uniform(0, min(20.0, 0.5 * 2.0 ** min(attempt, 10)))
            await asyncio.sleep(max(own, float(response.headers.get("retry-after", 0))))

    await make_videos(server, in_flight, submit, lambda: None)


async def make_videos(server, in_flight, submit, job_ended):
    """As many coroutines as there may be jobs in flight; each starts a job when its last ended."""
    rng = random.Random(server.seed)

    async def one_after_another():
        while True:
            number = await submit()
            polled = server.ends[number] + rng.uniform(0.0, POLL)
            await asyncio.sleep(max(0.0, polled - server.now()))
            job_ended()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(one_after_another())
    finally:
        await server.aclose()


def _ignore(outcome):
    """Nobody asks for the outcome of a submit that the end of the run has cancelled."""


@attrs.frozen
class Submit:
    charges: bool = True


SUBMIT = Submit()


# --- the output -----------------------------------------------------------------------------------

HEADER = (
    "why the server refuses",
    f"share of the oracle's after {LEARNING:g} s",
    "over all",
    "refused",
    "s to recover",
    "by hand: over all",
    "refused",
)


@attrs.frozen
class Result:
    """One regime: the runs of the client and of the oracle by seed, and the one by hand."""

    regime: Regime
    gates: list
    oracles: list
    hand: Run

    def worst_share(self, begin):
        end, pairs = self.regime.seconds, zip(self.gates, self.oracles, strict=True)
        return min(run.share(oracle, begin, end) for run, oracle in pairs)

    @property
    def recovery(self):
        """The longest of all seeds and changes; None where nothing changes."""
        changes = (*self.regime.healthy_from, self.regime.seconds)
        return max(
            (
                run.recovery(oracle, begin, end)
                for run, oracle in zip(self.gates, self.oracles, strict=True)
                for begin, end in itertools.pairwise(changes)
            ),
            key=lambda seconds: (seconds != seconds, seconds),
            default=None,
        )

    @property
    def refused_share(self):
        return max(run.refused_share for run in self.gates)

    def row(self):
        recovery = "" if self.recovery is None else self.recovery
        return [
            self.regime.name, self.worst_share(LEARNING), self.worst_share(0.0),
            self.refused_share, recovery,
            self.hand.share(self.oracles[0], 0.0, self.regime.seconds), self.hand.refused_share,
        ]  # fmt: skip

    def targets(self):
        name = self.regime.name
        yield Target(f"{name}: after a minute", self.worst_share(LEARNING), at_least=0.9)
        yield Target(f"{name}: over all", self.worst_share(0.0), at_least=0.75)
        if self.regime.by_limit:
            yield Target(f"{name}: refused", self.refused_share, at_most=0.05)
        if self.recovery is not None:
            yield Target(f"{name}: seconds to recover", self.recovery, at_most=180)


def run_one(number, rival, seed):
    """In a process of its own."""
    logging.disable(logging.CRITICAL)
    return regimes()[number].run(rival, seed)


def results(chosen, seeds):
    """The results of these regimes, from as many processes as there are cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        started = [
            (
                regime,
                [pool.submit(run_one, number, "gate", seed) for seed in seeds],
                [pool.submit(run_one, number, "oracle", seed) for seed in seeds],
                pool.submit(run_one, number, "by hand", seeds[0]),
            )
            for number, regime in chosen
        ]
        for regime, gates, oracles, hand in started:
            gates, oracles = ([run.result() for run in runs] for runs in (gates, oracles))
            yield Result(regime, gates, oracles, hand.result())
            print(f"done: {regime.name}", file=sys.stderr)


def draw(found):
    """What was accepted over time, one panel per regime."""
    plt = pyplot()
    rows = (len(found) + 2) // 3
    figure, panels = plt.subplots(rows, 3, figsize=(12, 1.9 * rows), squeeze=False)
    for result, panel in itertools.zip_longest(found, panels.flat):
        if result is None:
            panel.set_axis_off()
            continue
        ends = [SPAN * (index + 1) for index in range(int(result.regime.seconds / SPAN))]
        runs = {"oracle": result.oracles[0], "by hand": result.hand, "gate": result.gates[0]}
        for name, run in runs.items():
            rates = [run.between(end - SPAN, end) / SPAN for end in ends]
            panel.plot(ends, rates, label=name, linewidth=1.6 if name == "gate" else 0.9)
        panel.set_title(result.regime.name, fontsize=8)
    panels[0, 0].legend(fontsize=7)
    figure.supylabel("accepted a second")
    figure.supxlabel("seconds")
    figure.tight_layout()
    figure.savefig(plot_path("throttle"), dpi=60)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--only", default="", help="regimes whose names contain this")
    parser.add_argument("--seeds", type=int, nargs="+", help="others, which is not recorded")
    options = parser.parse_args()
    seeds = tuple(options.seeds or (SEEDS[:1] if options.quick else SEEDS))
    chosen = [pair for pair in enumerate(regimes()) if options.only in pair[1].name]
    found = list(results(chosen, seeds))
    if options.only or options.seeds:
        print(table(HEADER, [result.row() for result in found]))
        targets = [target for result in found for target in result.targets()]
        print(f"{sum(not target.met for target in targets)} of {len(targets)} targets missed")
        return
    draw(found)
    report(
        "throttle",
        header=HEADER,
        rows=[result.row() for result in found],
        targets=[target for result in found for target in result.targets()],
        packages=("aiohttp", "matplotlib"),
        details={"seeds, of which the worst run is shown": seeds, "time": "virtual"},
    )


if __name__ == "__main__":
    main()
