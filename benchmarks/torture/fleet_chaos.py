"""What is done to the workers of a fleet, and how much of it: kills, stops, cuts, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from random import Random

import attrs

from benchmarks.torture.faults import MODERATE, Faults
from benchmarks.torture.fleet_places import Kind, Network, QueuePlace
from benchmarks.torture.fleet_processes import FleetTally, WorkerProcess
from benchmarks.torture.fleet_watch import RUN, Reader, Takeovers
from benchmarks.torture.fleet_worker import FleetPlan
from benchmarks.torture.killing import TortureError

#: The average price of a request: 480p at 4 credits per second, for 4, 5 and 8 seconds.
_AVERAGE_CREDITS = 4 * (4 + 5 + 8) / 3

#: Events come while this share of the tasks ends.
_FIRST, _LAST = 0.02, 0.95

#: An event that waits for tasks to end comes after so many seconds at the latest.
_MOST_SECONDS = 15.0


@attrs.frozen(kw_only=True)
class FleetTorture:
    """The parameters of a run.

    Attributes:
        workers, jobs: how many.
        kills, stops: SIGKILLs and SIGSTOPs of workers.
        restarts: of PostgreSQL.
        cuts: how often a worker is cut off from PostgreSQL, but not from the API.
        hangs: how often the connections of a worker to PostgreSQL hang from then on.
        queue: where the queue is.
        seed: of the emulator, and of the times of everything.
        lease: seconds without a sign of life after which others take over.
        apart: whether workers cannot see each other's processes, as on machines of their own.
        limit: the share of the price of all that may be spent; None: no limit.
        running_seconds, max_in_flight: how long a job runs; how many a worker has at once.
        faults: of the emulator.
        minutes: after which the run gives up.
        durable: whether PostgreSQL flushes to the disk.
        look_every: seconds between two looks of everybody who looks.
    """

    workers: int = 4
    jobs: int = 5000
    kills: int = 60
    stops: int = 10
    restarts: int = 5
    cuts: int = 0
    hangs: int = 0
    queue: Kind = "postgres"
    seed: int = 1
    lease: float = 6.0
    apart: bool = False
    limit: float | None = 0.9
    running_seconds: float = 1.0
    max_in_flight: int = 40
    faults: Faults = attrs.field(factory=lambda: MODERATE, repr=False)
    minutes: float = 20.0
    durable: bool = True
    look_every: float = 0.3

    def emulator_options(self, folder: Path) -> dict[str, object]:
        """The options of the emulator."""
        return {
            "seed": self.seed,
            "speed": 100.0,
            "gpus": 10_000,
            "median_seconds": 100.0 * self.running_seconds,
            "media": "shared",
            "ledger_path": str(folder / "ledger.jsonl"),
            **self.faults,
        }

    def plan(self, queue: str, api: str, folder: Path) -> FleetPlan:
        """The work. Every fifth task counts for a budget a little tighter than the limit."""
        credits = self.jobs * _AVERAGE_CREDITS
        return FleetPlan(
            url=api,
            queue=queue,
            name=RUN,
            count=self.jobs,
            folder=str(folder),
            max_in_flight=self.max_in_flight,
            lease=self.lease,
            doubt=3 * self.lease if self.apart else None,
            max_credits=None if self.limit is None else round(credits * self.limit),
            share_credits=None if self.limit is None else round(credits * self.limit * 0.17),
            look_every=self.look_every,
        )

    def events(self) -> list[str]:
        """What is done to the fleet, in its order."""
        counts = {
            "kill": self.kills,
            "stop": self.stops,
            "restart": self.restarts,
            "cut": self.cuts,
            "hang": self.hangs,
        }
        events = [event for event, count in counts.items() for _ in range(count)]
        Random(f"{self.seed} events").shuffle(events)
        return events


class Fleet:
    """The workers of a run, and what is done to them.

    Args:
        torture: the parameters.
        plan: the work.
        place: of the queue.
        networks: between each worker and the database, if they are to be cut.
        folder: for logs.
        api_key: of the emulator.
    """

    def __init__(
        self,
        torture: FleetTorture,
        plan: FleetPlan,
        place: QueuePlace,
        networks: Sequence[Network | None],
        folder: Path,
        api_key: str,
    ) -> None:
        self._torture, self._place = torture, place
        self._rng = Random(f"{torture.seed} times")
        self._diary = folder / "events.log"
        self.tally = FleetTally()
        self.reader = Reader(plan.queue, plan.look_every)
        self.takeovers = Takeovers(plan.queue, self._note)
        self.workers = [
            WorkerProcess(
                plan,
                folder / f"worker-{number}.log",
                self.tally,
                {"SEEDANCE_API_KEY": api_key},
                apart=torture.apart,
                network=network,
            )
            for number, network in enumerate(networks)
        ]

    async def run(self) -> None:
        """Let the workers do the work, and nothing go as they would like."""
        try:
            async with asyncio.timeout(60 * self._torture.minutes), asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self.takeovers.watch())
                keeping = [tasks.create_task(self._keep(worker)) for worker in self.workers]
                reading = tasks.create_task(self.reader.read())
                chaos = tasks.create_task(self._chaos())
                await reading
                await chaos
                for task in (watching, *keeping):
                    task.cancel()
            await asyncio.gather(*(worker.leave() for worker in self.workers))
        except TimeoutError:
            raise TortureError("the time limit passed before every task had its outcome") from None
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            for worker in self.workers:
                await worker.kill()

    async def _keep(self, worker: WorkerProcess) -> None:
        """Start a worker whenever there is none, a moment later."""
        while True:
            await worker.live()
            await asyncio.sleep(self._torture.lease * self._rng.uniform(0.02, 0.2))

    async def _chaos(self) -> None:
        events = self._torture.events()
        async with asyncio.TaskGroup() as tasks:
            for number, event in enumerate(events):
                share = _FIRST + (_LAST - _FIRST) * number / max(1, len(events))
                await self._come_to(share * self._torture.jobs)
                await asyncio.sleep(self._rng.expovariate(30 / self._torture.lease))
                tasks.create_task(getattr(self, f"_{event}")())

    async def _come_to(self, ended: float) -> None:
        """Wait until so many tasks have their outcome, or for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOST_SECONDS):
                await self.reader.until(ended)

    def _note(self, event: str) -> None:
        """Write down what happens, as the workers' logs do."""
        with self._diary.open("a") as diary:
            diary.write(f"{datetime.now():%H:%M:%S.%f} {event}\n")

    async def _kill(self) -> None:
        worker = await self._victim()
        self._note(f"kill {worker.name}")
        self.takeovers.died(worker.name)
        await worker.kill()
        self.tally.kills += 1

    async def _stop(self) -> None:
        worker = await self._victim()
        name = worker.name
        self._note(f"stop {name}")
        self.takeovers.died(name, stopped=True)
        await worker.stop(self._torture.lease * self._rng.uniform(1.5, 2.5))
        self._note(f"woke {name}")
        self.takeovers.woke(name)

    async def _cut(self) -> None:
        worker = await self._victim()
        name = worker.name
        self._note(f"cut {name}")
        self.takeovers.died(name, stopped=True)
        await worker.cut_off(self._torture.lease * self._rng.uniform(1.5, 2.5))
        self._note(f"healed {name}")
        self.takeovers.woke(name)

    async def _hang(self) -> None:
        worker = await self._victim()
        self._note(f"hang {worker.name}")
        await worker.hang()

    async def _restart(self) -> None:
        self._note("restart")
        await self._place.restart()
        self._note("restarted")

    async def _victim(self) -> WorkerProcess:
        """A worker that takes tasks at this moment."""
        while True:
            able = [each for each in self.workers if each.name is not None and not each.is_away]
            if able:
                return self._rng.choice(able)
            await asyncio.sleep(0.05)
