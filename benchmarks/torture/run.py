"""A torture run: batches one after another, each against its own emulator."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import attrs

from benchmarks.torture.faults import MODERATE, Faults
from benchmarks.torture.judge import Judge, Verdict, true_clips
from benchmarks.torture.killing import Batch
from benchmarks.torture.worker import Plan
from seedance_async.emulator import Emulator, EmulatorOptions

if TYPE_CHECKING:
    from benchmarks.torture.bucket import Bucket

#: The average price of a request: 480p at 4 credits per second, for 4, 5 and 8 seconds.
_AVERAGE_CREDITS = 4 * (4 + 5 + 8) / 3


@attrs.frozen(kw_only=True)
class Torture:
    """The parameters of a run.

    Attributes:
        submissions: requests over all batches.
        batches: how many; each has its own journal and folder.
        kills: over all batches.
        seed: of the emulator and of the times of the kills.
        minutes: after which the run gives up.
        faults: of the emulator.
        budget: the share of its price that the first batch may spend; None: no limit.
        running_seconds, max_in_flight: how long a job runs and how many run at once.
    """

    submissions: int
    kills: int
    seed: int
    batches: int = 1
    minutes: float = 20.0
    faults: Faults = attrs.field(factory=lambda: MODERATE, repr=False)
    budget: float | None = None
    running_seconds: float = 0.4
    max_in_flight: int = 20

    def options(self, number: int, folder: Path) -> EmulatorOptions:
        """The options of one batch's emulator."""
        return EmulatorOptions(
            seed=self.seed + number,
            speed=100.0,
            gpus=10_000,
            median_seconds=100.0 * self.running_seconds,
            media="shared",
            ledger_path=folder / "ledger.jsonl",
            **self.faults,  # type: ignore[arg-type]
        )

    def plan(self, number: int, url: str, folder: Path) -> Plan:
        """The plan of one batch; the first one has the budget."""
        count = _share(self.submissions, self.batches, number)
        budget = None if number else self.budget
        return Plan(
            url=url,
            name=folder.name,
            count=count,
            folder=str(folder),
            max_in_flight=self.max_in_flight,
            max_credits=round(count * _AVERAGE_CREDITS * budget) if budget else None,
        )


@attrs.define
class Outcome:
    """The result of a torture run: the verdict, the kills and the faults."""

    verdict: Verdict
    lives: int = 0
    kills: int = 0
    seconds: float = 0.0
    faults: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    budget_refusals: int = 0

    async def add(self, batch: Batch, emulator: Emulator) -> None:
        """Judge a batch and add its figures."""
        self.kills += batch.tally.kills
        self.lives += batch.tally.lives
        self.faults += emulator.requests.by_fault
        self.budget_refusals += batch.last_report.read_text().count("BudgetExceededError")
        clips = await true_clips(emulator)
        judge = Judge(
            batch.plan,
            emulator,
            clips,
            batch.last_report,
            seen=batch.seen,
            kills=batch.tally.kills,
            shelf=batch.shelf,
        )
        self.verdict.add(await asyncio.to_thread(judge.verdict))


async def run(
    torture: Torture,
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
    bucket: Bucket | None = None,
) -> Outcome:
    """Run and judge all batches. No process is left running, whatever happens.

    Args:
        torture: the parameters.
        folder: for everything.
        say: is told what is done.
        bucket: where the videos go, if not to folders.

    Raises:
        TortureError: a worker failed or hung, or the time limit passed.
    """
    begun = time.monotonic()
    outcome = Outcome(Verdict())
    for number in range(torture.batches):
        place = folder / f"batch-{number:02}"
        place.mkdir()
        async with Emulator(torture.options(number, place)) as emulator:
            plan = torture.plan(number, emulator.url, place)
            batch = Batch(
                plan,
                emulator,
                Random(f"{torture.seed} kills {number}"),
                deadline=begun + 60 * torture.minutes,
                **({} if bucket is None else bucket.options(plan)),
            )
            due = torture.kills * (number + 1) // torture.batches
            await batch.torture(due - outcome.kills)
            await outcome.add(batch, emulator)
        say(f"{place.name}: {batch.tally}, {time.monotonic() - begun:.0f} s")
    outcome.seconds = time.monotonic() - begun
    return outcome


def _share(total: int, parts: int, number: int) -> int:
    return total * (number + 1) // parts - total * number // parts
