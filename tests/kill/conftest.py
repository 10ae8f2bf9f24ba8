"""A batch whose process is killed, against an emulator that outlives it."""

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from benchmarks.torture.judge import Judge, true_clips
from benchmarks.torture.killing import Batch
from benchmarks.torture.worker import Plan
from seedance_async.emulator import Emulator, EmulatorOptions
from tests.conftest import SEED

ROOT = Path(__file__).parents[2]
DYING = (sys.executable, "-W", "error", "-m", "tests.kill.dying")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator(tmp_path_factory):
    """One for all tests of a module: each test has a batch with its own name."""
    ledger = tmp_path_factory.mktemp("emulator") / "ledger.jsonl"
    options = EmulatorOptions(seed=SEED, speed=1000.0, gpus=100, media="shared", ledger_path=ledger)
    async with Emulator(options) as emulator:
        yield emulator


class KilledBatch(Batch):
    """A batch that a test kills at a chosen step."""

    async def start_dying(self, step="never", nth=1):
        environment = self.environment | {"DIE_AT": f"{step}:{nth}"}
        return await asyncio.create_subprocess_exec(
            *DYING, stdout=asyncio.subprocess.DEVNULL, env=environment, cwd=ROOT
        )

    async def die(self, step, nth):
        process = await self.start_dying(step, nth)
        try:
            async with asyncio.timeout(60):
                assert await process.wait() == -signal.SIGKILL, f"it never reached {step!r}"
        finally:
            await self.bury(process)
        self.look()

    async def until(self, predicate, process):
        """Wait until a predicate about the emulator is true; fail if the run ends before that."""
        reached = asyncio.ensure_future(self.emulator.wait_until(predicate))
        ended = asyncio.ensure_future(process.wait())
        await asyncio.wait({reached, ended}, return_when=asyncio.FIRST_COMPLETED)
        was_reached = reached.done()
        for waiting in (reached, ended):
            waiting.cancel()
        assert was_reached, f"the run ended with {process.returncode} before that"

    async def verdict(self):
        clips = await true_clips(self.emulator)
        report = self.last_report
        return Judge(self.plan, self.emulator, clips, report, seen=self.seen, kills=1).verdict()


@pytest.fixture
def make_batch(emulator, tmp_path):
    def make(count, **options):
        plan = Plan(
            url=emulator.url, name=tmp_path.name, count=count, folder=str(tmp_path), **options
        )
        return KilledBatch(plan, emulator, random.Random(SEED))

    return make
