"""Each operation on the tables of an SQLite journal, as few statements as it takes.

A statement that fails undoes its own changes and no others, and every operation checks before it
writes, so the operations of one transaction are independent. Everything here blocks: it runs in the
journal's own thread. The tables themselves are in `schema`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from seedance_async.api.errors import BudgetExceededError, JournalError
from seedance_async.jobs.state import ENDED_STATES, JobState
from seedance_async.journal.contract import ATTACHED, CreditsInUseError, Intent, RequestIdTakenError
from seedance_async.journal.entry import FIELDS, JournalEntry, entry_from_values
from seedance_async.journal.owner import BEAT_SECONDS, DOUBT_SECONDS, Owner, this_place
from seedance_async.journal.statements import Statements

_log = logging.getLogger(__name__)

#: Under a limit, so many attempts may be in doubt at a price that nobody knows: one that was broken
#: off, and one that tries once more.
MOST_UNPRICED = 2

#: Bytes of a journal's secret.
_SECRET = 32

#: An attempt that still may have been charged, though no answer says so.
_OPEN = "state IN ('sending', 'uncertain')"
_ACCEPTED = "SELECT 1 FROM attempts WHERE job = jobs.number AND state = 'accepted'"
_DOUBTS = f"SELECT sum(cost) FROM attempts WHERE job = job_.number AND {_OPEN}"  # noqa: S608
_ENDED = ", ".join(f"'{state.value}'" for state in sorted(ENDED_STATES))

#: What each field of an entry is read from; `job` is a row of jobs, `last` its last attempt. An
#: older attempt may be sent, too, if its session was taken for dead, and was only stopped.
_SOURCES = {
    "is_held": """(SELECT group_concat(owner) FROM attempts
        WHERE job = job_.number AND state = 'sending')""",
    "request_id": """coalesce(CASE last.state WHEN 'accepted' THEN last.request_id END,
        (SELECT request_id FROM attempts WHERE job = job_.number AND request_id IS NOT NULL
        ORDER BY state = 'accepted' DESC, number DESC LIMIT 1))""",
    "credits_charged": "(SELECT sum(credits_charged) FROM attempts WHERE job = job_.number)",
    "credits_reserved": "last.credits_reserved",
    "credits_doubtful": f"({_DOUBTS} AND number <> job_.attempt)",
}
_SELECT = (
    f"SELECT {', '.join(_SOURCES.get(name, f'job_.{name}') for name in FIELDS)} "  # noqa: S608
    "FROM jobs AS job_ LEFT JOIN attempts AS last ON last.number = job_.attempt"
)

_UNPRICED = "credits_charged IS NULL AND credits_reserved IS NULL AND state <> 'refused'"
_LIMITED_UNPRICED = f"SELECT count(*) FROM attempts WHERE is_limited AND {_UNPRICED}"  # noqa: S608
_LEARNED = ("request_id", "credits_charged", "error")
_OF_ATTEMPT = ("job", "kind", "origin", "budget", "state", *_LEARNED)
_ATTEMPT = f"SELECT {', '.join(_OF_ATTEMPT)} FROM attempts WHERE number = ?"  # noqa: S608

#: The state of an attempt that each state of its job tells.
_TOLD = {JobState.SUBMITTING: "sending", JobState.REJECTED: "refused"} | {
    JobState.UNCERTAIN: "uncertain"
}


class Database(Statements):
    """The records of a journal, over an open connection.

    Args:
        connection: a connection in autocommit mode.
        path: the journal's file, for errors.
        is_shared: whether other sessions may write the journal at the same time.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: str, *, is_shared: bool = False
    ) -> None:
        super().__init__(connection, path)
        self._is_shared = is_shared
        self._owner = 0
        self._seen_at = 0.0
        self._prices: dict[str, int] = {}  # that this session has recorded

    def rollback(self) -> None:
        """Undo everything since `begin`. Never raises."""
        self._prices.clear()
        super().rollback()

    # --- who writes -------------------------------------------------------------------------

    def register(self, now: float) -> None:
        """Become one of the journal's owners; those that are of no use any more are removed."""
        self.connection.execute(
            "DELETE FROM owners WHERE seen_at < ? AND number NOT IN "
            "(SELECT owner FROM attempts WHERE state = 'sending' AND owner IS NOT NULL)",
            (now - DOUBT_SECONDS,),
        )
        row = {"place": this_place(), "pid": os.getpid(), "opened_at": now, "seen_at": now}
        self._owner = self._insert("owners", row) or 0
        self._seen_at = now

    def beat(self, now: float) -> None:
        """Give a sign of life. Others may have removed this owner while it could give none."""
        self._seen_at = now
        self._run(
            "INSERT INTO owners (number, place, pid, opened_at, seen_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (number) DO UPDATE SET seen_at = excluded.seen_at",
            *(self._owner, this_place(), os.getpid(), now, now),
        )

    def leave(self) -> None:
        """Be no owner any more. What it was sending is uncertain from now on."""
        self._run("DELETE FROM owners WHERE number = ?", self._owner)

    def _check_owner(self, now: float) -> None:
        """Nothing is sent by an owner that others take for dead, or that was replaced."""
        if self._is_shared:
            if now - self._seen_at >= BEAT_SECONDS:
                self.beat(now)
            return
        newest = self._value("SELECT max(number) FROM owners")
        if newest != self._owner:
            raise JournalError("another session has opened it meanwhile", path=self.path)

    def _is_alive(self, number: object, now: float) -> bool:
        if number is None or number == self._owner or not self._is_shared:
            return False
        rows = self._rows("SELECT place, pid, seen_at FROM owners WHERE number = ?", number)
        return bool(rows) and Owner(*rows[0]).is_alive(now)

    # --- attempts ---------------------------------------------------------------------------

    def claim(self, intent: Intent, after: int | None, now: float) -> int | None:
        """See `Journal.claim`."""
        self._check_owner(now)
        job = self._claimable_job(intent, after, now)
        if job is None and after is not None:
            return None
        credits = intent.credits
        if intent.limits:
            if job is None and self._has(intent.key):
                return None
            credits = self._dearest(intent)
            for budget, limit in intent.limits.items():
                self._check_limit(budget, limit, credits, now)
        attempt = 1 + (self._value("SELECT seq FROM sqlite_sequence WHERE name = 'attempts'") or 0)
        said: dict[str, Any] = {
            "fingerprint": intent.fingerprint,
            "request": intent.request,
            "origin": intent.origin,
            "attempt": attempt,
            "state": JobState.SUBMITTING.value,
        }
        if job is None:
            new = {"key": intent.key, **said, "created_at": now, "updated_at": now}
            job = self._insert("jobs", new, or_ignore=True)
            if job is None:
                return None
        else:
            fresh = dict.fromkeys(("error", "output_url", "path", "size", "sha256"))
            self._change("jobs", job, {**fresh, **said, "updated_at": now})
        sending = {
            "number": attempt,
            "job": job,
            "owner": self._owner,
            "state": "sending",
            "kind": intent.kind,
            "origin": intent.origin or "",
            "budget": intent.budget,
            "is_limited": bool(intent.limits),
            "credits_reserved": credits,
            "claimed_at": now,
        }
        return self._insert("attempts", sending)

    def adopt(self, intent: Intent, request_id: str, now: float) -> int:
        """See `Journal.adopt`."""
        holder = self._holder(request_id, intent.origin or "")
        if holder is not None:
            return holder
        attempt = self.claim(attrs.evolve(intent, kind="", limits={}), None, now)
        if attempt is None:
            message = f"the key {intent.key!r} belongs to another job"
            raise JournalError(message, path=self.path, request_id=request_id)
        self.record(attempt, {"state": JobState.QUEUED.value, "request_id": request_id}, now)
        return attempt

    def _claimable_job(self, intent: Intent, after: int | None, now: float) -> int | None:
        """The number of the job, if its last attempt is `after`, and leaves the key free."""
        if after is None:
            return None
        job = self._value(
            "SELECT number FROM jobs WHERE key = ? AND attempt = ?", intent.key, after
        )
        attempts = self._rows("SELECT state, owner FROM attempts WHERE job = ?", job)
        for state, owner in attempts:
            if state == "accepted" or (state == "sending" and self._is_alive(owner, now)):
                return None
        return None if job is None else int(job)

    def _dearest(self, intent: Intent) -> int | None:
        """What an attempt may cost; another session may have seen a price that this one has not."""
        seen = self._value("SELECT credits FROM prices WHERE kind = ?", intent.kind)
        known = [price for price in (intent.credits, seen) if price is not None]
        return max(known, default=None)

    def _check_limit(self, budget: str, limit: int, credits: int | None, now: float) -> None:
        """Raise unless an attempt fits in a budget, and no other session tries one just now."""
        spent, needed = self.spent(budget), max(1, credits or 0)
        if credits is None and self._value(_LIMITED_UNPRICED) >= MOST_UNPRICED:
            spent = limit  # else each start would risk one more
        if spent + needed > limit:
            raise BudgetExceededError(
                max_credits=limit, spent=spent, needed=needed, known=credits is not None
            )
        if not self._is_shared:
            return
        sending = self._rows(
            "SELECT DISTINCT owner FROM attempts WHERE state = 'sending' AND ? IN ('', budget)",
            budget,
        )
        if any(self._is_alive(owner, now) for (owner,) in sending):
            raise CreditsInUseError("another session is sending a submit", path=self.path)

    def record(self, attempt: int, changes: Mapping[str, Any], now: float) -> None:
        """See `Journal.record`."""
        request_id = changes.get("request_id")
        rows = self._rows(_ATTEMPT, attempt)
        if not rows:
            message = f"it has no attempt {attempt}"
            raise JournalError(message, path=self.path, request_id=request_id)
        known = dict(zip(_OF_ATTEMPT, rows[0], strict=True))
        job, before, named = known["job"], known["state"], known["request_id"]
        told = JobState(changes["state"]) if "state" in changes else None
        holder = None if request_id in (None, named) else self._holder(request_id, known["origin"])
        if told is JobState.UNCERTAIN and holder is not None:
            changes = {**changes, "request_id": None}  # an answer that names another job
        elif request_id is not None and named not in (None, request_id):
            if holder is not None and job is not None and self._job_of(holder) == job:
                self.record(holder, changes, now)  # told before
            else:
                self._record_stray(known, changes, holder, now)
            return
        elif holder is not None and job is not None:
            self._free_id(request_id, holder)
        if job is None and holder is not None:
            return  # an attached job that the session which submitted it has recorded
        state = _state_after(before, told, changes.get("request_id") or named)
        if state is None:
            return
        self._settle(attempt, known, {**changes, "state": state}, now)
        if job is not None:
            self._record_job(job, attempt, told, changes, now)
        if job is not None and state == "refused" and not self._has_open(job):
            # An older attempt was the last one in doubt.
            rejected = {"state": JobState.REJECTED.value, "updated_at": now}
            where = f"state = 'uncertain' AND NOT EXISTS ({_ACCEPTED})"
            self._change("jobs", job, rejected, where)

    def _settle(
        self, attempt: int, known: Mapping[str, Any], changes: Mapping[str, Any], now: float
    ) -> None:
        """Write what is new about an attempt; what was known before and is not now stays."""
        learned = {name: changes.get(name) for name in ("state", *_LEARNED)}
        new = {name: v for name, v in learned.items() if v is not None and v != known[name]}
        if new:
            self._change("attempts", attempt, {**new, "settled_at": now})
        if "credits_charged" in new and known["kind"]:
            self._learn(known["kind"], new["credits_charged"])

    def _learn(self, kind: str, credits: int) -> None:
        """An attempt was charged: what those like it may have cost is known if this is dearer."""
        if credits <= self._prices.get(kind, -1):
            return
        self._prices[kind] = credits
        self._run(
            "INSERT INTO prices VALUES (?, ?) ON CONFLICT (kind) DO UPDATE "
            "SET credits = max(credits, excluded.credits)",
            kind,
            credits,
        )
        self.price(kind, credits)

    def _record_job(
        self, job: int, attempt: int, told: JobState | None, changes: Mapping[str, Any], now: float
    ) -> None:
        """Write what an attempt tells of its job."""
        told_job = {name: changes[name] for name in ("error", "output_url") if name in changes}
        where = f"state NOT IN ({_ENDED})"  # an end never changes
        if told is not None:
            told_job["state"] = told.value
        if told in ENDED_STATES:
            told_job["attempt"] = attempt  # whose end it is, should another be accepted, too
        if told in _TOLD:
            # Of no interest if another attempt came after it, or was accepted.
            where += f" AND attempt = {attempt} AND NOT EXISTS ({_ACCEPTED})"
        if told is JobState.REJECTED and self._has_open(job):
            told_job["state"] = JobState.UNCERTAIN.value
        self._change("jobs", job, {**told_job, "updated_at": now}, where)

    def _record_stray(
        self, known: Mapping[str, Any], changes: Mapping[str, Any], holder: int | None, now: float
    ) -> None:
        """A second id for an attempt is a second charge, as far as anybody knows."""
        request_id, job, named = changes["request_id"], known["job"], known["request_id"]
        if holder is not None:
            self._free_id(request_id, holder)
        was_accepted = known["state"] == "accepted"
        if was_accepted:
            _log.critical("the journal has %s for a job that is %s, too", named, request_id)
        stray = {name: known[name] for name in ("job", "kind", "origin", "budget")}
        stray |= {"state": "accepted", "request_id": request_id, "claimed_at": now}
        stray |= {"credits_charged": changes.get("credits_charged"), "settled_at": now}
        number = self._insert("attempts", stray)
        if job is not None and number is not None and not was_accepted:
            self._change("jobs", job, {"attempt": number})
            told = JobState(changes.get("state", JobState.QUEUED))
            told = JobState.QUEUED if told in _TOLD else told
            self._record_job(job, number, told, changes, now)

    def _free_id(self, request_id: str | None, holder: int) -> None:
        """Raise if another job has this id.

        That of a job that was forgotten is free again, and that of one that was attached belongs to
        the session that has submitted it, and has only now come to record it.
        """
        rows = self._rows(
            "SELECT key, fingerprint FROM jobs "
            "WHERE number = (SELECT job FROM attempts WHERE number = ?)",
            holder,
        )
        key, fingerprint = rows[0] if rows else (None, None)
        if key is None or fingerprint == f"{ATTACHED} {request_id}":
            self.forget([key] if key else [])
            self._run("UPDATE attempts SET request_id = NULL WHERE number = ?", holder)
            return
        raise RequestIdTakenError(request_id, key, path=self.path)

    def _holder(self, request_id: str | None, origin: str) -> int | None:
        """The attempt with this id, of this API or of one that nobody knows."""
        found: int | None = self._value(
            "SELECT number FROM attempts WHERE request_id = ? AND (origin IN (?, '') OR ? = '')",
            *(request_id, origin, origin),
        )
        return found

    def _job_of(self, attempt: int) -> int | None:
        number: int | None = self._value("SELECT job FROM attempts WHERE number = ?", attempt)
        return number

    def _has_open(self, job: int) -> bool:
        statement = f"SELECT 1 FROM attempts WHERE job = ? AND {_OPEN} LIMIT 1"  # noqa: S608
        return bool(self._rows(statement, job))

    # --- jobs -------------------------------------------------------------------------------

    def record_file(self, key: str, values: Mapping[str, Any], now: float) -> None:
        """See `Journal.record_file`."""
        number = self._value("SELECT number FROM jobs WHERE key = ?", key)
        if number is None:
            raise JournalError(f"no entry has the key {key!r}", path=self.path)
        self._change("jobs", number, {**values, "updated_at": now})

    def find(self, key: str, now: float = 0.0) -> JournalEntry | None:
        """The entry with this key."""
        rows = self._rows(f"{_SELECT} WHERE key = ?", key)
        return self._entry(rows[0], now) if rows else None

    def entries(self, now: float = 0.0) -> list[JournalEntry]:
        """All entries in the order of their creation."""
        rows = self._rows(f"{_SELECT} ORDER BY job_.number")
        return [self._entry(row, now) for row in rows]

    def forget(self, keys: Iterable[str]) -> int:
        """See `Journal.forget`."""
        rows = [(key,) for key in keys]
        self.connection.executemany(
            "UPDATE attempts SET job = NULL WHERE job = (SELECT number FROM jobs WHERE key = ?)",
            rows,
        )
        return self.connection.executemany("DELETE FROM jobs WHERE key = ?", rows).rowcount

    # --- money ------------------------------------------------------------------------------

    def spent(self, budget: str) -> int:
        """See `Journal.spent`."""
        return self._value("SELECT spent FROM budgets WHERE name = ?", budget) or 0

    def prices(self) -> dict[str, int]:
        """See `Journal.prices`."""
        return dict(self._rows("SELECT kind, credits FROM prices"))

    def charges(self, origin: str) -> dict[str, int]:
        """By kind, the most that an API charged for one attempt."""
        return dict(
            self._rows(
                "SELECT kind, max(credits_charged) FROM attempts WHERE kind <> '' "
                "AND credits_charged IS NOT NULL AND origin IN (?, '') GROUP BY kind",
                origin,
            )
        )

    def unpriced(self) -> dict[str, int]:
        """See `Journal.unpriced`."""
        return dict(
            self._rows(
                f"SELECT kind, count(*) FROM attempts WHERE {_UNPRICED} GROUP BY kind"  # noqa: S608
            )
        )

    def price(self, kind: str, credits: int) -> None:
        """See `Journal.price`."""
        self._run(
            f"UPDATE attempts SET credits_reserved = ? WHERE kind = ? AND {_UNPRICED}",  # noqa: S608
            credits,
            kind,
        )

    def secret(self) -> bytes:
        """The journal's secret. Raises JournalError if it is missing or damaged."""
        rows = self._rows("SELECT value FROM secret")
        if len(rows) != 1 or not isinstance(rows[0][0], bytes) or len(rows[0][0]) != _SECRET:
            raise JournalError("its secret is damaged", path=self.path)
        return rows[0][0]

    def _has(self, key: str) -> bool:
        return bool(self._rows("SELECT 1 FROM jobs WHERE key = ?", key))

    def _entry(self, row: tuple[Any, ...], now: float) -> JournalEntry:
        values = dict(zip(FIELDS, row, strict=True))
        owners = map(int, str(values["is_held"]).split(",")) if values["is_held"] else ()
        values["is_held"] = any(self._is_alive(owner, now) for owner in owners)
        return entry_from_values(values, journal=self.path)


def _state_after(before: str, told: JobState | None, request_id: str | None) -> str | None:
    """The state of an attempt once it is told; None if something better was known before.

    Refusals and doubt are about a POST in progress; an acceptance is true whenever it comes.
    """
    if told is None:
        return before
    state = _TOLD.get(told, "accepted")
    if state == "accepted":
        return state if request_id is not None or before != "refused" else None
    if before == "sending" or state == before:
        return state
    return None
