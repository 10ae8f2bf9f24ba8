"""`MemoryJournal`: a journal for tests that need no file and no thread."""

from __future__ import annotations

import logging
import sqlite3
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, Unpack

from seedance_async.api.errors import JournalError
from seedance_async.journal import Changes, Intent, JournalEntry
from seedance_async.journal.contract import checked_intent
from seedance_async.journal.database import Database
from seedance_async.journal.entry import checked, checked_changes, checked_key
from seedance_async.journal.nudges import Nudge
from seedance_async.journal.open_state import Lifecycle
from seedance_async.journal.owner import DOUBT_SECONDS
from seedance_async.journal.schema import migrate
from seedance_async.journal.sqlite_statements import SQLiteStatements

#: In place of a file, in errors.
NAME = "in memory"
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def memory_store() -> sqlite3.Connection:
    """The tables of a journal, in memory. Journals that are open on it at once must be shared."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(connection)
    return connection


class MemoryJournal:
    """A `Journal` over tables in memory, each operation a transaction of its own.

    It closes a store that it has made, or that is its `own`.
    """

    def __init__(
        self,
        store: sqlite3.Connection | None = None,
        *,
        shared: bool = False,
        own: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lifecycle, self.doubt = Lifecycle(NAME), DOUBT_SECONDS
        self._own = store is None or own
        self.store = memory_store() if store is None else store
        if self._own:
            weakref.finalize(self, self.store.close).atexit = False
        self._database = Database(SQLiteStatements(self.store, NAME, clock), is_shared=shared)
        self._kept: JournalError | None = None
        self._last: dict[str, JournalEntry] = {}

    @property
    def recorded(self) -> dict[str, JournalEntry]:
        """By key, what is recorded; once the journal is closed, what was."""
        if self._lifecycle.state != "closed":
            self._last = {entry.key: entry for entry in self._database.entries()}
        return self._last

    def __repr__(self) -> str:
        return f"<MemoryJournal {self._lifecycle.state}>"

    def rows(self, statement: str) -> list[Any]:
        """What the tables hold, for tests that look behind the contract."""
        return self.store.execute(statement).fetchall()

    async def open(self) -> None:
        self._lifecycle.start_opening()
        self._do(self._database.owners.register)
        self._lifecycle.finish_opening()

    async def claim(self, intent: Intent, *, after: int | None = None) -> int | None:
        self._lifecycle.check_open()
        plain = checked_intent(intent, journal=NAME)
        self._raise_kept()
        return self._do(lambda: self._database.claim(plain, after))

    async def adopt(self, intent: Intent, request_id: str) -> int:
        self._lifecycle.check_open()
        plain = checked_intent(intent, journal=NAME)
        named = checked({"request_id": request_id}, journal=NAME)["request_id"]
        self._raise_kept()
        return self._do(lambda: self._database.adopt(plain, named))

    async def record(self, attempt: int, **changes: Unpack[Changes]) -> None:
        self._lifecycle.check_open()
        values = checked_changes(changes, journal=NAME)
        self._do(lambda: self._database.record(attempt, values))

    def record_soon(self, attempt: int, **changes: Unpack[Changes]) -> None:
        self._lifecycle.check_open()
        try:
            values = checked_changes(changes, journal=NAME)
            self._do(lambda: self._database.record(attempt, values))
        except JournalError as error:
            _log.error("not recorded: %s", error)
            self._kept = self._kept or error

    async def record_file(self, key: str, *, path: str, size: int, sha256: str) -> None:
        self._lifecycle.check_open()
        plain = checked_key(key, journal=NAME)
        values = checked({"path": path, "size": size, "sha256": sha256}, journal=NAME)
        self._do(lambda: self._database.record_file(plain, values))

    async def find(self, key: str) -> JournalEntry | None:
        self._lifecycle.check_open()
        plain = checked_key(key, journal=NAME)
        self._raise_kept()
        return self._database.find(plain)

    async def entries(self) -> list[JournalEntry]:
        self._lifecycle.check_open()
        self._raise_kept()
        return self._database.entries()

    async def forget(self, keys: Iterable[str]) -> int:
        self._lifecycle.check_open()
        plain = [checked_key(key, journal=NAME) for key in keys]
        self._raise_kept()
        return self._do(lambda: self._database.forget(plain))

    async def settle(self, key: str, attempt: int, found: Changes | None = None) -> bool:
        self._lifecycle.check_open()
        plain = checked_key(key, journal=NAME)
        values = None if found is None else checked_changes(found, journal=NAME)
        self._raise_kept()
        return self._do(lambda: self._database.settle(plain, attempt, values))

    async def spent(self, budget: str = "") -> int:
        self._lifecycle.check_open()
        self._raise_kept()
        return self._database.spending.spent(budget)

    async def prices(self) -> dict[str, int]:
        self._lifecycle.check_open()
        self._raise_kept()
        return self._database.spending.prices()

    async def unpriced(self) -> dict[str, int]:
        self._lifecycle.check_open()
        self._raise_kept()
        return self._database.spending.unpriced()

    async def price(self, kind: str, credits: int) -> None:
        self._lifecycle.check_open()
        self._raise_kept()
        self._do(lambda: self._database.spending.price(kind, credits))

    async def secret(self) -> bytes:
        self._lifecycle.check_open()
        self._raise_kept()
        return self._database.secret()

    async def roll_call(self, within: float) -> tuple[int, frozenset[int]]:
        self._lifecycle.check_open()
        return self._do(lambda: self._database.owners.roll_call(within))

    async def turn(self, spacing: float) -> float:
        self._lifecycle.check_open()
        return self._do(lambda: self._database.turns.take(spacing))

    @property
    def is_shared(self) -> bool:
        return self._database.owners.is_shared

    async def nudge(self, job: str, request_id: str) -> None:
        self._lifecycle.check_open()
        named = checked({"request_id": request_id}, journal=NAME)["request_id"]
        self._do(lambda: self._database.nudges.add(job, named))

    async def nudges(self, after: int, done: Collection[int] = ()) -> list[Nudge]:
        self._lifecycle.check_open()
        return self._do(lambda: self._database.nudges.after(after, done))

    async def flush(self) -> None:
        self._lifecycle.check_open()
        self._raise_kept()

    async def aclose(self) -> None:
        if self._lifecycle.state == "open":
            self._lifecycle.check_open()
            self._last = self.recorded
            self._do(self._database.owners.leave)
        if self._lifecycle.state != "closed" and self._own:
            self.store.close()
        self._lifecycle.close()
        self._raise_kept()

    def _do(self, run: Callable[[], _T]) -> _T:
        self._database.begin()
        try:
            result = run()
        except BaseException:
            self._database.rollback()
            raise
        self._database.commit()
        return result

    def fail_next(self, error: JournalError) -> None:
        """A record that nobody waited for has failed."""
        self._kept = error

    def _raise_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            raise kept
