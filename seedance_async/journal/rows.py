"""The rows of a journal as they are, without the numbers that mean something in it alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import attrs

from seedance_async.jobs.state import ENDED_STATES
from seedance_async.journal.database import Database

_JOB = (
    *("key", "fingerprint", "request", "origin", "state", "error", "output_url"),
    *("path", "size", "sha256", "created_at", "updated_at"),
)
_ATTEMPT = (
    *("state", "kind", "budget", "is_limited", "request_id", "origin"),
    *("credits_reserved", "credits_charged", "error", "claimed_at", "settled_at"),
)

#: The states of an attempt: each is known better than those before it.
ATTEMPT_STATES = ("sending", "refused", "uncertain", "accepted")

_JOB_STATES = ("submitting", "rejected", "uncertain")


@attrs.frozen
class AttemptRow:
    """An attempt.

    Attributes:
        number: its number in its journal.
        key: the job's; None if that was forgotten.
        values: its columns, without its owner: whoever made it is not there in another journal.
    """

    number: int
    key: str | None
    values: Mapping[str, Any]

    @property
    def identity(self) -> tuple[Any, ...]:
        """What an attempt has from its claim on, in any journal."""
        return tuple(self.values[name] for name in ("claimed_at", "kind", "budget"))


@attrs.frozen
class Rows:
    """All that a journal holds.

    Attributes:
        jobs: the columns of each job, by key, in the order of creation.
        last_attempts: the number of each job's last attempt, by key.
        attempts: by number, in their order.
        prices: by kind.
        secret: the journal's.
    """

    jobs: Mapping[str, Mapping[str, Any]]
    last_attempts: Mapping[str, int]
    attempts: Mapping[int, AttemptRow]
    prices: Mapping[str, int]
    secret: bytes

    def attempts_by_key(self) -> defaultdict[str, list[AttemptRow]]:
        """The attempts of each job."""
        found = defaultdict[str, list[AttemptRow]](list)
        for each in self.attempts.values():
            if each.key is not None:
                found[each.key].append(each)
        return found


def read_rows(database: Database) -> Rows:
    """All rows of a journal.

    Raises:
        JournalError: its secret is damaged.
    """
    sql = database.sql
    jobs, keys, last = {}, {}, {}
    statement = f"SELECT number, attempt, {', '.join(_JOB)} FROM jobs ORDER BY number"  # noqa: S608
    for number, attempt, key, *values in sql.rows(statement):
        jobs[key] = dict(zip(_JOB[1:], values, strict=True))
        keys[number], last[key] = key, attempt
    attempts = {}
    statement = f"SELECT number, job, {', '.join(_ATTEMPT)} FROM attempts ORDER BY number"  # noqa: S608
    for number, job, *values in sql.rows(statement):
        columns = dict(zip(_ATTEMPT, values, strict=True))
        columns["is_limited"] = bool(columns["is_limited"])
        attempts[number] = AttemptRow(number, keys.get(job), columns)
    return Rows(jobs, last, attempts, database.spending.prices(), database.secret())


def job_rank(state: str) -> int:
    """How much is known of a job in a state."""
    if state in ENDED_STATES:
        return len(_JOB_STATES) + 1
    return _JOB_STATES.index(state) if state in _JOB_STATES else len(_JOB_STATES)
