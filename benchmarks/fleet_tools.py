"""What the measurements of `benchmarks.fleet` share: a table, processor time, memory, workers."""

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.torture.fleet_processes import FleetTally, WorkerProcess
from benchmarks.torture.fleet_watch import RUN
from benchmarks.torture.fleet_worker import FleetPlan
from tests.support.emulator_process import emulator_process

#: How many jobs one process has at once.
IN_FLIGHT = 200

_TICKS = os.sysconf("SC_CLK_TCK")


class Table:
    """Figures by column and name, as they come.

    Args:
        columns: their names.
    """

    def __init__(self, *columns):
        self.columns = columns
        self.figures = {column: {} for column in columns}

    def add(self, column, figures):
        """Add the figures of one measurement."""
        self.figures[column] |= figures

    def get(self, column, name):
        """A figure; NaN if it was not measured."""
        return self.figures[column].get(name, float("nan"))

    def rows(self):
        """One row for each name."""
        names = dict.fromkeys(name for column in self.figures.values() for name in column)
        return [
            [name, *(self.figures[each].get(name, "") for each in self.columns)] for name in names
        ]


def cpu_seconds(pid):
    """The CPU that a process has used, without its children."""
    return _cpu(pid)[0]


def _cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, of_children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / _TICKS, of_children / _TICKS


def server_cpu_seconds(server):
    """The CPU that a PostgreSQL has used, with that of connections which have ended."""
    if server is None:
        return 0.0
    total = sum(_cpu(server.pid))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == server.pid:
                total += cpu_seconds(folder.name)
        except OSError:
            continue  # it has ended meanwhile
    return total


def memory_mb(pid):
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def emulator(seconds, *, gpus=10_000, sigma=0.0):
    return emulator_process(
        speed=1.0, median_seconds=seconds, sigma=sigma, gpus=gpus, media="shared", seed=1
    )


@asynccontextmanager
async def crew(plan, folder, workers, api_key, *, apart=False):
    """Some workers, which are killed at the end."""
    processes = [
        WorkerProcess(
            plan, folder / "log", FleetTally(), {"SEEDANCE_API_KEY": api_key}, apart=apart
        )
        for _ in range(workers)
    ]
    try:
        await asyncio.gather(*(process.start() for process in processes))
        yield processes
    finally:
        await asyncio.gather(*(process.kill() for process in processes))


def plan_of(place, folder, api, jobs, **options):
    options = {"usual": True, "max_in_flight": IN_FLIGHT, "look_every": 1.0, **options}
    return FleetPlan(
        url=api.url, queue=place.url, name=RUN, count=jobs, folder=str(folder), **options
    )
