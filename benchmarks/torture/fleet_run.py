"""A torture run of a fleet: workers are killed, stopped and cut off from their database."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import attrs

from benchmarks.torture.fleet_chaos import Fleet, FleetTorture
from benchmarks.torture.fleet_judge import FleetJudge, FleetVerdict, seen_at
from benchmarks.torture.fleet_places import QueuePlace, network_to, queue_place
from benchmarks.torture.fleet_processes import FleetTally
from benchmarks.torture.fleet_watch import RUN, Reader, Takeovers
from benchmarks.torture.fleet_worker import FleetPlan
from seedance_async.engines.dbos import SeedanceQueue
from tests.support.emulator_process import EmulatorProcess, emulator_process


@attrs.define
class FleetResult:
    """The result of a run."""

    verdict: FleetVerdict
    tally: FleetTally
    restarts: dict[str, int]
    takeovers: Takeovers
    reader: Reader
    late: Reader
    faults: Counter[str]
    seconds: float = 0.0


async def run(
    torture: FleetTorture, folder: Path, say: Callable[[str], None] = lambda text: None
) -> FleetResult:
    """Run a fleet and judge it. No process is left running, whatever happens.

    Args:
        torture: the parameters.
        folder: where all files go.
        say: called with what is being done.

    Raises:
        TortureError: a worker does not start or leave, or the time limit passed.
    """
    begun = time.monotonic()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(
            queue_place(torture.queue, folder, durable=torture.durable)
        )
        emulator = await stack.enter_async_context(
            emulator_process(**torture.emulator_options(folder))
        )
        plan = torture.plan(place.url, emulator.url, folder)
        plan.videos.mkdir()
        async with SeedanceQueue(place.url) as queue:
            await queue.enqueue(plan.tasks(), run=RUN)
        say(f"{torture.jobs} tasks are in the queue, {time.monotonic() - begun:.1f} s")
        networks = [
            stack.enter_context(network_to(place)) if torture.cuts + torture.hangs else None
            for _ in range(torture.workers)
        ]
        fleet = Fleet(torture, plan, place, networks, folder, emulator.api_key)
        await fleet.run()
        say(f"every task has its outcome, {time.monotonic() - begun:.1f} s")
        return await _judged(fleet, plan, place, emulator, time.monotonic() - begun)


async def _judged(
    fleet: Fleet, plan: FleetPlan, place: QueuePlace, emulator: EmulatorProcess, seconds: float
) -> FleetResult:
    late = Reader(plan.queue, plan.look_every)
    await late.read()
    stats = await emulator.stats()
    served = await seen_at(emulator, plan)
    judge = FleetJudge(plan, served, fleet.reader, late)
    return FleetResult(
        verdict=await asyncio.to_thread(judge.verdict),
        tally=fleet.tally,
        restarts=place.restarts,
        takeovers=fleet.takeovers,
        reader=fleet.reader,
        late=late,
        faults=Counter(stats["faults"]),
        seconds=seconds,
    )
