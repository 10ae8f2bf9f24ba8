"""The asyncio side of a journal whose database is used by a thread of its own."""

from __future__ import annotations

import asyncio
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Any, TypeVar, Unpack

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
from seedance_async.journal.nudges import Nudge
from seedance_async.journal.open_state import Lifecycle
from seedance_async.journal.writer import Operation, Role, Writer

_T = TypeVar("_T")


class ThreadedJournal(ABC):
    """A `Journal` whose operations run in the thread of a `Writer`.

    Args:
        path: names it in errors.

    Attributes:
        before_claim: if set, awaited with the key before each claim; if it raises, there is none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.before_claim: Callable[[str], Awaitable[None]] | None = None
        self._lifecycle = Lifecycle(path)
        self._writer: Writer | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._path} {self._lifecycle.state}>"

    @property
    def place(self) -> str:
        """Where it is, as errors name it."""
        return self._path

    @abstractmethod
    def _new_writer(self, loop: asyncio.AbstractEventLoop) -> Writer:
        """The thread that is to use the database, not yet started."""

    async def open(self) -> None:
        """See `Journal`, as for every method below."""
        self._lifecycle.start_opening()
        writer = self._new_writer(asyncio.get_running_loop())
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
        plain = checked_intent(intent, journal=self._path)
        if self.before_claim is not None:
            await self.before_claim(plain.key)
        return await self._run(
            lambda database: database.claim(plain, after),
            Role.CLAIM,
            again=lambda database, attempt: database.restore(plain, attempt),
        )

    async def adopt(self, intent: Intent, request_id: str) -> int:  # noqa: D102
        self._lifecycle.check_open()
        plain = checked_intent(intent, journal=self._path)
        named = checked({"request_id": request_id}, journal=self._path)["request_id"]
        return await self._run(
            lambda database: database.adopt(plain, named),
            Role.RECORD,
            request_id=request_id,
            about=f"key {plain.key!r}",
            again=lambda database, attempt: database.restore(plain, attempt, request_id=named),
        )

    async def record(self, attempt: int, **changes: Unpack[Changes]) -> None:  # noqa: D102
        self._lifecycle.check_open()
        await self._run(
            self._record(attempt, changes),
            Role.RECORD,
            request_id=changes.get("request_id"),
            raises_kept=False,
            about=_about(attempt, changes),
        )

    def record_soon(self, attempt: int, **changes: Unpack[Changes]) -> None:  # noqa: D102
        self._lifecycle.check_open()
        try:
            run = self._record(attempt, changes)
        except JournalError as error:
            run = partial(_fail, error)
        self._put(
            Operation(
                run,
                Role.RECORD,
                request_id=changes.get("request_id"),
                raises_kept=False,
                about=_about(attempt, changes),
            )
        )

    async def record_file(  # noqa: D102
        self, key: str, *, path: str, size: int, sha256: str
    ) -> None:
        self._lifecycle.check_open()
        plain = checked_key(key, journal=self._path)
        values = checked({"path": path, "size": size, "sha256": sha256}, journal=self._path)
        await self._run(
            lambda database: database.record_file(plain, values),
            Role.RECORD,
            raises_kept=False,
            about=f"the video of {plain!r} is {path}",
        )

    async def find(self, key: str) -> JournalEntry | None:  # noqa: D102
        self._lifecycle.check_open()
        plain = checked_key(key, journal=self._path)
        return await self._run(lambda database: database.find(plain))

    async def entries(self) -> list[JournalEntry]:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.entries())

    async def forget(self, keys: Iterable[str]) -> int:  # noqa: D102
        self._lifecycle.check_open()
        plain = [checked_key(key, journal=self._path) for key in keys]
        return await self._run(lambda database: database.forget(plain), Role.WRITE)

    async def settle(self, key: str, attempt: int, found: Changes | None = None) -> bool:
        """Write down what a person has found out about a submit, if it is still uncertain.

        Args:
            key: the job's.
            attempt: the number of its last attempt, as the person was shown it.
            found: what the server says of the job; None if it has none, so that the job is
                forgotten, and its key free again.

        Returns:
            False if nothing was changed: it is not uncertain any more, has another attempt, or is
            being submitted.
        """
        self._lifecycle.check_open()
        plain = checked_key(key, journal=self._path)
        values = None if found is None else checked_changes(found, journal=self._path)
        return await self._run(
            lambda database: database.settle(plain, attempt, values),
            Role.WRITE if found is None else Role.RECORD,
            request_id=None if found is None else found.get("request_id"),
            about=_about(attempt, found or {}),
        )

    async def spent(self, budget: str = "") -> int:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.spending.spent(budget))

    async def prices(self) -> dict[str, int]:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.spending.prices())

    async def unpriced(self) -> dict[str, int]:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.spending.unpriced())

    async def price(self, kind: str, credits: int) -> None:  # noqa: D102
        self._lifecycle.check_open()
        await self._run(lambda database: database.spending.price(kind, credits), Role.RECORD)

    async def secret(self) -> bytes:  # noqa: D102
        self._lifecycle.check_open()
        return await self._run(lambda database: database.secret())

    async def roll_call(self, within: float) -> tuple[int, frozenset[int]]:
        """Say that who has this journal open works with others; its number, and theirs.

        Only those that call this are among them, as long as their event loops go on.

        Args:
            within: seconds since its last call after which one is no more; or once its process is
                gone.
        """
        self._lifecycle.check_open()
        return await self._run(lambda database: database.owners.roll_call(within), Role.WRITE)

    async def turn(self, spacing: float) -> float:
        """Take the next turn to send, of all who share the journal; the seconds until it comes.

        Args:
            spacing: seconds from this turn to the next one; one that is not used is lost.
        """
        self._lifecycle.check_open()
        return await self._run(lambda database: database.turns.take(spacing), Role.WRITE)

    @property
    def is_shared(self) -> bool:
        """Whether other sessions may write it at the same time."""
        return True

    async def nudge(self, job: str, request_id: str) -> None:
        """A callback named this id here: tell the session that has the job.

        Args:
            job: what stands for it in its nonce.
            request_id: what was named, which nobody believes without a query.
        """
        self._lifecycle.check_open()
        named = checked({"request_id": request_id}, journal=self._path)["request_id"]
        await self._run(
            lambda database: database.nudges.add(job, named), Role.WRITE, raises_kept=False
        )

    async def nudges(self, after: int, done: Collection[int] = ()) -> list[Nudge]:
        """What callbacks named in other sessions, in order; a page of it.

        Args:
            after: the number of the last one that is known; 0 for all of the last day.
            done: the numbers of those that are of no use any more, which are removed.
        """
        self._lifecycle.check_open()
        return await self._run(
            lambda database: database.nudges.after(after, done),
            Role.WRITE if done else Role.READ,
            raises_kept=False,
        )

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
        values = checked_changes(changes, journal=self._path)
        return lambda database: database.record(attempt, values)

    async def _run(
        self,
        run: Callable[[Database], _T],
        role: Role = Role.READ,
        *,
        request_id: str | None = None,
        raises_kept: bool = True,
        again: Callable[[Database, Any], object] | None = None,
        about: str = "",
    ) -> _T:
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._put(Operation(run, role, future, request_id, raises_kept, again, about))
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


def _about(attempt: int, changes: Changes) -> str:
    state = f" is {changes['state']}" if "state" in changes else ""
    return f"attempt {attempt}{state}"


def _fail(error: JournalError, _: Database) -> None:
    raise error
