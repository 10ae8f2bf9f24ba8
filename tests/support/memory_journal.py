"""`MemoryJournal`: the journal of a run that need not outlive its process. Also for tests."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Unpack

import attrs

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

_log = logging.getLogger(__name__)


class MemoryJournal:
    """A `Journal` in a dict: gone when it is closed.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._life = Lifecycle()
        self._entries: dict[str, JournalEntry] = {}
        self._holders: dict[str, str] = {}  # keys by request id
        self._kept: JournalError | None = None

    def __repr__(self) -> str:
        return f"<MemoryJournal {self._life.state}, {len(self._entries)} entries>"

    async def open(self) -> None:
        """See `Journal`, as for all that follows."""
        self._life.start()
        self._life.ready()

    async def claim(
        self, key: str, *, fingerprint: str, request: str, credits_reserved: int | None = None
    ) -> JournalEntry | None:
        self._life.check()
        entry = new_intent(
            key,
            fingerprint=fingerprint,
            request=request,
            credits_reserved=credits_reserved,
            now=self._clock(),
            journal=None,
        )
        self._raise_kept()
        holder = self._entries.setdefault(entry.key, entry)
        return None if holder is entry else holder

    async def reclaim(
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
            journal=None,
        )
        plain_key = checked_key(key, journal=None)
        self._raise_kept()
        entry = self._entries.get(plain_key)
        if entry is None or entry.state != expected:
            return False
        self._change(entry, changes)
        return True

    async def update(self, key: str, **changes: Unpack[Changes]) -> None:
        self._life.check()
        self._update(key, changes)

    def update_soon(self, key: str, **changes: Unpack[Changes]) -> None:
        self._life.check()
        try:
            self._update(key, changes)
        except JournalError as error:
            _log.error("not recorded: %s", error)
            self._kept = self._kept or error

    async def find(self, key: str) -> JournalEntry | None:
        self._life.check()
        plain_key = checked_key(key, journal=None)
        self._raise_kept()
        return self._entries.get(plain_key)

    async def entries(self) -> list[JournalEntry]:
        self._life.check()
        self._raise_kept()
        return list(self._entries.values())

    async def forget(self, keys: Iterable[str]) -> int:
        self._life.check()
        plain = [checked_key(key, journal=None) for key in keys]
        self._raise_kept()
        removed = [self._entries.pop(key) for key in plain if key in self._entries]
        for entry in removed:
            self._let_go(entry)
        return len(removed)

    async def flush(self) -> None:
        self._life.check()
        self._raise_kept()

    async def aclose(self) -> None:
        if self._life.state == "open":
            self._life.check()
        self._life.end()
        self._entries.clear()
        self._raise_kept()

    def _raise_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            raise kept

    def _update(self, key: str, changes: Changes) -> None:
        plain = checked_changes(changes, journal=None)
        lost = plain.get("request_id")
        entry = self._entries.get(checked_key(key, journal=None))
        if entry is None:
            raise JournalError(f"no entry has the key {key!r}", request_id=lost)
        holder = self._holders.get(lost, entry.key) if lost is not None else entry.key
        if holder != entry.key:
            words = f"the request id {lost!r} is that of the entry with key {holder!r}"
            raise JournalError(words, request_id=lost)
        self._change(entry, plain)

    def _change(self, entry: JournalEntry, changes: dict[str, Any]) -> None:
        changed = attrs.evolve(entry, **changes, updated_at=self._clock())
        self._let_go(entry)
        if changed.request_id is not None:
            self._holders[changed.request_id] = changed.key
        self._entries[changed.key] = changed

    def _let_go(self, entry: JournalEntry) -> None:
        if entry.request_id is not None:
            del self._holders[entry.request_id]
