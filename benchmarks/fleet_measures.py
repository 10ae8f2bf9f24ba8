"""The measurements of `benchmarks.fleet`, each in a queue that is empty before."""

import asyncio
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path

import attrs

from benchmarks.fleet_tools import (
    IN_FLIGHT,
    cpu_seconds,
    crew,
    emulator,
    memory_mb,
    plan_of,
    server_cpu_seconds,
)
from benchmarks.torture.fleet_watch import RUN, Takeovers
from benchmarks.torture.fleet_worker import FleetPlan
from benchmarks.torture.worker import Plan
from seedance_async.engines.dbos import SeedanceQueue
from seedance_async.engines.dbos.places import journal_at

#: How long a job runs.
SECONDS = 5.0

_MIB = 1 << 20
_IDLE_SECONDS = 10.0


async def one_process(folder, jobs):
    """The same jobs in one process without a queue."""
    async with emulator(SECONDS) as api:
        plan = Plan(
            url=api.url, name=RUN, count=jobs, folder=str(folder), max_in_flight=IN_FLIGHT,
            usual=True,
        )  # fmt: skip
        environment = {
            **os.environ,
            "SEEDANCE_API_KEY": api.api_key,
            "TORTURE_PLAN": json.dumps(attrs.asdict(plan)),
        }
        began, before = time.monotonic(), os.times()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.torture.worker"),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0
        after, seconds = os.times(), time.monotonic() - began
        polls = await _polls(api)
    cpu = after.children_user - before.children_user
    cpu += after.children_system - before.children_system
    return {
        "1 worker: jobs a second": jobs / seconds,
        "1 worker: CPU ms a job": 1000 * cpu / jobs,
        "1 worker: polls a job": polls / jobs,
    }


async def work_off(place, folder, jobs, workers):
    """Jobs a second and CPU a job; with four workers the size of the tables, too."""
    name = f"{workers} worker{'s' if workers > 1 else ''}"
    empty = await _empty(place)
    async with emulator(SECONDS) as api:
        plan = plan_of(place, folder, api, jobs)
        async with (
            crew(plan, folder, workers, api.api_key) as processes,
            SeedanceQueue(place.url) as queue,
        ):
            began, server = time.monotonic(), server_cpu_seconds(place.server)
            cpu = sum(cpu_seconds(process.pid) for process in processes)
            await queue.enqueue(plan.tasks(), run=RUN)
            states = [outcome.state async for outcome in queue.results(run=RUN)]
            seconds, polls = time.monotonic() - began, await _polls(api)
            cpu = sum(cpu_seconds(process.pid) for process in processes) - cpu
            server = server_cpu_seconds(place.server) - server
            connections = _connections(place)
    assert states == ["succeeded"] * jobs
    figures = {
        f"{name}: jobs a second": jobs / seconds,
        f"{name}: CPU ms a job": 1000 * cpu / jobs,
        f"{name}: polls a job": polls / jobs,
    }
    if place.server is not None:
        figures[f"{name}: CPU ms a job, Postgres"] = 1000 * server / jobs
        figures[f"{name}: connections"] = connections
    return figures if workers < 4 else figures | await _sizes(place, jobs, empty)


async def _polls(api):
    polls = (await api.stats())["requests"].get("poll", {})
    return sum(polls.values())


def _connections(place):
    """Those that workers and one reader have."""
    if place.server is None:
        return 0
    [[count]] = place.server.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", place.url.rpartition("/")[2]
    )
    return count


async def _empty(place):
    """Bytes of the tables before there is anything in them."""
    async with SeedanceQueue(place.url):
        journal = journal_at(place.url)
        await journal.open()
        await journal.aclose()
    return _files(place)


async def _sizes(place, jobs, empty):
    """How much the tables grew, and what is left of that once the run is forgotten."""
    share = 10_000 / jobs / _MIB

    def grown():
        return {name: (size - empty[name]) * share for name, size in _files(place).items()}

    figures = {f"MiB for 10,000 jobs, {name}": size for name, size in grown().items()}
    async with SeedanceQueue(place.url) as queue:
        await queue.forget(run=RUN)
    journal = journal_at(place.url)
    await journal.open()
    try:
        await journal.forget([entry.key for entry in await journal.entries()])
    finally:
        await journal.aclose()
    return figures | {f"  after `forget`, {name}": size for name, size in grown().items()}


def _files(place):
    """Bytes of what the queue and the journal keep, packed."""
    if place.server is None:
        import sqlite3

        sizes = {}
        file = Path(place.url.partition(":///")[2])
        for name, path in {"queue": file, "journal": file.with_suffix(".journal.db")}.items():
            connection = sqlite3.connect(path)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            sizes[name] = path.stat().st_size
        return sizes
    database = place.url.rpartition("/")[2]
    place.server.execute("VACUUM FULL", database=database)
    rows = place.server.execute(
        "SELECT schemaname, sum(pg_total_relation_size(format('%I.%I', schemaname, tablename)"
        "::regclass))::bigint FROM pg_tables WHERE schemaname IN ('dbos', 'seedance') GROUP BY 1",
        database=database,
    )
    sizes = dict(rows)
    return {"queue": sizes["dbos"], "journal": sizes["seedance"]}


async def enqueue(place, folder, count):
    """The time that it takes to give a queue many tasks, and to look at them once."""
    plan = FleetPlan(url="http://127.0.0.1", queue=place.url, name=RUN, count=count, folder="")
    tasks = list(plan.tasks())
    async with SeedanceQueue(place.url) as queue:
        await queue.status(run=RUN)
        began, cpu = time.monotonic(), time.process_time()
        await queue.enqueue(tasks, run=RUN)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        began = time.monotonic()
        status = await queue.status(run=RUN)
    assert status.waiting == count
    name = f"enqueue of {count:,} tasks"
    return {
        f"{name}: s": seconds,
        f"{name}: CPU ms a task": 1000 * cpu / count,
        f"status of {count:,} tasks: s": time.monotonic() - began,
    }


async def take_over(place, folder, lease, times):
    """How long the tasks of a worker stay with it once it is dead, or stopped."""
    takeovers = Takeovers(place.url)
    apart = place.server is not None and os.geteuid() == 0
    async with emulator(3600.0) as api:
        plan = plan_of(place, folder, api, 60, max_in_flight=100, lease=lease)
        async with (
            crew(plan, folder, 3, api.api_key, apart=apart) as processes,
            SeedanceQueue(place.url) as queue,
        ):
            watching = asyncio.create_task(takeovers.watch())
            await queue.enqueue(plan.tasks(), run=RUN)
            for _ in range(times):
                victim = await _busiest(queue, processes)
                takeovers.died(victim.name)
                await victim.kill()
                await takeovers.next()
                await victim.start()
                victim = await _busiest(queue, processes)
                takeovers.died(victim.name, stopped=True)
                stopping = asyncio.create_task(victim.stop(10 * lease))
                taken = asyncio.create_task(takeovers.next())
                # One that is stopped in a transaction of SQLite holds all others up.
                await asyncio.wait({stopping, taken}, return_when=asyncio.FIRST_COMPLETED)
                taken.cancel()
                takeovers.woke(victim.name)
                await victim.kill()
                await stopping
                await victim.start()
            watching.cancel()
    name, stopped = f"lease {lease:g} s", takeovers.of_stopped or [math.inf]
    return {
        f"takeover from the dead, {name}, s": statistics.median(takeovers.seconds),
        f"takeover from the dead, {name}, at most s": max(takeovers.seconds),
        f"takeover from the stopped, {name}, s": statistics.median(stopped),
        f"takeover from the stopped, {name}, at most s": max(stopped),
    }


async def _busiest(queue, processes):
    """The worker with most tasks, once workers have all, and have submitted them."""
    while True:
        await asyncio.sleep(3.0)
        status = await queue.status(run=RUN)
        if not status.waiting:
            return max(processes, key=lambda process: status.workers.get(process.name, 0))


async def hold(place, folder, jobs, seconds):
    """One worker with many jobs at once: memory, CPU, and how late it notices that they ended."""
    async with emulator(seconds, gpus=100_000) as api:
        plan = plan_of(place, folder, api, jobs, max_in_flight=jobs, saves=False)
        async with (
            crew(plan, folder, 1, api.api_key) as [worker],
            SeedanceQueue(place.url) as queue,
        ):
            before = cpu_seconds(worker.pid)
            await queue.enqueue(plan.tasks(), run=RUN)
            states = [outcome.state async for outcome in queue.results(run=RUN)]
            cpu, memory = cpu_seconds(worker.pid) - before, memory_mb(worker.pid)
            stats, ledger = await api.stats(), await api.ledger()
            idle = await _idle(worker, place)
    assert states == ["succeeded"] * jobs
    ended = {entry["request_id"]: entry["time"] + seconds for entry in ledger}
    journal = journal_at(place.url)
    await journal.open()
    try:
        entries = await journal.entries()
    finally:
        await journal.aclose()
    lags = sorted(entry.updated_at - ended[entry.request_id] for entry in entries)
    name = f"one worker, {jobs:,} jobs"
    return {
        f"{name}: at once": stats["peak_active"],
        f"{name}: most memory, MB": memory,
        f"{name}: CPU ms a job": 1000 * cpu / jobs,
        f"{name}: polls a job": sum(stats["requests"]["poll"].values()) / jobs,
        f"{name}: end noticed after s": statistics.median(lags),
        f"{name}: end noticed after s, 95 %": lags[len(lags) * 95 // 100],
        f"{name}: end noticed after s, at most": lags[-1],
        **idle,
    }


async def _idle(worker, place):
    """The share of a processor that a worker and the database take while there is nothing to do."""
    before = cpu_seconds(worker.pid), server_cpu_seconds(place.server)
    await asyncio.sleep(_IDLE_SECONDS)
    after = cpu_seconds(worker.pid), server_cpu_seconds(place.server)
    own, server = (
        100 * (later - sooner) / _IDLE_SECONDS for sooner, later in zip(before, after, strict=True)
    )
    return {"an idle worker: % of a CPU": own, "  of Postgres, with one reader": server}
