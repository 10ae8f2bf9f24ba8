"""`SQLiteJournal`: the journal in a file, which survives the process however it ends."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar, Unpack

from seedance_async._utils.cancellation import wait_shielded
from seedance_async.api.errors import JournalError
from seedance_async.journal.contract import Intent, checked_intent
from seedance_async.journal.database import Database
from seedance_async.journal.entry import (
    Changes,
    JournalEntry,
    checked,
    checked_changes,
    checked_key,
)
from seedance_async.journal.open_state import Lifecycle
from seedance_async.journal.writer import Operation, Writer

_T = TypeVar("_T")


class SQLiteJournal:
    """A `Journal` in one SQLite file. It contains prompts, so only its owner may read it.

    Beside the file are `<path>.lock`, which stays, and, while it is open, SQLite's `-wal` and
    `-shm`. A copy of the file alone that is made meanwhile lacks the latest jobs: a run with it
    would buy them again.

    Args:
        path: the file; created if it is missing or empty. Its folder must exist.
        shared: whether several sessions, of several processes of this machine perhaps, may write
            it at the same time. Each must say so; otherwise the second one is refused.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._shared = os.fspath(path), shared
        self._clock = clock
        self._lifecycle = Lifecycle(self._path)
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path} {self._lifecycle.state}>"

    async def open(self) -> None:
        """See `Journal`, as for every method below."""
        self._lifecycle.start_opening()
        writer = Writer(
            self._path, asyncio.get_running_loop(), is_shared=self._shared, clock=self._clock
        )
        try:
            writer.start()
        except RuntimeError as error:
            self._lifecycle.close()
            raise JournalError(f"no thread can be started: {error}", path=self._path) from error
        self._writer = writer
        # A journal that is garbage collected without being closed still releases its file.
        weakref.finalize(self, writer.stop).atexit = False
        try:
            await writer.opened
            self._lifecycle.finish_opening()
        except GeneratorExit:  # the loop was closed in the middle: nothing can be awaited
            self._lifecycle.close()
            writer.stop()
            raise
        except BaseException:
            await self._close()
            raise

    async def claim(self, intent: Intent, *, after: int | None = None) -> int | None:  # noqa: D102
        self._lifecycle.check_open()
        plain, now = checked_intent(intent, journal=self._path), self._clock()
        return await self._run(lambda database: database.claim(plain, after, now))

    async def adopt(self, intent: Intent, request_id: str) -> int:  # noqa: D102
        self._lifecycle.check_open()
        plain, now = checked_intent(intent, journal=self._path), self._clock()
        named = checked({"request_id": request_id}, journal=self._path)["request_id"]
        return await self._run(
            lambda database: database.adopt(plain, named, now), request_id=request_id
        )

    async def record(self, attempt: int, **changes: Unpack[Changes]) -> None:  # noqa: D102
        self._lifecycle.check_open()
        await self._run(
            self._record(attempt, changes), request_id=changes.get("request_id"), raises_kept=False
        )

    def record_soon(self, attempt: int, **changes: Unpack[Changes]) -> None:  # noqa: D102
        self._lifecycle.check_open()
        try:
            run = self._record(attempt, changes)
        except JournalError as error:
            run = partial(_fail, error)
        self._put(Operation(run, request_id=changes.get("request_id"), raises_kept=False))

    async def record_file(  # noqa: D102
        self, key: str, *, path: str, size: int, sha256: str
    ) -> None:
        self._lifecycle.check_open()
        plain = checked_key(key, journal=self._path)
        values = checked({"path": path, "size": size, "sha256": sha256}, journal=self._path)
        now = self._clock()
        await self._run(
            lambda database: database.record_file(plain, values, now), raises_kept=False
        )

    async def find(self, key: str) -> JournalEntry | None:  # noqa: D102
        self._lifecycle.check_open()
        plain, now = checked_key(key, journal=self._path), self._clock()
        return await self._run(lambda database: database.find(plain, now))

    async def entries(self) -> list[JournalEntry]:  # noqa: D102
        self._lifecycle.check_open()
        now = self._clock()
        return await self._run(lambda database: database.entries(now))

    async def forget(self, keys: Iterable[str]) -> int:  # noqa: D102
        self._lifecycle.check_open()
        plain = [checked_key(key, journal=self._path) for key in keys]
        return await self._run(lambda database: database.forget(plain))

    async def spent(self, budget: str = "") -> int:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.spent(budget))

    async def prices(self) -> dict[str, int]:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.prices())

    async def unpriced(self) -> dict[str, int]:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.unpriced())

    async def price(self, kind: str, credits: int) -> None:  # noqa: D102
        self._lifecycle.check_open()
        await self._run(lambda database: database.price(kind, credits))

    async def secret(self) -> bytes:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.secret())

    async def flush(self) -> None:  # noqa: D102
        self._lifecycle.check_open()
        await self._run(lambda _: None)

    async def aclose(self) -> None:  # noqa: D102
        if self._lifecycle.state == "open":
            self._lifecycle.check_open()
        await self._close()
        kept = self._writer.take_kept() if self._writer else None
        if kept is not None:
            raise kept

    def _record(self, attempt: int, changes: Changes) -> Callable[[Database], None]:
        values, now = checked_changes(changes, journal=self._path), self._clock()
        return lambda database: database.record(attempt, values, now)

    async def _run(
        self,
        run: Callable[[Database], _T],
        *,
        request_id: str | None = None,
        raises_kept: bool = True,
    ) -> _T:
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._put(Operation(run, future, request_id, raises_kept))
        return await future

    def _put(self, operation: Operation) -> None:
        assert self._writer is not None  # the journal is open
        self._writer.put(operation)

    async def _close(self) -> None:
        """Close the file, even if the caller is cancelled meanwhile."""
        was_closed = self._lifecycle.state == "closed"
        self._lifecycle.close()
        if self._writer is None or self._writer.closed.done():
            return
        if not was_closed:
            self._writer.stop()
        cancelled = await wait_shielded(self._writer.closed)
        self._writer.thread.join()  # it is about to end
        if cancelled:
            raise asyncio.CancelledError


def _fail(error: JournalError, _: Database) -> None:
    raise error
