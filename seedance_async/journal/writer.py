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
        about: what it tells, for the log should it be lost.
        asked_at: when it was asked for, on the monotonic clock.
    """

    run: Callable[[Database], Any]
    role: Role = Role.READ
    future: asyncio.Future[Any] | None = None
    request_id: str | None = None
    raises_kept: bool = True
    again: Callable[[Database, Any], object] | None = None
    about: str = ""
    asked_at: float = attrs.field(factory=time.monotonic)

    def repeat(self, database: Database, outcome: Any) -> None:
        """Have the database know again what it knew when this had that outcome."""
        if self.again is None:
            self.run(database)
        else:
            self.again(database, outcome)


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
        self._beaten_at, self._stopping = time.monotonic(), False
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
            journal = self._open()
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

    def _open(self) -> Opened:
        return self._opener()

    def _process_queue(self, journal: Opened) -> None:
        while not self._is_over():
            batch = self._next_batch()
            done = self._commit(journal, batch) if batch else []
            self._resolve([(op.future, outcome) for op, outcome in done if op.future is not None])

    def _is_over(self) -> bool:
        return self._stopping

    def _next_batch(self) -> list[Operation]:
        """Wait for an operation, then take everything queued."""
        batch: list[Operation] = []
        try:
            self._take(self._queue.get(timeout=self._longest_wait()), batch)
            self._take_queued(batch)
        except queue.Empty:
            pass
        if self._beat is not None and self._until_beat() == 0 and not self._stopping:
            self._beaten_at = time.monotonic()
            batch.append(sign_of_life())
        return batch

    def _take_queued(self, batch: list[Operation]) -> None:
        with suppress(queue.Empty):
            while not self._stopping:
                self._take(self._queue.get_nowait(), batch)

    def _take(self, item: Operation | None, batch: list[Operation]) -> None:
        if item is None:
            self._stopping = True
        else:
            batch.append(item)

    def _longest_wait(self) -> float | None:
        return self._until_beat()

    def _until_beat(self) -> float | None:
        """Seconds until the next sign of life; None without any."""
        if self._beat is None:
            return None
        return max(0.0, self._beaten_at + self._beat - time.monotonic())

    def _commit(self, journal: Opened, batch: list[Operation]) -> list[tuple[Operation, Any]]:
        """Run a batch in one transaction; each outcome is a result or an error of ours."""
        kept, database = self._kept, journal.database
        try:
            journal.begin(writes=any(each.role is not Role.READ for each in batch))
            outcomes = [(each, self._outcome(database, each)) for each in batch]
            database.commit()
        except Exception as error:
            database.rollback()
            self._kept = kept
            outcomes = [(op, self._failed(op, self._failure(error, op))) for op in batch]
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

    def _failure(self, error: Exception, operation: Operation | None = None) -> JournalError:
        message = f"it cannot be read or written: {error}"
        request_id = None if operation is None else operation.request_id
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
