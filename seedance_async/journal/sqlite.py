"""`SQLiteJournal`: the journal in a file that outlives the process, whatever ends it."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar, Unpack

from seedance_async._utils.cancellation import wait_shielded
from seedance_async.api.errors import JournalError
from seedance_async.journal.entry import (
    Changes,
    JournalEntry,
    checked_changes,
    checked_key,
    fresh_intent,
    new_intent,
)
from seedance_async.journal.lifecycle import Lifecycle
from seedance_async.journal.writer import Operation, Writer

if TYPE_CHECKING:
    from seedance_async.journal.database import Database

_T = TypeVar("_T")


class SQLiteJournal:
    """A `Journal` in one SQLite file. Prompts stand in it: only its owner may read it.

    Beside it are `<path>.lock`, which stays, and while it is open SQLite's `-wal` and `-shm`.

    Args:
        path: the file; made if it is absent or empty. Its folder must exist.
        clock: seconds since the epoch.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = os.fspath(path)
        self._clock = clock
        self._life = Lifecycle(self._path)
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        return f"<SQLiteJournal {self._path} {self._life.state}>"

    async def open(self) -> None:
        """See `Journal`, as for all that follows."""
        self._life.start()
        writer = Writer(self._path, asyncio.get_running_loop())
        try:
            writer.start()
        except RuntimeError as error:
            self._life.end()
            raise JournalError(f"no thread can be started: {error}", path=self._path) from error
        self._writer = writer
        # Dropped without being closed, the journal still lets go of its file.
        weakref.finalize(self, writer.stop).atexit = False
        try:
            await writer.opened
            self._life.ready()
        except BaseException:
            await self._end()
            raise

    async def claim(  # noqa: D102
        self, key: str, *, fingerprint: str, request: str, credits_reserved: int | None = None
    ) -> JournalEntry | None:
        self._life.check()
        entry = new_intent(
            key,
            fingerprint=fingerprint,
            request=request,
            credits_reserved=credits_reserved,
            now=self._clock(),
            journal=self._path,
        )
        return await self._done(lambda database: database.claim(entry))

    async def reclaim(  # noqa: D102
        self,
        key: str,
        *,
        expected: str,
        credits_reserved: int | None = None,
        credits_doubtful: int | None = None,
    ) -> bool:
        self._life.check()
        changes = fresh_intent(
            expected,
            credits_reserved=credits_reserved,
            credits_doubtful=credits_doubtful,
            journal=self._path,
        )
        plain, now = checked_key(key, journal=self._path), self._clock()
        return await self._done(lambda database: database.reclaim(plain, expected, changes, now))

    async def update(self, key: str, **changes: Unpack[Changes]) -> None:  # noqa: D102
        self._life.check()
        await self._done(
            self._change(key, changes), request_id=changes.get("request_id"), raises_kept=False
        )

    def update_soon(self, key: str, **changes: Unpack[Changes]) -> None:  # noqa: D102
        self._life.check()
        try:
            run = self._change(key, changes)
        except JournalError as error:
            run = partial(_fail, error)
        self._put(Operation(run, request_id=changes.get("request_id"), raises_kept=False))

    async def find(self, key: str) -> JournalEntry | None:  # noqa: D102
        self._life.check()
        plain = checked_key(key, journal=self._path)
        return await self._done(lambda database: database.find(plain))

    async def entries(self) -> list[JournalEntry]:  # noqa: D102
        self._life.check()
        return await self._done(lambda database: database.entries())

    async def forget(self, keys: Iterable[str]) -> int:  # noqa: D102
        self._life.check()
        plain = [checked_key(key, journal=self._path) for key in keys]
        return await self._done(lambda database: database.forget(plain))

    async def flush(self) -> None:  # noqa: D102
        self._life.check()
        await self._done(lambda _: None)

    async def aclose(self) -> None:  # noqa: D102
        if self._life.state == "open":
            self._life.check()
        await self._end()
        kept = self._writer.take_kept() if self._writer else None
        if kept is not None:
            raise kept

    def _change(self, key: str, changes: Changes) -> Callable[[Database], None]:
        plain_key = checked_key(key, journal=self._path)
        plain, now = checked_changes(changes, journal=self._path), self._clock()
        return lambda database: database.update(plain_key, plain, now)

    async def _done(
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
        assert self._writer is not None  # it is open
        self._writer.put(operation)

    async def _end(self) -> None:
        """Close the file, whatever cancellations come meanwhile."""
        already = self._life.state == "closed"
        self._life.end()
        if self._writer is None or self._writer.closed.done():
            return
        if not already:
            self._writer.stop()
        cancelled = await wait_shielded(asyncio.ensure_future(_wait(self._writer.closed)))
        self._writer.thread.join()  # it has said its last word
        if cancelled:
            raise asyncio.CancelledError


def read_entries(path: str | os.PathLike[str]) -> list[JournalEntry]:
    """The entries of the journal in a file, in order; a run may be writing it meanwhile.

    It blocks while it reads, changes nothing and needs no lock.

    Raises:
        JournalError: there is no journal, or it is damaged or of a newer version.
    """
    from seedance_async.journal.files import read

    return read(os.fspath(path))


def _fail(error: JournalError, _: Database) -> None:
    raise error


async def _wait(future: asyncio.Future[None]) -> None:
    await future
