"""Nudges: ids that callbacks named where the job was not, for the session that has it.

A row that nobody takes goes after a day, and one job has a few at most. Whatever is in one, it is a
hint: the session that has the job queries the id before it believes it.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from seedance_async.journal.statements import Statements

#: A nudge that no session has taken is kept for so many seconds.
KEPT_SECONDS = 86_400.0

#: Different ids that callbacks may name for one job.
IDS = 4

#: Nudges that are read at once.
PAGE = 1000


@attrs.frozen
class Nudge:
    """An id that a callback named.

    Attributes:
        number: rises with every nudge.
        job: stands for the job; see `webhooks.nonces`.
        request_id: what the callback named.
    """

    number: int
    job: str
    request_id: str


class Nudges:
    """The table of nudges.

    Args:
        sql: the database.
    """

    def __init__(self, sql: Statements) -> None:
        self._sql = sql

    def add(self, job: str, request_id: str) -> None:
        """Nudge whoever has a job, once more if that was done before."""
        now = self._sql.now()
        self._sql.run("DELETE FROM nudges WHERE noted_at < ?", now - KEPT_SECONDS)
        self._sql.run("DELETE FROM nudges WHERE job = ? AND request_id = ?", job, request_id)
        if self._sql.value("SELECT count(*) FROM nudges WHERE job = ?", job) < IDS:
            row = {"job": job, "request_id": request_id, "noted_at": now}
            self._sql.insert_numbered("nudges", row)

    def after(self, number: int, done: Collection[int] = ()) -> list[Nudge]:
        """The nudges with higher numbers, a page of them in their order.

        Args:
            number: of the last one that is known.
            done: those that are of no use any more; they are removed.
        """
        if done:
            each = [(number,) for number in done]
            self._sql.run_each("DELETE FROM nudges WHERE number = ?", each)
        rows = self._sql.rows(
            "SELECT number, job, request_id FROM nudges WHERE number > ? ORDER BY number LIMIT ?",
            *(number, PAGE),
        )
        return [Nudge(*row) for row in rows]
