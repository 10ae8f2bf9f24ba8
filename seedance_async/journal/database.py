"""Each operation on the tables of a journal, as few statements as it takes.

A statement that fails undoes its own changes and no others, or all of its transaction, and every
operation checks before it writes, so the operations of one transaction are independent. Everything
here blocks: it runs in the journal's own thread. The tables are in `schema` and `postgres.schema`;
what the two kinds of database do differently is in their `Statements`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import attrs

from seedance_async.api.errors import JournalError
from seedance_async.jobs.state import ENDED_STATES, JobState
from seedance_async.journal.contract import ATTACHED, Intent, RequestIdTakenError
from seedance_async.journal.entry import FIELDS, JournalEntry, entry_from_values
from seedance_async.journal.nudges import Nudges
from seedance_async.journal.owner import BEAT_SECONDS, DOUBT_SECONDS
from seedance_async.journal.owners import Owners
from seedance_async.journal.spending import Spending
from seedance_async.journal.statements import Statements
from seedance_async.journal.turns import Turns

_log = logging.getLogger(__name__)

#: Keys that are looked for in one statement.
_KEYS_AT_ONCE = 500

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
    "is_held": """(SELECT {numbers} FROM attempts
        WHERE job = job_.number AND state = 'sending')""",
    "request_id": """coalesce(CASE last.state WHEN 'accepted' THEN last.request_id END,
        (SELECT request_id FROM attempts WHERE job = job_.number AND request_id IS NOT NULL
        ORDER BY state = 'accepted' DESC, number DESC LIMIT 1))""",
    "credits_charged": "(SELECT sum(credits_charged) FROM attempts WHERE job = job_.number)",
    "credits_reserved": "last.credits_reserved",
    "credits_doubtful": f"({_DOUBTS} AND number <> job_.attempt)",
}
_SELECT = (
    f"SELECT job_.number, {', '.join(_SOURCES.get(name, f'job_.{name}') for name in FIELDS)} "  # noqa: S608
    "FROM jobs AS job_ LEFT JOIN attempts AS last ON last.number = job_.attempt"
)

_LEARNED = ("request_id", "credits_charged", "error")
_OF_ATTEMPT = ("job", "kind", "origin", "budget", "state", *_LEARNED)
_HOLDER = (
    "SELECT number FROM attempts WHERE request_id = ? AND (origin IN ({0}, '') OR {0} = '') LIMIT 1"
)
_ATTEMPT = (
    f"SELECT {', '.join(_OF_ATTEMPT)}, ({_HOLDER.format('known.origin')}) "  # noqa: S608
    "FROM attempts AS known WHERE number = ?"
)

#: The state of an attempt that each state of its job tells.
_TOLD = {JobState.SUBMITTING: "sending", JobState.REJECTED: "refused"} | {
    JobState.UNCERTAIN: "uncertain"
}


class Database:
    """The records of a journal, over an open connection.

    Args:
        sql: the database.
        is_shared: whether other sessions may write the journal at the same time.
        beat: seconds between two signs of life, if it is shared.
        doubt: seconds of silence after which another session counts as dead.

    Attributes:
        owners: those who have the journal open.
        spending: what its attempts have cost.
    """

    def __init__(
        self,
        sql: Statements,
        *,
        is_shared: bool = False,
        beat: float = BEAT_SECONDS,
        doubt: float = DOUBT_SECONDS,
    ) -> None:
        self.sql, self.path = sql, sql.path
        self.owners = Owners(sql, is_shared=is_shared, beat=beat, doubt=doubt)
        self.spending = Spending(sql, self.owners)
        self.turns, self.nudges = Turns(sql), Nudges(sql)
        self._run, self._rows, self._value = sql.run, sql.rows, sql.value
        self._insert, self._change, self._now = sql.insert, sql.change, sql.now
        self._select = _SELECT.format(numbers=sql.numbers)

    def begin(self, *, writes: bool = True) -> None:
        """Start a transaction, alone if it writes."""
        self.sql.begin(writes=writes)

    def commit(self) -> None:
        """Make everything since `begin` durable."""
        self.sql.commit()

    def rollback(self) -> None:
        """Undo everything since `begin`. Never raises."""
        self.owners.rolled_back()
        self.spending.rolled_back()
        self.sql.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.sql.close()

    # --- attempts ---------------------------------------------------------------------------

    def claim(self, intent: Intent, after: int | None) -> int | None:
        """See `Journal.claim`."""
        self.owners.check()
        job = self._claimable_job(intent, after)
        if job is None and after is not None:
            return None
        credits = intent.credits
        if intent.limits:
            if job is None and self._has(intent.key):
                return None
            credits = self.spending.reserve(intent)
        now, attempt = self._now(), self.sql.next_number("attempts")
        if job is None:
            job = self.sql.insert_numbered("jobs", self._new_job(intent, attempt, now))
            if job is None:
                return None
        else:
            said = self._said(intent, attempt)
            fresh = dict.fromkeys(("error", "output_url", "path", "size", "sha256"))
            self._change("jobs", job, {**fresh, **said, "updated_at": now})
        self._insert("attempts", self._sending(intent, attempt, job, credits, now))
        return attempt

    def _said(self, intent: Intent, attempt: int) -> dict[str, Any]:
        return {
            "fingerprint": intent.fingerprint,
            "request": intent.request,
            "origin": intent.origin,
            "attempt": attempt,
            "state": JobState.SUBMITTING.value,
        }

    def _new_job(self, intent: Intent, attempt: int, now: float) -> dict[str, Any]:
        said = self._said(intent, attempt)
        return {"key": intent.key, **said, "created_at": now, "updated_at": now}

    def _sending(
        self, intent: Intent, attempt: int, job: int | None, credits: int | None, now: float
    ) -> dict[str, Any]:
        return {
            "number": attempt,
            "job": job,
            "owner": self.owners.own,
            "state": "sending",
            "kind": intent.kind,
            "origin": intent.origin or "",
            "budget": intent.budget,
            "is_limited": bool(intent.limits),
            "credits_reserved": credits,
            "claimed_at": now,
        }

    def adopt(self, intent: Intent, request_id: str) -> int:
        """See `Journal.adopt`."""
        holder = self._holder(request_id, intent.origin or "")
        if holder is not None:
            return holder
        attempt = self.claim(attrs.evolve(intent, kind="", limits={}), None)
        if attempt is None:
            message = f"the key {intent.key!r} belongs to another job"
            raise JournalError(message, path=self.path, request_id=request_id)
        self.record(attempt, {"state": JobState.QUEUED.value, "request_id": request_id})
        return attempt

    def restore(self, intent: Intent, attempt: int, *, request_id: str | None = None) -> None:
        """Put an attempt back that this session was given, and the database has lost since.

        Args:
            intent: what was claimed.
            attempt: the number that the claim returned.
            request_id: that of a job which was adopted.
        """
        if self.has_attempt(attempt):
            return
        now, job = self._now(), self._value("SELECT number FROM jobs WHERE key = ?", intent.key)
        credits = self.spending.dearest(intent) if intent.limits else intent.credits
        if job is None:
            job = self.sql.insert_numbered("jobs", self._new_job(intent, attempt, now))
        else:
            where = f"attempt < ? AND state NOT IN ({_ENDED}) AND NOT EXISTS ({_ACCEPTED})"
            said = {"attempt": attempt, "state": JobState.SUBMITTING.value}
            self._change("jobs", job, said, where, attempt)
        self._insert("attempts", self._sending(intent, attempt, job, credits, now))
        if request_id is not None:
            self.record(attempt, {"state": JobState.QUEUED.value, "request_id": request_id})

    def has_attempt(self, number: int) -> bool:
        """Whether there is an attempt with this number."""
        return bool(self._rows("SELECT 1 FROM attempts WHERE number = ?", number))

    def _claimable_job(self, intent: Intent, after: int | None) -> int | None:
        """The number of the job, if its last attempt is `after`, and leaves the key free."""
        if after is None:
            return None
        job = self._value(
            "SELECT number FROM jobs WHERE key = ? AND attempt = ?", intent.key, after
        )
        attempts = self._rows("SELECT state, owner FROM attempts WHERE job = ?", job)
        for state, owner in attempts:
            if state == "accepted" or (state == "sending" and self.owners.living([owner])):
                return None
        return None if job is None else int(job)

    def record(self, attempt: int, changes: Mapping[str, Any]) -> None:
        """See `Journal.record`."""
        request_id = changes.get("request_id")
        rows = self._rows(_ATTEMPT, request_id, attempt)
        if not rows:
            message = f"it has no attempt {attempt}"
            raise JournalError(message, path=self.path, request_id=request_id)
        known = dict(zip((*_OF_ATTEMPT, "holder"), rows[0], strict=True))
        job, before, named = known["job"], known["state"], known["request_id"]
        told = JobState(changes["state"]) if "state" in changes else None
        holder = None if request_id in (None, named) else known["holder"]
        if told is JobState.UNCERTAIN and holder is not None:
            changes = {**changes, "request_id": None}  # an answer that names another job
        elif request_id is not None and named not in (None, request_id):
            if holder is not None and job is not None and self._job_of(holder) == job:
                self.record(holder, changes)  # told before
            else:
                self._record_stray(known, changes, holder)
            return
        elif holder is not None and job is not None:
            self._free_id(request_id, holder)
        if job is None and holder is not None:
            return  # an attached job that the session which submitted it has recorded
        state = _state_after(before, told, changes.get("request_id") or named)
        if state is None:
            return
        self._settle(attempt, known, {**changes, "state": state})
        if job is not None:
            self._record_job(job, attempt, told, changes)
        if job is not None and state == "refused" and not self._has_open(job):
            # An older attempt was the last one in doubt.
            rejected = {"state": JobState.REJECTED.value, "updated_at": self._now()}
            where = f"state = 'uncertain' AND NOT EXISTS ({_ACCEPTED})"
            self._change("jobs", job, rejected, where)

    def _settle(self, attempt: int, known: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Write what is new about an attempt; what was known before and is not now stays."""
        learned = {name: changes.get(name) for name in ("state", *_LEARNED)}
        new = {name: v for name, v in learned.items() if v is not None and v != known[name]}
        if new:
            self._change("attempts", attempt, {**new, "settled_at": self._now()})
        if "credits_charged" in new and known["kind"]:
            self.spending.learn(known["kind"], new["credits_charged"])

    def _record_job(
        self, job: int, attempt: int, told: JobState | None, changes: Mapping[str, Any]
    ) -> None:
        """Write what an attempt tells of its job."""
        told_job = {name: changes[name] for name in ("error", "output_url") if name in changes}
        where, values = f"state NOT IN ({_ENDED})", []  # an end never changes
        if told is not None:
            told_job["state"] = told.value
        if told in ENDED_STATES:
            told_job["attempt"] = attempt  # whose end it is, should another be accepted, too
        if told in _TOLD:
            # Of no interest if another attempt came after it, or was accepted.
            where += f" AND attempt = ? AND NOT EXISTS ({_ACCEPTED})"
            values = [attempt]
        if told is JobState.REJECTED and self._has_open(job):
            told_job["state"] = JobState.UNCERTAIN.value
        self._change("jobs", job, {**told_job, "updated_at": self._now()}, where, *values)

    def _record_stray(
        self, known: Mapping[str, Any], changes: Mapping[str, Any], holder: int | None
    ) -> None:
        """A second id for an attempt is a second charge, as far as anybody knows."""
        request_id, job, named = changes["request_id"], known["job"], known["request_id"]
        if holder is not None:
            self._free_id(request_id, holder)
        was_accepted = known["state"] == "accepted"
        if was_accepted:
            _log.critical("the journal has %s for a job that is %s, too", named, request_id)
        now, number = self._now(), self.sql.next_number("attempts")
        stray = {name: known[name] for name in ("job", "kind", "origin", "budget")}
        stray["number"] = number
        stray |= {"state": "accepted", "request_id": request_id, "claimed_at": now}
        stray |= {"credits_charged": changes.get("credits_charged"), "settled_at": now}
        self._insert("attempts", stray)
        if job is not None and not was_accepted:
            self._change("jobs", job, {"attempt": number})
            told = JobState(changes.get("state", JobState.QUEUED))
            told = JobState.QUEUED if told in _TOLD else told
            self._record_job(job, number, told, changes)

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
        found: int | None = self._value(_HOLDER.format("?"), request_id, origin, origin)
        return found

    def _job_of(self, attempt: int) -> int | None:
        number: int | None = self._value("SELECT job FROM attempts WHERE number = ?", attempt)
        return number

    def _has_open(self, job: int) -> bool:
        statement = f"SELECT 1 FROM attempts WHERE job = ? AND {_OPEN} LIMIT 1"  # noqa: S608
        return bool(self._rows(statement, job))

    # --- jobs -------------------------------------------------------------------------------

    def record_file(self, key: str, values: Mapping[str, Any]) -> None:
        """See `Journal.record_file`."""
        number = self._value("SELECT number FROM jobs WHERE key = ?", key)
        if number is None:
            raise JournalError(f"no entry has the key {key!r}", path=self.path)
        self._change("jobs", number, {**values, "updated_at": self._now()})

    def find(self, key: str) -> JournalEntry | None:
        """The entry with this key."""
        found = self._entries(self._rows(f"{self._select} WHERE key = ?", key))
        return found[0] if found else None

    def find_all(self, keys: Collection[str]) -> list[JournalEntry]:
        """The entries with these keys, in no particular order."""
        entries, wanted = list[JournalEntry](), list(keys)
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            some = wanted[start : start + _KEYS_AT_ONCE]
            rows = self._rows(f"{self._select} WHERE key IN ({', '.join('?' * len(some))})", *some)
            entries += self._entries(rows)
        return entries

    def entries(self) -> list[JournalEntry]:
        """All entries in the order of their creation."""
        entries: list[JournalEntry] = []
        last, page = -1, f"{self._select} WHERE job_.number > ? ORDER BY job_.number LIMIT ?"
        while rows := self._rows(page, last, self.sql.page):
            entries += self._entries(rows)
            last = rows[-1][0]
            if len(rows) != self.sql.page:
                break
        return entries

    def forget(self, keys: Iterable[str]) -> int:
        """See `Journal.forget`."""
        rows = [(key,) for key in keys]
        self.sql.run_each(
            "UPDATE attempts SET job = NULL WHERE job = (SELECT number FROM jobs WHERE key = ?)",
            rows,
        )
        return self.sql.run_each("DELETE FROM jobs WHERE key = ?", rows)

    def settle(self, key: str, attempt: int, found: Mapping[str, Any] | None) -> bool:
        """See `ThreadedJournal.settle`."""
        known = self.find(key)
        if known is None or known.attempt != attempt or known.is_held or not known.is_uncertain:
            return False
        if found is None:
            self.forget([key])
        else:
            self.record(attempt, found)
            self._change("attempts", attempt, {"is_limited": False})
        return True

    def secret(self) -> bytes:
        """The journal's secret. Raises JournalError if it is missing or damaged."""
        rows = self._rows("SELECT value FROM secret")
        if len(rows) != 1 or not isinstance(rows[0][0], bytes) or len(rows[0][0]) != _SECRET:
            raise JournalError("its secret is damaged", path=self.path)
        return rows[0][0]

    def _has(self, key: str) -> bool:
        return bool(self._rows("SELECT 1 FROM jobs WHERE key = ?", key))

    def _entries(self, rows: list[Any]) -> list[JournalEntry]:
        read = [dict(zip(FIELDS, row[1:], strict=True)) for row in rows]
        senders = [_numbers(values["is_held"]) for values in read]
        alive = self.owners.living(itertools.chain.from_iterable(senders))
        for values, owners in zip(read, senders, strict=True):
            values["is_held"] = not alive.isdisjoint(owners)
        return [entry_from_values(values, journal=self.path) for values in read]


def _numbers(joined: object) -> list[int]:
    return [int(number) for number in str(joined).split(",")] if joined else []


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
