"""Turns: when each of all the sessions that share a journal may send, so that a rate holds."""

from __future__ import annotations

from seedance_async.journal.statements import Statements


class Turns:
    """The time of the next turn, which is one for all who share the database.

    Args:
        sql: the database.
    """

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def take(self, spacing: float) -> float:
        """Take the next turn; the seconds until it comes. One that is not used is lost.

        Args:
            spacing: seconds from this turn to the next one.
        """
        now = self._sql.now()
        at = max(now, self._sql.value("SELECT next_at FROM turns") or 0.0)
        self._sql.run("UPDATE turns SET next_at = ?", at + spacing)
        return float(at - now)
