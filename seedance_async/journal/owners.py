"""The open journals on one database, as they know of each other: who is alive, who may send."""

from __future__ import annotations

import os
from collections.abc import Iterable

from seedance_async.api.errors import JournalError
from seedance_async.journal.owner import BEAT_SECONDS, DOUBT_SECONDS, Owner, this_place
from seedance_async.journal.statements import Statements

#: An owner that was silent for so many seconds, and left nothing behind, is removed.
KEPT_SECONDS = 86_400.0


class Owners:
    """The table of owners, for one of them.

    Args:
        sql: the database.
        is_shared: whether others may write it at the same time.
        beat: seconds between two signs of life.
        doubt: seconds of silence after which an owner counts as dead.

    Attributes:
        own: the number of this owner.
    """

    def __init__(
        self,
        sql: Statements,
        *,
        is_shared: bool,
        beat: float = BEAT_SECONDS,
        doubt: float = DOUBT_SECONDS,
    ) -> None:
        self._sql, self.is_shared = sql, is_shared
        self._beat, self._doubt = beat, doubt
        self.own = 0
        self._seen_at = 0.0

    def register(self) -> None:
        """Become one of the journal's owners; those that are of no use any more are removed."""
        now = self._sql.now()
        self._sql.run(
            "DELETE FROM owners WHERE seen_at < ? AND number NOT IN "
            "(SELECT owner FROM attempts WHERE state = 'sending' AND owner IS NOT NULL)",
            now - KEPT_SECONDS,
        )
        self.own = self._sql.next_number("owners")
        self.beat()

    def beat(self) -> None:
        """Give a sign of life. Others may have removed this owner while it could give none."""
        now = self._seen_at = self._sql.now()
        self._sql.run(
            "INSERT INTO owners (number, place, pid, opened_at, seen_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (number) DO UPDATE SET seen_at = excluded.seen_at",
            *(self.own, this_place(), os.getpid(), now, now),
        )

    def work(self) -> None:
        """Say that this owner works for all. It has to say so itself: its beats go on by a thread.

        A beat tells that its process lives, whatever its event loop does.
        """
        self.beat()
        now = self._sql.now()
        self._sql.run("UPDATE owners SET working_at = ? WHERE number = ?", now, self.own)

    def mark(self, batch: int) -> None:
        """Give a sign of life, and have it tell which transaction was the last (in Postgres)."""
        now = self._seen_at = self._sql.now()
        statement = "UPDATE owners SET batch = ?, seen_at = ? WHERE number = ?"
        self._sql.run(statement, batch, now, self.own)

    def rolled_back(self) -> None:
        """The last sign of life may not be on record."""
        self._seen_at = 0.0

    def roll_call(self, within: float) -> tuple[int, frozenset[int]]:
        """Say that this owner works; its number, and those that said so within some seconds."""
        self.work()
        rows = self._sql.rows(
            "SELECT number, place, pid, working_at FROM owners WHERE working_at IS NOT NULL"
        )
        now = self._sql.now()
        alive = (number for number, *sign in rows if Owner(*sign).is_alive(now, within))
        return self.own, frozenset(alive)

    def leave(self) -> None:
        """Be no owner any more. What it was sending is uncertain from now on."""
        self._sql.run("DELETE FROM owners WHERE number = ?", self.own)

    def check(self) -> None:
        """Nothing is sent by an owner that others take for dead, or that was replaced."""
        if self.is_shared:
            if self._sql.now() - self._seen_at >= self._beat:
                self.beat()
            return
        newest = self._sql.value("SELECT max(number) FROM owners")
        if newest != self.own:
            raise JournalError("another session has opened it meanwhile", path=self._sql.path)

    def living(self, numbers: Iterable[int | None]) -> frozenset[int]:
        """Those of these owners that are others than this, and may be alive."""
        asked = {number for number in numbers if number not in (None, self.own)}
        if not asked or not self.is_shared:
            return frozenset()
        rows = self._sql.rows("SELECT number, place, pid, seen_at FROM owners")
        return frozenset(
            number
            for number, *sign in rows
            if number in asked and Owner(*sign).is_alive(self._sql.now(), self._doubt)
        )
