"""Starts the worker of a batch, kills it at random instants and starts it again.

The emulator lives in this process, so it outlives every worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

import attrs

from benchmarks.torture.shelf import FolderShelf, Shelf
from benchmarks.torture.worker import UNFINISHED, Plan
from seedance_async.emulator import Emulator

WORKER = (sys.executable, "-W", "error", str(Path(__file__).with_name("worker.py")))
#: Lives without a kill, at the end of a batch, in which its work must be completed.
LAST_LIVES = 3
#: Lives that may end by themselves while kills are left: the work is completed then.
_IDLE_LIVES = 4
_LIFE_SECONDS = 60.0
#: A kill that does not wait for submits comes within this time; a start takes half a second.
_SOON_SECONDS = 2.0


class TortureError(Exception):
    """The run itself cannot continue: a worker failed or hangs."""


@attrs.define
class Tally:
    """How often the workers were started and killed, and their exit codes."""

    lives: int = 0
    kills: int = 0
    exits: Counter[int] = attrs.field(factory=Counter)


class Batch:
    """One batch, from its first start to its completion.

    Args:
        plan: what it does.
        emulator: a started one.
        rng: when to kill.
        command: the worker's program; the plan is in its environment.
        deadline: when to give up, as a value of `time.monotonic`.
        shelf: where the videos are; by default the plan's folder.
        environment: of the worker, beside what it needs anyway.

    `seen` has the SHA-256 of each video, taken at the first kill after it appeared.
    """

    def __init__(
        self,
        plan: Plan,
        emulator: Emulator,
        rng: Random,
        *,
        command: tuple[str, ...] = WORKER,
        deadline: float = float("inf"),
        shelf: Shelf | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.plan, self.tally = plan, Tally()
        self.seen: dict[str, str] = {}
        self.emulator, self._rng = emulator, rng
        self.shelf = shelf or FolderShelf(plan)
        self._command, self._deadline = command, deadline
        self._folder = Path(plan.folder)
        self.environment = {
            **os.environ,
            **(environment or {}),
            "SEEDANCE_API_KEY": emulator.api_key,
            "TORTURE_PLAN": json.dumps(attrs.asdict(plan)),
        }

    @property
    def last_report(self) -> Path:
        """The report of the last life."""
        return self._folder / f"life-{self.tally.lives:04}.jsonl"

    async def torture(self, kills: int) -> None:
        """Kill it this often while it has work left, then let it complete."""
        idle = 0
        while self.tally.kills < kills and idle < _IDLE_LIVES:
            idle += await self._short_life(kills)
        await self.finish()

    async def finish(self) -> None:
        """Run it without kills until it reports that nothing is left to do."""
        for _ in range(LAST_LIVES):
            if await self.live() == 0:
                return

    async def live(self) -> int:
        """One life without a kill; the exit code."""
        process = await self._start()
        try:
            return await self._ended(process, _LIFE_SECONDS)
        finally:
            await self.bury(process)

    def look(self) -> None:
        """Hash what has the names of videos now; none may be incomplete."""
        for name in self.shelf.names():
            if name not in self.seen:
                self.seen[name] = hashlib.sha256(self.shelf.content(name)).hexdigest()

    async def _short_life(self, kills: int) -> bool:
        """One life that is killed; whether it completed the work before that."""
        process = await self._start()
        try:
            killing = asyncio.create_task(self._random_instant(kills - self.tally.kills))
            ending = asyncio.create_task(process.wait())
            await asyncio.wait({killing, ending}, return_when=asyncio.FIRST_COMPLETED)
            killing.cancel()
            ending.cancel()
        finally:
            await self.bury(process)
        if process.returncode == -signal.SIGKILL:
            self.tally.kills += 1
            await asyncio.to_thread(self.look)
            return False
        return self._checked(process.returncode or 0) == 0

    async def _random_instant(self, kills_left: int) -> None:
        """Wait until a moment after some number of submits, or for any time after the start."""
        received, limit = self._received(), _LIFE_SECONDS / 2
        left = self.plan.count - received
        wanted = received + round(self._rng.uniform(1, 2 * left / (kills_left + 1) + 1))
        if left <= 0 or self._rng.random() < 0.25:
            wanted, limit = sys.maxsize, self._rng.uniform(0.0, _SOON_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self.emulator.wait_until(lambda: self._received() >= wanted)
                await asyncio.sleep(self._rng.expovariate(1 / 0.2))

    def _received(self) -> int:
        """How many submits the emulator has received."""
        return len(self.emulator.ledger)

    async def _start(self) -> asyncio.subprocess.Process:
        if time.monotonic() > self._deadline:
            raise TortureError("the time limit passed before the work was completed")
        self.tally.lives += 1
        with (
            self.last_report.open("wb") as report,
            (self._folder / "log.txt").open("ab") as log,
        ):
            return await asyncio.create_subprocess_exec(
                *self._command, stdout=report, stderr=log, env=self.environment
            )

    async def _ended(self, process: asyncio.subprocess.Process, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds):
                return self._checked(await process.wait())
        except TimeoutError:
            raise TortureError(f"a worker hangs; see {self._folder}") from None

    def _checked(self, code: int) -> int:
        self.tally.exits[code] += 1
        if code not in (0, UNFINISHED):
            raise TortureError(f"a worker failed with exit code {code}; see {self._folder}/log.txt")
        return code

    @staticmethod
    async def bury(process: asyncio.subprocess.Process) -> None:
        """Kill it if it is running, and wait until it has ended."""
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
