"""The program that is killed: one worker of a queue, whose videos go into a folder that all see.

Once it takes tasks it writes its name and its process to standard output, as a line of JSON.
SIGTERM lets it leave.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from benchmarks.torture.worker import Plan
from seedance_async.engines import Task
from seedance_async.engines.dbos import SeedanceWorker

#: The named budget that every fifth task counts for.
SHARE = "share"


@attrs.frozen(kw_only=True)
class FleetPlan(Plan):
    """The work of a fleet; the same for all of its workers.

    Attributes:
        queue: its URL.
        lease: see `SeedanceWorker`.
        doubt: see `PostgresJournal`; None for the journal's own default.
        share_credits: the limit of the budget of every fifth task.
        look_every: seconds between two looks of everybody who looks.
        saves: whether videos are downloaded.
    """

    queue: str
    lease: float = 6.0
    doubt: float | None = None
    share_credits: int | None = None
    look_every: float = 0.3
    saves: bool = True

    def tasks(self) -> Iterator[Task]:
        """The tasks; each key is the number in its prompt, and so is the name of its video."""
        for number, request in enumerate(self.requests()):
            has_share = self.share_credits is not None and number % 5 == 0
            yield Task(f"{number:05}", request, budget=SHARE if has_share else None)

    def options(self) -> dict[str, Any]:
        budgets = {} if self.share_credits is None else {"budgets": {SHARE: self.share_credits}}
        patience = {} if self.usual else {"job_timeout": 60.0}
        return {**super().options(), **patience, **budgets, **self._journal()}

    def _journal(self) -> dict[str, Any]:
        if self.doubt is None:
            return {}
        from seedance_async.journal import PostgresJournal

        return {"journal": PostgresJournal(self.queue, doubt=self.doubt)}

    def worker(self) -> SeedanceWorker:
        """One worker of the fleet."""
        return SeedanceWorker(
            self.queue,
            self.videos if self.saves else None,
            lease=self.lease,
            look_every=self.look_every,
            **self.options(),
        )


async def live(plan: FleetPlan) -> None:
    """Take tasks until SIGTERM."""
    async with plan.worker() as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.leave)
        sys.stdout.write(json.dumps({"name": worker.executor_id, "pid": _pid()}) + "\n")
        sys.stdout.flush()
        await worker.serve()


def _pid() -> int:
    """The id of this process where it was started, which is not that in a space of its own."""
    link = Path("/proc/self")
    return int(link.readlink().name) if link.is_symlink() else os.getpid()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s")
    asyncio.run(live(FleetPlan(**json.loads(os.environ["TORTURE_PLAN"]))))
