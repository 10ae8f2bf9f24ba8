"""`Keeper`: what a worker does beside its tasks: hears what is cancelled, and takes over tasks.

A worker is dead once its event loop has given no sign of life for the time of a lease, or its
process is gone; that its other threads go on, the journal's say, is of no account. Its tasks are
put into the queue again: by the worker that has been there the longest, and once in a lease by each
of the others, since that one may be cut off. If two do, a task is handed out twice, which the
journal makes harmless. Who has the journal open and is no worker does not count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from dbos import WorkflowStatus

from seedance_async._utils.elapsed import Since
from seedance_async._utils.plural import counted
from seedance_async.engines.contract import QueueError
from seedance_async.engines.dbos.cancelled import Cancelled
from seedance_async.engines.dbos.rows import Rows

_log = logging.getLogger(__name__)

#: Signs of life in the time of a lease.
SIGNS = 5

#: Looks that may be missed: a worker that has heard nothing for longer submits nothing before it
#: has. One look later, others report what was cancelled as never sent.
MISSED = 2


class Signs(Protocol):
    """The part of a shared journal by which workers know of each other."""

    async def roll_call(self, within: float) -> tuple[int, frozenset[int]]:
        """Give a sign of life; the own number, and those of all workers that are alive.

        Args:
            within: seconds of silence after which one is not, or its process is gone.
        """


class Keeper:
    """Keeps one worker in touch with the others.

    Args:
        rows: of the queue.
        signs: the journal that the workers share.
        lease: seconds without a sign of life after which a worker counts as dead.
        look_every: seconds between two looks for what is cancelled.
        executor_id: the worker's.
        running: returns the workflows that it makes at this moment.
        cancel: cancels some of these.
        lose: ends some of these here: they are not with this worker any more.
        share: called with the number of workers whenever it changes.

    Attributes:
        cancelled: what is cancelled, as far as this worker has heard.
    """

    def __init__(
        self,
        rows: Rows,
        signs: Signs,
        *,
        lease: float,
        look_every: float,
        executor_id: str,
        running: Callable[[], Collection[str]],
        cancel: Callable[[Iterable[str]], None],
        lose: Callable[[Iterable[str]], None],
        share: Callable[[int], None],
    ) -> None:
        self._rows, self._signs = rows, signs
        self._lease, self._look_every = lease, look_every
        self._executor_id, self._running, self._cancel = executor_id, running, cancel
        self._lose, self._looks = lose, 0
        self._heard: Since | None = None
        self._catching_up = asyncio.Lock()
        self._unknown: set[str] = set()
        self.cancelled = Cancelled(rows, settled_after=(MISSED + 1) * look_every)
        self._share, self._living = share, 1

    async def run(self) -> None:
        """Keep in touch until this is cancelled. What fails is logged, and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_regularly(self.hear, self._look_every, "what is cancelled"))
            tasks.create_task(_regularly(self.look_after, self._lease / SIGNS, "the other workers"))

    async def hear(self) -> None:
        """Cancel what this worker makes and somebody has cancelled since the last time.

        If that is long ago, this worker was stopped, say, or cut off from the database. Meanwhile
        what it has may have been cancelled, told and forgotten, or made by others: that ends here.
        """
        heard = Since()
        if self._heard is not None and self._is_behind():
            running = set(self._running())
            rows = await self._rows.running(self._executor_id)
            self._lose(running - {row.workflow_id for row in rows})
        new = await self.cancelled.look()
        self._heard = heard
        if new:
            self._cancel(new.intersection(self._running()))

    async def catch_up(self) -> None:
        """Before a submit: `hear`, if this worker has heard nothing for long.

        Raises:
            QueueError: the database is away.
        """
        async with self._catching_up:
            if self._is_behind():
                await self.hear()

    def _is_behind(self) -> bool:
        return self._heard is None or self._heard.seconds > MISSED * self._look_every

    async def is_cancelled(self, workflow_id: str) -> bool:
        """Whether somebody has cancelled this, and nobody has taken that back since.

        Waits while the database is away: what was taken back may be known there alone.
        """
        while workflow_id in self.cancelled:
            try:
                await self.hear()
                return await self.cancelled.still(workflow_id)
            except QueueError:
                await asyncio.sleep(self._look_every)
        return False

    async def look_after(self) -> None:
        """Give a sign of life, and put into the queue again what nobody makes any more."""
        own, living = await self._signs.roll_call(self._lease)
        if len(living) != self._living:
            self._living = len(living)
            self._share(self._living)
        self._looks += 1
        takes_over = own == min(living, default=own) or self._looks % SIGNS == 0
        rows = await self._rows.running(None if takes_over else self._executor_id)
        left = self._left_here(rows)
        if takes_over:
            left += self._left_by_others(rows, living)
        await self._rows.hand_out_again(left)

    def _left_here(self, rows: list[WorkflowStatus]) -> list[str]:
        """What is said to be with this worker, at two looks in a row, and is not.

        A database that lost its last moments has tasks run that have their outcome.
        """
        mine = {row.workflow_id for row in rows if row.executor_id == self._executor_id}
        unknown = mine - set(self._running())
        left, self._unknown = unknown & self._unknown, unknown
        return sorted(left)

    def _left_by_others(self, rows: list[WorkflowStatus], living: frozenset[int]) -> list[str]:
        left = [row for row in rows if number_in(row.executor_id) not in living]
        workers = {row.executor_id for row in left}
        if left:
            _log.warning(
                "%s of %s that died: others go on with them",
                *(counted(len(left), "task"), counted(len(workers), "worker")),
            )
        return [row.workflow_id for row in left]


def executor_id(number: int, place: str) -> str:
    """The name of a worker in DBOS: its number in the journal, and where it is."""
    return f"{number}@{place}"


def number_in(executor_id: str | None) -> int | None:
    """The number of a worker in the journal; None if the name is none of ours."""
    number = (executor_id or "").partition("@")[0]
    return int(number) if number.isdecimal() else None


async def _regularly(look: Callable[[], Awaitable[object]], seconds: float, what: str) -> None:
    failed = False
    while True:
        try:
            await look()
        except Exception as error:
            if not failed:
                _log.warning("this worker cannot look after %s now: %s", what, error)
            failed = True
        else:
            failed = False
        await asyncio.sleep(seconds)
