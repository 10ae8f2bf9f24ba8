"""A torture run: some batches, one after another, against one emulator, and the verdict on all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import attrs

from benchmarks.torture.faults import MODERATE, Faults
from benchmarks.torture.judge import Judge, Verdict, true_clips
from benchmarks.torture.killing import Batch
from benchmarks.torture.worker import Plan
from seedance_async.emulator import Emulator, EmulatorOptions

#: The average price of a request: 480p at 4 credits a second, for 4, 5 and 8 seconds.
_AVERAGE_CREDITS = 4 * (4 + 5 + 8) / 3


@attrs.frozen(kw_only=True)
class Torture:
    """What is done to the workers.

    Attributes:
        submissions: requests over all batches.
        batches: how many; each has a journal and a folder of its own.
        kills: over all batches.
        seed: of the emulator and of the instants of the kills.
        minutes: after which the run gives up.
        faults: of the emulator.
        budget: the part of its price that the first batch may spend; None for no limit.
        running_seconds: how long a job runs; it sets the pace.
    """

    submissions: int
    kills: int
    seed: int
    batches: int = 1
    minutes: float = 20.0
    faults: Faults = attrs.field(factory=lambda: MODERATE, repr=False)
    budget: float | None = None
    running_seconds: float = 0.4

    def emulator(self, folder: Path) -> Emulator:
        return Emulator(
            EmulatorOptions(
                seed=self.seed,
                speed=100.0,
                gpus=10_000,
                median_seconds=100.0 * self.running_seconds,
                media="shared",
                ledger_path=folder / "ledger.jsonl",
                **self.faults,  # type: ignore[arg-type]
            )
        )

    def plans(self, url: str, folder: Path) -> list[Plan]:
        """The batches, each with its folder made; the first one has the budget."""
        plans = []
        for number in range(self.batches):
            count = _share(self.submissions, self.batches, number)
            budget = None if number else self.budget
            place = folder / f"batch-{number:02}"
            place.mkdir()
            plans.append(
                Plan(
                    url=url,
                    name=place.name,
                    count=count,
                    folder=str(place),
                    max_credits=round(count * _AVERAGE_CREDITS * budget) if budget else None,
                )
            )
        return plans


@attrs.define
class Outcome:
    """What came of a torture run: the figures, and what was done for them."""

    verdict: Verdict
    lives: int = 0
    kills: int = 0
    seconds: float = 0.0
    faults: int = 0
    fault_kinds: int = 0
    budget_refusals: int = 0
    exits: Counter[int] = attrs.field(factory=Counter)


async def run(
    torture: Torture, folder: Path, say: Callable[[str], None] = lambda text: None
) -> Outcome:
    """Run all batches and judge them. No process is left, whatever happens.

    Raises:
        TortureError: a worker broke or hung, or the time is over.
    """
    begun = time.monotonic()
    outcome = Outcome(Verdict())
    async with torture.emulator(folder) as emulator:
        batches = []
        for number, plan in enumerate(torture.plans(emulator.url, folder)):
            rng = Random(f"{torture.seed} kills {number}")
            batch = Batch(plan, emulator, rng, deadline=begun + 60 * torture.minutes)
            batches.append(batch)
            due = torture.kills * (number + 1) // torture.batches
            await batch.torture(due - outcome.kills)
            outcome.kills += batch.tally.kills
            outcome.lives += batch.tally.lives
            outcome.exits += batch.tally.exits
            say(f"{plan.name}: {batch.tally}, {time.monotonic() - begun:.0f} s")
        await _judge(batches, emulator, outcome)
    outcome.seconds = time.monotonic() - begun
    return outcome


async def _judge(batches: list[Batch], emulator: Emulator, outcome: Outcome) -> None:
    outcome.faults = sum(emulator.requests.by_fault.values())
    outcome.fault_kinds = len(emulator.requests.by_fault)
    clips = await true_clips(emulator)
    for batch in batches:
        judge = Judge(batch.plan, emulator, clips, batch.last_report, batch.tally.kills)
        outcome.verdict.add(await asyncio.to_thread(judge.verdict))
        outcome.budget_refusals += batch.last_report.read_text().count("BudgetExceededError")


def _share(total: int, parts: int, number: int) -> int:
    return total * (number + 1) // parts - total * number // parts
