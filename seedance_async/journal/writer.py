"""The thread of an SQLite journal: operations in their order, many in one transaction.

Whatever is queued when the thread looks is committed at once, so the cost of a flush to the disk
is shared by all who wait. The event loop never waits for the disk, and the disk never for the
event loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from seedance_async.api.errors import JournalError

if TYPE_CHECKING:  # importing the SDK does not import sqlite3
    from seedance_async.journal.database import Database

_log = logging.getLogger(__name__)

# Futures settled in one turn of the event loop: who waited for them runs in the next.
_AT_ONCE = 100


@attrs.frozen(eq=False)
class Operation:
    """Something to do with the entries.

    Attributes:
        run: does it, in the thread.
        future: of who waits for the outcome, if anybody does.
        request_id: the id that is lost if this fails.
        raises_kept: whether a failure that nobody waited for is raised instead.
    """

    run: Callable[[Database], Any]
    future: asyncio.Future[Any] | None = None
    request_id: str | None = None
    raises_kept: bool = True


class Writer:
    """The one thread that touches the file.

    Args:
        path: the journal's file.
        loop: where the futures are settled.
    """

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._queue: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._kept: JournalError | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.thread = threading.Thread(target=self._run, name=f"journal {path}", daemon=True)

    def start(self) -> None:
        """Start the thread; `opened` is done once the file is open, or told what is wrong."""
        self.thread.start()

    def put(self, operation: Operation) -> None:
        """Queue an operation, behind all that came before."""
        self._queue.put(operation)

    def stop(self) -> None:
        """End the thread after all that was queued; `closed` is done once the file is closed."""
        self._queue.put(None)

    def take_kept(self) -> JournalError | None:
        """The failure that nobody has been told of; only once `closed` is done."""
        kept, self._kept = self._kept, None
        return kept

    def _run(self) -> None:
        from seedance_async.journal.files import OpenJournal

        try:
            journal = OpenJournal(self._path)
        except Exception as error:
            refusal = error if isinstance(error, JournalError) else self._failure(error)
            self._tell([(self.opened, refusal), (self.closed, None)])
            return
        self._tell([(self.opened, None)])
        try:
            self._serve(journal.database)
            journal.close()
        except Exception:  # all that was acknowledged is on disk
            _log.exception("the journal %s was not closed well", self._path)
        finally:
            self._tell([(self.closed, None)])

    def _serve(self, database: Database) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._next_batch()
            outcomes = self._commit(database, batch) if batch else []
            self._tell(
                [
                    (operation.future, outcome)
                    for operation, outcome in zip(batch, outcomes, strict=True)
                    if operation.future is not None
                ]
            )

    def _next_batch(self) -> tuple[list[Operation], bool]:
        """All that is queued, at least one thing; and whether it ends there for good."""
        batch: list[Operation] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, database: Database, batch: list[Operation]) -> list[Any]:
        """Do all in one transaction; the outcome of each, an exception where it failed."""
        kept = self._kept
        try:
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
            kept, self._kept = self._kept, None
            return kept
        try:
            return operation.run(database)
        except JournalError as error:
            return self._failed(operation, error)

    def _failed(self, operation: Operation, error: JournalError) -> JournalError:
        if operation.future is None:
            _log.error("not recorded: %s", error)
            self._kept = self._kept or error
        return error

    def _failure(self, error: Exception, request_id: str | None = None) -> JournalError:
        words = f"it cannot be read or written: {error}"
        failure = JournalError(words, path=self._path, request_id=request_id)
        failure.__cause__ = error
        return failure

    def _tell(self, outcomes: list[tuple[asyncio.Future[Any], Any]]) -> None:
        if outcomes and not self._loop.is_closed():
            with suppress(RuntimeError):  # closed just now: nobody is left to be told
                self._loop.call_soon_threadsafe(_settle, self._loop, outcomes)


def _settle(
    loop: asyncio.AbstractEventLoop, outcomes: list[tuple[asyncio.Future[Any], Any]]
) -> None:
    """Settle some futures, and the others after all that waits has had its turn."""
    for future, outcome in outcomes[:_AT_ONCE]:
        if not future.done():
            if isinstance(outcome, JournalError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        elif isinstance(outcome, JournalError):
            _log.error("not recorded, and whoever asked for it no longer waits: %s", outcome)
    if len(outcomes) > _AT_ONCE:
        loop.call_soon(_settle, loop, outcomes[_AT_ONCE:])
