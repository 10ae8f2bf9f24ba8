"""`MemoryJournal`: a journal for tests that need no file."""

from __future__ import annotations

import logging
import secrets
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
    new_intent,
    reclaim_changes,
)
from seedance_async.journal.open_state import Lifecycle

#: In place of a file, in errors.
NAME = "in memory"
_log = logging.getLogger(__name__)


class MemoryJournal:
    """A `Journal` in a dict, empty again once it is closed. The contract suite runs over it too."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lifecycle = Lifecycle(NAME)
        self.recorded: dict[str, JournalEntry] = {}
        self._keys: dict[str, str] = {}  # by request id
        self._kept: JournalError | None = None
        self._secret = secrets.token_bytes(32)

    def __repr__(self) -> str:
        return f"<MemoryJournal {self._lifecycle.state}, {len(self.recorded)} entries>"

    async def open(self) -> None:
        self._lifecycle.start_opening()
        self._lifecycle.finish_opening()

    async def claim(
        self, key: str, *, fingerprint: str, request: str, credits_reserved: int | None = None
    ) -> JournalEntry | None:
        self._lifecycle.check_open()
        entry = new_intent(
            key,
            fingerprint=fingerprint,
            request=request,
            credits_reserved=credits_reserved,
            now=self._clock(),
            journal=NAME,
        )
        self._raise_kept()
        holder = self.recorded.setdefault(entry.key, entry)
        return None if holder is entry else holder

    async def reclaim(
        self,
        key: str,
        *,
        expected: str,
        credits_reserved: int | None = None,
        credits_doubtful: int | None = None,
        fingerprint: str | None = None,
        request: str | None = None,
    ) -> bool:
        self._lifecycle.check_open()
        changes = reclaim_changes(
            expected,
            credits_reserved=credits_reserved,
            credits_doubtful=credits_doubtful,
            fingerprint=fingerprint,
            request=request,
            journal=NAME,
        )
        plain_key = checked_key(key, journal=NAME)
        self._raise_kept()
        entry = self.recorded.get(plain_key)
        if entry is None or entry.state != expected:
            return False
        self._change(entry, changes)
        return True

    async def update(self, key: str, **changes: Unpack[Changes]) -> None:
        self._lifecycle.check_open()
        self._update(key, changes)

    def update_soon(self, key: str, **changes: Unpack[Changes]) -> None:
        self._lifecycle.check_open()
        try:
            self._update(key, changes)
        except JournalError as error:
            _log.error("not recorded: %s", error)
            self._kept = self._kept or error

    async def find(self, key: str) -> JournalEntry | None:
        self._lifecycle.check_open()
        plain_key = checked_key(key, journal=NAME)
        self._raise_kept()
        return self.recorded.get(plain_key)

    async def entries(self) -> list[JournalEntry]:
        self._lifecycle.check_open()
        self._raise_kept()
        return list(self.recorded.values())

    async def forget(self, keys: Iterable[str]) -> int:
        self._lifecycle.check_open()
        plain = [checked_key(key, journal=NAME) for key in keys]
        self._raise_kept()
        removed = [self.recorded.pop(key) for key in plain if key in self.recorded]
        for entry in removed:
            self._release_id(entry)
        return len(removed)

    async def secret(self) -> bytes:
        self._lifecycle.check_open()
        self._raise_kept()
        return self._secret

    async def flush(self) -> None:
        self._lifecycle.check_open()
        self._raise_kept()

    async def aclose(self) -> None:
        if self._lifecycle.state == "open":
            self._lifecycle.check_open()
        self._lifecycle.close()
        self.recorded.clear()
        self._raise_kept()

    def _raise_kept(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            raise kept

    def _update(self, key: str, changes: Changes) -> None:
        plain = checked_changes(changes, journal=NAME)
        request_id = plain.get("request_id")
        entry = self.recorded.get(checked_key(key, journal=NAME))
        if entry is None:
            raise JournalError(f"no entry has the key {key!r}", path=NAME, request_id=request_id)
        holder = self._keys.get(request_id, entry.key)
        if holder != entry.key:
            message = f"the request id {request_id!r} is that of the entry with key {holder!r}"
            raise JournalError(message, path=NAME, request_id=request_id)
        self._change(entry, plain)

    def _change(self, entry: JournalEntry, changes: dict[str, Any]) -> None:
        changed = attrs.evolve(entry, **changes, updated_at=self._clock())
        self._release_id(entry)
        if changed.request_id is not None:
            self._keys[changed.request_id] = changed.key
        self.recorded[changed.key] = changed

    def _release_id(self, entry: JournalEntry) -> None:
        if entry.request_id is not None:
            del self._keys[entry.request_id]
