"""`SeedanceWorker`: a process that makes the tasks of a queue, in one session."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from dbos import DBOSClient

from seedance_async import ConfigurationError, SeedanceSession
from seedance_async.engines.dbos.launch import launch
from seedance_async.engines.dbos.names import APPLICATION, QUEUE
from seedance_async.engines.dbos.places import checked_url, client_at, journal_at
from seedance_async.engines.results import Results
from seedance_async.engines.task import Task
from seedance_async.engines.work import Work


class SeedanceWorker:
    """Makes the tasks of a `SeedanceQueue` until it is left. A process has one at a time.

    ```python
    async with SeedanceWorker("sqlite:///run.db", "videos", max_in_flight=100) as worker:
        await worker.serve()
    ```

    Args:
        url: the queue's.
        results: where videos go: a folder that all workers see, or a URL of a bucket; None to
            download none.
        concurrency: tasks at once over all workers; None for no limit.
        at_once: submits on their way at once, in this worker.
        leave_within: seconds that leaving may take.
        look_every: seconds between two looks into the queue.
        options: those of `SeedanceSession`, of which `max_in_flight` says how many tasks this
            worker has at once. The journal is made from the URL, unless one is given.

    The limits are kept with the queue, so those of the worker that started last hold for all.

    Attributes:
        executor_id: its name in DBOS, which no other worker has, nor this one after a restart.
    """

    def __init__(
        self,
        url: str,
        results: Results | Path | str | None = None,
        *,
        concurrency: int | None = None,
        at_once: int = 8,
        leave_within: float = 5.0,
        look_every: float = 1.0,
        **options: Any,
    ) -> None:
        if options.get("resubmit_uncertain"):
            raise ConfigurationError("a worker never submits again what is uncertain")
        self._url, self._results = checked_url(url), results
        self._concurrency, self._at_once, self._look_every = concurrency, at_once, look_every
        self._leave_within = leave_within
        options.setdefault("journal", journal_at(self._url))
        self._options = options
        self.executor_id = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(6)}"
        self._work: Work | None = None
        self._left = asyncio.Event()
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<SeedanceWorker {self.executor_id} {self._work!r}>"

    async def __aenter__(self) -> SeedanceWorker:
        """Open the session and take tasks from now on."""
        async with AsyncExitStack() as stack:
            session = SeedanceSession(**self._options)
            await session.open()
            stack.push_async_callback(session.aclose, leave=True, within=self._leave_within)
            self._work = Work(session, self._results, at_once=self._at_once)
            client = await client_at(self._url)
            stack.callback(client.destroy)
            await self._register(client)
            stop = await launch(self._url, self._make, executor_id=self.executor_id)
            stack.push_async_callback(stop)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def serve(self) -> None:
        """Make tasks until `leave` is called, or this is cancelled."""
        await self._left.wait()

    def leave(self) -> None:
        """Let `serve` return."""
        self._left.set()

    async def _register(self, client: DBOSClient) -> None:
        await client.register_queue_async(
            QUEUE,
            global_concurrency=self._concurrency,
            worker_concurrency=self._options.get("max_in_flight", 20),
            polling_interval_sec=self._look_every,
            application_name=APPLICATION,
        )

    async def _make(self, workflow_id: str, data: dict[str, Any]) -> str:
        assert self._work is not None
        outcome = await self._work.make(Task.load(data))
        return outcome.dump()
