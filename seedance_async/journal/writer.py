"""The thread of a journal: runs operations in order, many in one transaction.

Everything that is queued when the thread is free is committed at once, so the callers share the
cost of one flush to the disk. The event loop never waits for the disk, and the thread never waits
for the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, Protocol

import attrs

from seedance_async.api.errors import BudgetExceededError, JournalError, SeedanceError
from seedance_async.journal.database import Database

_log = logging.getLogger(__name__)

# Futures resolved in one turn of the event loop. Whoever waits for them runs in the next turn.
_RESOLVED_PER_TURN = 100


class Role(Enum):
    """What an operation is for: while a database is away, that decides how long it waits."""

    READ = "read"
    WRITE = "write"
    CLAIM = "claim"  # of which nothing may be on record once it has failed
    RECORD = "record"  # of what was learnt, which is never dropped


@attrs.frozen(eq=False)
class Operation:
    """Something to do with the entries.

    Attributes:
        run: does it, in the thread.
        role: what it is for.
        future: receives the outcome; None if nobody waits for it.
        request_id: the id that is not recorded if this fails.
        raises_kept: whether a kept failure, one that nobody waited for, is raised instead.
        again: does it once more where its outcome was lost; None if `run` does.
        asked_at: when it was asked for, on the monotonic clock.
    """

    run: Callable[[Database], Any]
    role: Role = Role.READ
    future: asyncio.Future[Any] | None = None
    request_id: str | None = None
    raises_kept: bool = True
    again: Callable[[Database, Any], object] | None = None
    asked_at: float = attrs.field(factory=time.monotonic)


class Opened(Protocol):
    """A database that is open for the thread that has opened it."""

    database: Database

    def begin(self, *, writes: bool) -> None:
        """Start a transaction."""

    def close(self) -> None:
        """Close the database."""


class Writer:
    """The only thread that uses the database.

    Args:
        path: names the journal.
        loop: the event loop of the futures.
        opener: opens the database, in the thread.
        beat: seconds between signs of life, of which others are told; None for none.
    """

    def __init__(
        self,
        path: str,
        loop: asyncio.AbstractEventLoop,
        opener: Callable[[], Opened],
        *,
        beat: float | None,
    ) -> None:
        self._path, self._loop, self._opener, self._beat = path, loop, opener, beat
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
            journal = self._opener()
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

    def _process_queue(self, journal: Opened) -> None:
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
            item = self._queue.get(timeout=self._beat)
        except queue.Empty:
            return [sign_of_life()], False
        while item is not None:
            batch.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, journal: Opened, batch: list[Operation]) -> list[Any]:
        """Run a batch in one transaction; each outcome is a result or an error of ours."""
        kept, database = self._kept, journal.database
        try:
            journal.begin(writes=any(each.role is not Role.READ for each in batch))
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


def sign_of_life() -> Operation:
    """Tells others that this session is alive."""
    return Operation(lambda database: database.owners.beat(), Role.WRITE, raises_kept=False)


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
