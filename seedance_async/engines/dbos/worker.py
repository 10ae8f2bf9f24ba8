"""`SeedanceWorker`: a process that makes the tasks of a queue, in one session."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
from attrs.validators import optional

from seedance_async import (
    ConfigurationError,
    JobState,
    JournalError,
    SeedanceError,
    SeedanceSession,
)
from seedance_async.api.option_fields import positive, whole
from seedance_async.engines.contract import QueueError
from seedance_async.engines.dbos.keeper import Keeper, executor_id
from seedance_async.engines.dbos.launch import launch
from seedance_async.engines.dbos.names import key_in
from seedance_async.engines.dbos.places import checked_url, client_at, journal_at
from seedance_async.engines.dbos.rows import Rows
from seedance_async.engines.results import Results
from seedance_async.engines.submits import Submits
from seedance_async.engines.task import Outcome, Task
from seedance_async.engines.turns import Turns
from seedance_async.engines.work import PATIENCE, Work

_log = logging.getLogger(__name__)


class SeedanceWorker:
    """Makes the tasks of a `SeedanceQueue` until it is left. A process has one at a time.

    ```python
    async with SeedanceWorker("sqlite:///run.db", "videos", max_in_flight=100) as worker:
        await worker.serve()
    ```

    Leaving the block hands back what is not done: others go on with it within seconds. A worker
    that dies is taken over by the others within two leases; if its process is gone from the same
    machine, within one fifth of one.

    Args:
        url: the queue's.
        results: where videos go: a folder that all workers see, or a URL of a bucket; None to
            download none.
        concurrency: tasks at once over all workers; None for no limit.
        at_once: submits on their way at once, in this worker.
        rate: submits a second over all workers, if it is known what the API takes: then none is
            refused for coming too soon. By default each worker learns it from refusals.
        lease: seconds without a sign of life after which others take its tasks over.
        leave_within: seconds that leaving may take; submits on their way have half of them.
        look_every: seconds between two looks into the queue.
        on_outcome: called with each outcome of this worker, on its event loop; must not raise.
        options: those of `SeedanceSession`. `max_in_flight` says how many tasks this worker has at
            once. `poll_rate` is that of all workers, who share it. A journal is made from the URL;
            one that is given must be at the same place, and shared.

    The limits on tasks at once are kept with the queue, so those of the worker that started last
    hold for all.

    Attributes:
        executor_id: its name in DBOS, which no other worker has, nor this one after a restart;
            None before it is open.

    Raises:
        ConfigurationError: no queue can be at the URL, or an option is refused.
    """

    def __init__(
        self,
        url: str,
        results: Results | Path | str | None = None,
        *,
        concurrency: int | None = None,
        at_once: int = 8,
        rate: float | None = None,
        lease: float = 60.0,
        leave_within: float = 20.0,
        look_every: float = 1.0,
        on_outcome: Callable[[Outcome], object] = lambda outcome: None,
        **options: Any,
    ) -> None:
        if options.get("resubmit_uncertain"):
            raise ConfigurationError("a worker never submits again what is uncertain")
        _Numbers(at_once, lease, look_every, leave_within, concurrency, rate)
        self._url, self._results, self._rate = checked_url(url), results, rate
        self._concurrency, self._at_once, self._on_outcome = concurrency, at_once, on_outcome
        self._lease, self._leave_within, self._look_every = lease, leave_within, look_every
        shared = journal_at(self._url, lease=lease)
        self._journal = options.setdefault("journal", shared)
        if not hasattr(self._journal, "roll_call"):
            raise ConfigurationError("the journal must be one that workers share, or left out")
        if self._journal.place != shared.place:  # else each buys what the other has bought
            raise ConfigurationError(
                f"the journal of this queue is {shared.place}, not {self._journal.place}: all "
                "workers share it"
            )
        options.setdefault("read_journal", False)
        self._options = options
        self._session = SeedanceSession(**options)
        self.executor_id: str | None = None
        self._running: dict[str, _Running] = {}
        self._cancelling: set[asyncio.Task[Outcome]] = set()
        self._unread = set[str]()
        self._leaving = False
        self._left = asyncio.Event()
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<SeedanceWorker {self.executor_id}, {len(self._running)} running>"

    async def __aenter__(self) -> SeedanceWorker:
        """Open the session and take tasks from now on."""
        async with AsyncExitStack() as stack:
            rows = Rows(await client_at(self._url))
            stack.push_async_callback(rows.close)
            stack.push_async_callback(self._hand_back, rows)
            await self._session.open()
            stack.push_async_callback(self._session.aclose, leave=True, within=self._leave_within)
            number, _ = await self._journal.roll_call(self._lease)
            self.executor_id = executor_id(number, platform.node())
            self._work = Work(self._session, self._results, submits=self._submits())
            self._keeper = Keeper(
                rows,
                self._journal,
                lease=self._lease,
                look_every=self._look_every,
                executor_id=self.executor_id,
                running=self._running.keys,
                cancel=self._cancel,
                lose=self._lose,
                share=self._share_polls,
            )
            await self._keeper.hear()
            self._journal.before_claim = self._check_wanted
            most: int = self._options.get("max_in_flight", 20)
            await rows.register(
                global_concurrency=self._concurrency,
                worker_concurrency=min(most, self._concurrency or most),
                polling_interval_sec=self._look_every,
            )
            stack.push_async_callback(
                await launch(self._url, self._make, executor_id=self.executor_id)
            )
            keeping = asyncio.create_task(self._keeper.run(), name="seedance-keeper")
            stack.push_async_callback(_ended, keeping)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving = True
        for task in self._cancelling:
            task.cancel()
        await self._stack.aclose()

    async def serve(self) -> None:
        """Make tasks until `leave` is called, or this is cancelled."""
        await self._left.wait()

    def leave(self) -> None:
        """Let `serve` return."""
        self._left.set()

    def _submits(self) -> Submits:
        most = self._options.get("max_uncertain_in_a_row", 10)
        return Submits(
            at_once=self._at_once,
            patience=PATIENCE,
            max_uncertain=most,
            turn=None if self._rate is None else Turns(self._journal.turn, self._rate).wait,
        )

    async def _make(self, workflow_id: str, data: dict[str, Any]) -> str:
        try:
            task = Task.load(data)
        except ValueError as error:
            return (await self._left_to_others(workflow_id, error)).dump()
        running = self._running[workflow_id] = _Running(task, asyncio.current_task())
        try:
            outcome = await self._outcome(workflow_id, task)
            self._on_outcome(outcome)
            return outcome.dump()
        except Exception:
            if self._leaving:
                raise asyncio.CancelledError from None  # DBOS records no end of it
            raise
        finally:
            if self._running.get(workflow_id) is running:  # else it was handed out here once more
                del self._running[workflow_id]

    async def _outcome(self, workflow_id: str, task: Task) -> Outcome:
        if not await self._keeper.is_cancelled(workflow_id):
            return await self._work.make(task, workflow_id)
        await self._keeper.cancelled.settled(workflow_id)
        return await self._work.cancel(task, workflow_id)

    async def _left_to_others(self, workflow_id: str, error: ValueError) -> Outcome:
        """Nothing of a task that only a newer worker can read, unless it is cancelled, unsent.

        DBOS records no end of it, so that the keeper puts it into the queue again after a while.
        """
        key = key_in(workflow_id)
        if not self._unread:
            _log.warning("tasks that this worker cannot read are left to newer ones: %s", error)
        self._unread.add(workflow_id)
        if await self._keeper.is_cancelled(workflow_id):
            await self._keeper.cancelled.settled(workflow_id)
            with suppress(JournalError):
                known = await self._journal.find(key)
                if known is None or known.state == JobState.REJECTED:
                    return Outcome(key, JobState.CANCELLED.value)
        raise asyncio.CancelledError

    def _cancel(self, workflow_ids: Iterable[str]) -> None:
        for workflow_id in workflow_ids:
            task = self._running[workflow_id].task
            cancelling = asyncio.create_task(self._work.cancel(task, workflow_id))
            self._cancelling.add(cancelling)
            cancelling.add_done_callback(self._cancelling.discard)

    def _lose(self, workflow_ids: Iterable[str]) -> None:
        """End what is with others by now, or forgotten: DBOS records no end of it here."""
        for workflow_id in workflow_ids:
            lost = self._running.pop(workflow_id, None)
            if lost is not None and lost.making is not None:
                _log.warning("the task %s is not with this worker any more", workflow_id)
                lost.making.cancel()

    async def _check_wanted(self, key: str) -> None:
        """Before a submit is claimed: whether a task of this worker is still to be made of it.

        Raises:
            JournalError: the queue cannot be asked.
            SeedanceError: none is.
        """
        try:
            await self._keeper.catch_up()
        except QueueError as error:
            raise JournalError(f"{error}; nothing is submitted meanwhile") from error
        if not any(
            running.task.key == key and workflow_id not in self._keeper.cancelled
            for workflow_id, running in self._running.items()
        ):
            raise SeedanceError(f"the task {key!r} was cancelled, or is with another worker")

    def _share_polls(self, workers: int) -> None:
        rate = self._options.get("poll_rate")
        if rate is not None:
            self._session.poll_rate = rate / workers

    async def _hand_back(self, rows: Rows) -> None:
        """Put what this worker had into the queue again; if that fails, its lease runs out."""
        if self.executor_id is None:
            return
        try:
            async with asyncio.timeout(self._leave_within):
                left = await rows.running(self.executor_id)
                await rows.hand_out_again([row.workflow_id for row in left])
        except Exception as error:
            _log.warning("the tasks of this worker are taken over later: %r", error)


@attrs.frozen(eq=False)
class _Running:
    """A task, and what makes it."""

    task: Task
    making: asyncio.Task[Any] | None


@attrs.frozen
class _Numbers:
    """The options that are numbers, to check them."""

    at_once: int = attrs.field(validator=whole)
    lease: float = attrs.field(validator=positive)
    look_every: float = attrs.field(validator=positive)
    leave_within: float = attrs.field(validator=positive)
    concurrency: int | None = attrs.field(validator=optional(whole))
    rate: float | None = attrs.field(validator=optional(positive))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
