"""Many workers on one run: what they cost, how soon they take over, how much one can hold.

    python -m benchmarks.fleet [--jobs 1000] [--only throughput] [--quick]

One emulator in a process of its own, as for all others here; the workers, PostgreSQL and the
emulator share the machine, so that jobs a second end where its processors do. What counts is CPU a
job. Beside the fleet runs one process without a queue, with a journal in SQLite, which does the
same jobs and saves the same videos.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from benchmarks.fleet_measures import (
    enqueue,
    hold,
    one_process,
    take_over,
    work_off,
)
from benchmarks.fleet_tools import Table
from benchmarks.report import Target, draw_bars, report
from benchmarks.torture.fleet_places import queue_place

LEASE = 6.0
HELD = 4000
HELD_SECONDS = 60.0
KINDS = {"SQLite": "sqlite", "Postgres": "postgres"}
PARTS = ("throughput", "enqueue", "takeover", "hold")


async def in_place(kind, measure, *arguments):
    """Measure something in a new queue."""
    with tempfile.TemporaryDirectory(prefix="seedance-bench-") as folder:
        async with queue_place(KINDS[kind], Path(folder)) as place:
            return await measure(place, Path(folder), *arguments)


async def measure_throughput(table, jobs):
    with tempfile.TemporaryDirectory(prefix="seedance-bench-") as folder:
        table.add("no queue", await one_process(Path(folder), jobs))
    for kind in KINDS:
        for workers in (1, 2, 4):
            table.add(kind, await in_place(kind, work_off, jobs, workers))


async def measure(table, chosen):
    if "throughput" in chosen.only:
        await measure_throughput(table, chosen.jobs)
    for kind in KINDS:
        if "enqueue" in chosen.only:
            table.add(kind, await in_place(kind, enqueue, chosen.enqueued))
        if "takeover" in chosen.only:
            table.add(kind, await in_place(kind, take_over, LEASE, chosen.times))
    if "hold" in chosen.only:
        table.add("Postgres", await in_place("Postgres", hold, chosen.held, chosen.held_seconds))


def targets(table, chosen):
    """The promises that have figures, as far as they were measured."""
    if "takeover" in chosen.only:
        for kind in KINDS:
            for who in ("dead", "stopped"):
                slowest = table.get(kind, f"takeover from the {who}, lease {LEASE:g} s, at most s")
                name = f"{kind}: takeover from the {who}, in leases"
                yield Target(name, slowest / LEASE, at_most=2)
    if "hold" in chosen.only:
        most = table.get("Postgres", f"one worker, {chosen.held:,} jobs: at once")
        yield Target("jobs that one worker held at once", most, at_least=chosen.held)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    chosen = parser.parse_args()
    chosen.only = chosen.only or PARTS
    chosen.enqueued, chosen.times = 100_000, 3
    chosen.held, chosen.held_seconds = HELD, HELD_SECONDS
    if chosen.quick:
        chosen.jobs, chosen.enqueued, chosen.times = 200, 5_000, 1
        chosen.held, chosen.held_seconds = 300, 10.0
    table = Table("no queue", *KINDS)
    asyncio.run(measure(table, chosen))
    report(
        "fleet",
        header=["", *table.columns],
        rows=table.rows(),
        targets=list(targets(table, chosen)),
        packages=("aiohttp", "dbos", "psycopg"),
    )
    if "throughput" in chosen.only:
        draw_bars("fleet", bars(table))


def bars(table):
    """Jobs a second and CPU, of each number of workers."""

    def values(column, start):
        return {
            f"{column}, {name.partition(': ')[0]}": [value]
            for name, value in table.figures[column].items()
            if name.endswith(start)
        }

    endings = {"jobs a second": "jobs a second", "CPU ms a job, workers": "CPU ms a job"}
    return {
        title: {
            name: runs for column in table.columns for name, runs in values(column, end).items()
        }
        for title, end in endings.items()
    }


if __name__ == "__main__":
    main()
