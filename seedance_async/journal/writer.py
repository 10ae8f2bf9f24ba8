"""The thread of an SQLite journal: runs operations in order, many in one transaction.

Everything that is queued when the thread is free is committed at once, so the callers share the
cost of one flush to the disk. The event loop never waits for the disk, and the thread never waits
for the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs

from seedance_async.api.errors import BudgetExceededError, JournalError, SeedanceError
from seedance_async.journal.database import Database
from seedance_async.journal.journal_file import OpenJournal
from seedance_async.journal.owner import BEAT_SECONDS

_log = logging.getLogger(__name__)

# Futures resolved in one turn of the event loop. Whoever waits for them runs in the next turn.
_RESOLVED_PER_TURN = 100


@attrs.frozen(eq=False)
class Operation:
    """Something to do with the entries.

    Attributes:
        run: does it, in the thread.
        future: receives the outcome; None if nobody waits for it.
        request_id: the id that is not recorded if this fails.
        raises_kept: whether a kept failure, one that nobody waited for, is raised instead.
    """

    run: Callable[[Database], Any]
    future: asyncio.Future[Any] | None = None
    request_id: str | None = None
    raises_kept: bool = True


class Writer:
    """The only thread that uses the file.

    Args:
        path: the journal's file.
        loop: the event loop of the futures.
        is_shared: whether other sessions may write the file, too; they are given signs of life.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        path: str,
        loop: asyncio.AbstractEventLoop,
        *,
        is_shared: bool,
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._loop = loop
        self._is_shared, self._clock = is_shared, clock
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._kept: JournalError | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.thread = threading.Thread(target=self._run, name=f"journal {path}", daemon=True)

    def start(self) -> None:
        """Start the thread. `opened` is done once the file is open, or has the error."""
        self.thread.start()

    def put(self, operation: Operation) -> None:
        """Queue an operation."""
        self._queue.put(operation)

    def stop(self) -> None:
        """End the thread after everything queued. `closed` is done once the file is closed."""
        self._queue.put(None)

    def take_kept(self) -> JournalError | None:
        """The kept failure, if no call has raised it. Call this only once `closed` is done."""
        kept, self._kept = self._kept, None
        return kept

    def _run(self) -> None:
        try:
            journal = OpenJournal(self._path, is_shared=self._is_shared, now=self._clock())
        except Exception as error:
            failure = error if isinstance(error, JournalError) else self._failure(error)
            self._resolve([(self.opened, failure), (self.closed, None)])
            return
        self._resolve([(self.opened, None)])
        try:
            self._process_queue(journal)
            journal.close()
        except Exception:  # everything that was acknowledged is on disk
            _log.exception("the journal %s was not closed well", self._path)
        finally:
            self._resolve([(self.closed, None)])

    def _process_queue(self, journal: OpenJournal) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._next_batch()
            outcomes = self._commit(journal, batch) if batch else []
            self._resolve(
                [
                    (operation.future, outcome)
                    for operation, outcome in zip(batch, outcomes, strict=True)
                    if operation.future is not None
                ]
            )

    def _next_batch(self) -> tuple[list[Operation], bool]:
        """Wait for an operation, then take everything queued; and whether to stop after it."""
        batch: list[Operation] = []
        try:
            item = self._queue.get(timeout=BEAT_SECONDS if self._is_shared else None)
        except queue.Empty:
            return [Operation(self._beat)], False
        while item is not None:
            batch.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _beat(self, database: Database) -> None:
        database.beat(self._clock())

    def _commit(self, journal: OpenJournal, batch: list[Operation]) -> list[Any]:
        """Run a batch in one transaction; each outcome is a result or an error of ours."""
        kept, database = self._kept, journal.database
        try:
            journal.check_in_place()
            database.begin()
            outcomes = [self._outcome(database, operation) for operation in batch]
            database.commit()
        except Exception as error:
            database.rollback()
            self._kept = kept
            outcomes = [self._failed(op, self._failure(error, op.request_id)) for op in batch]
        return outcomes

    def _outcome(self, database: Database, operation: Operation) -> Any:
        if operation.raises_kept and self._kept is not None:
            return self.take_kept()
        try:
            return operation.run(database)
        except JournalError as error:
            return self._failed(operation, error)
        except BudgetExceededError as error:
            return error

    def _failed(self, operation: Operation, error: JournalError) -> JournalError:
        if operation.future is None:
            _log.error("not recorded: %s", error)
            self._kept = self._kept or error
        return error

    def _failure(self, error: Exception, request_id: str | None = None) -> JournalError:
        message = f"it cannot be read or written: {error}"
        failure = JournalError(message, path=self._path, request_id=request_id)
        failure.__cause__ = error
        return failure

    def _resolve(self, outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
        if outcomes and not self._loop.is_closed():
            with suppress(RuntimeError):  # the loop was closed just now: nobody is waiting
                self._loop.call_soon_threadsafe(_resolve_futures, self._loop, outcomes)


def _resolve_futures(
    loop: asyncio.AbstractEventLoop, outcomes: list[tuple[asyncio.Future[Any], Any]]
) -> None:
    """Resolve some futures, and the rest in later turns, so that other tasks can run between."""
    for future, outcome in outcomes[:_RESOLVED_PER_TURN]:
        if not future.done():
            if isinstance(outcome, SeedanceError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        elif isinstance(outcome, JournalError):
            _log.error("not recorded, and the caller no longer waits: %s", outcome)
    if len(outcomes) > _RESOLVED_PER_TURN:
        loop.call_soon(_resolve_futures, loop, outcomes[_RESOLVED_PER_TURN:])
