"""The processes of a fleet: its workers, which are killed, stopped and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from benchmarks.torture.fleet_places import Network
from benchmarks.torture.fleet_worker import FleetPlan
from benchmarks.torture.killing import TortureError

_WORKER = (sys.executable, "-W", "error", "-m", "benchmarks.torture.fleet_worker")
#: Runs a program in a space of process ids of its own, with which it ends.
_APART = ("unshare", "--pid", "--fork", "--kill-child")
_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0
_LEAVE_SECONDS = 60.0
#: Starts in a row that may fail, a database being away meanwhile.
_MOST_FAILED_STARTS = 10


@attrs.define
class FleetTally:
    """What was done to the workers, and what they did by themselves."""

    starts: int = 0
    kills: int = 0
    stops: int = 0
    cuts: int = 0
    hangs: int = 0
    leaves: int = 0
    failed_starts: int = 0
    crashes: list[str] = attrs.field(factory=list)


class WorkerProcess:
    """One place of the fleet, in which a worker lives, and after it another one.

    Args:
        plan: the work.
        log: where workers write what goes wrong.
        tally: where what happens is counted.
        environment: of the workers, beside what they need anyway.
        apart: whether it looks like a machine of its own: other workers cannot see its processes.
        network: what is between it and the database, if that can be cut.

    Attributes:
        name: the worker's in the queue, once it takes tasks; None while there is none.
        is_away: whether it is stopped by SIGSTOP, or cut off.
    """

    def __init__(
        self,
        plan: FleetPlan,
        log: Path,
        tally: FleetTally,
        environment: Mapping[str, str],
        *,
        apart: bool = False,
        network: Network | None = None,
    ) -> None:
        self._log, self._tally, self._apart = log, tally, apart
        self._network, self._hangs = network, False
        if network is not None:
            plan = attrs.evolve(plan, queue=network.url)
        self._environment = {
            **os.environ,
            **environment,
            "TORTURE_PLAN": json.dumps(attrs.asdict(plan)),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._pid = self._failed_starts = 0
        self.name: str | None = None
        self.is_away = False

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._pid

    async def start(self) -> None:
        """Start a worker, and wait until it takes tasks, or has ended.

        Raises:
            TortureError: it does neither.
        """
        self._tally.starts += 1
        self._hangs = False
        with self._log.open("ab") as log:
            self._process = process = await asyncio.create_subprocess_exec(
                *(_APART if self._apart else ()),
                *_WORKER,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                cwd=_ROOT,
            )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError:
            raise TortureError(f"a worker does not start; see {self._log}") from None
        if line:
            said = json.loads(line)
            self.name, self._pid = said["name"], said["pid"]
            self._failed_starts = 0
        elif await process.wait() != -signal.SIGKILL:
            self._tally.failed_starts += 1
            self._failed_starts += 1
            if self._failed_starts > _MOST_FAILED_STARTS:
                raise TortureError(f"a worker does not start; see {self._log}")

    async def kill(self) -> str | None:
        """Kill it, wherever it is; the name of the worker, if it took tasks."""
        name, self.name = self.name, None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self.is_away = False
        return name

    async def stop(self, seconds: float) -> None:
        """Stop it for some time, as the lid of a laptop does, and let it go on."""
        assert self._process is not None
        self.is_away = True
        self._tally.stops += 1
        pid = self._pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()  # it may be killed meanwhile
        except TimeoutError:
            self.is_away = False
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def cut_off(self, seconds: float) -> None:
        """Cut it off from the database for some time; the API it still reaches."""
        assert self._network is not None
        self.is_away = True
        self._tally.cuts += 1
        await self._network.cut(seconds)
        self.is_away = False

    async def hang(self) -> None:
        """Make its present connections to the database hang forever."""
        assert self._network is not None
        self._tally.hangs += 1
        self._hangs = True
        await self._network.hang()

    async def leave(self) -> None:
        """Let it end in order, if it takes tasks and can.

        Raises:
            TortureError: it does not end.
        """
        if self._process is None or self.name is None or self._hangs:
            return
        self._tally.leaves += 1
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            raise TortureError("a worker does not leave on SIGTERM") from None
        self.name = None
        if code != 0:
            self._tally.crashes.append(f"a worker left with exit code {code}")

    async def live(self) -> None:
        """Start a worker, and wait until it has ended; takes note if it did so by itself."""
        await self.start()
        assert self._process is not None
        code = await self._process.wait()
        if self.name is not None and code != 0:
            self._tally.crashes.append(f"{self.name} ended with exit code {code}")
            self.name = None
