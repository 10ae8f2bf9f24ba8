"""Copies a journal: all jobs and attempts, what they cost, where the videos are, and the secret.

What the target has already stays, so a copy may be repeated; it then learns what the source has
learned since. All of it is one transaction. An attempt has another number in another journal: it is
known again by its key, and by when and for what it was claimed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from seedance_async._utils.plural import counted
from seedance_async.api.errors import JournalError
from seedance_async.jobs.state import ENDED_STATES
from seedance_async.journal.database import Database
from seedance_async.journal.journal_file import read_file
from seedance_async.journal.reading import is_url
from seedance_async.journal.rows import ATTEMPT_STATES, AttemptRow, Rows, job_rank, read_rows
from seedance_async.journal.statements import Statements
from seedance_async.journal.writing import writing

#: Contradictions that an error names.
_SHOWN = 5


@attrs.frozen
class Copied:
    """What a copy has done.

    Attributes:
        jobs: how many the target did not have.
        known: how many it had.
        attempts: how many it did not have.
        has_secret: whether the target has the source's secret, by which callbacks of jobs that are
            running are known again; another one that was in use stays.
    """

    jobs: int
    known: int
    attempts: int
    has_secret: bool


def copy_journal(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Copied:
    """Copy the journal in a file into another journal. Blocks.

    Args:
        source: a file, which nobody may be writing.
        target: a file, created if it is missing, or the URL of a database of Postgres. Sessions
            that share it may be writing it.

    Raises:
        JournalError: one of them cannot be used, a run writes the source, or the target has
            something else under a key or a request id. Nothing is changed then.
        ConfigurationError: the extra `postgres` is needed, and is not installed.
    """
    _check_are_two(source, target)
    rows = read_file(source, read_rows, alone=True)
    with writing(target, many=True) as database:
        if rows is None:
            return Copied(0, 0, 0, has_secret=False)
        known = read_rows(database)
        copy = _Copy(rows, known, database.path)
        copy.check()
        return copy.write(database)


def _check_are_two(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    if not is_url(target) and Path(source).resolve() == Path(target).resolve():
        raise JournalError("it cannot be copied into itself", path=os.fspath(source))


class _Copy:
    """The rows of two journals, side by side.

    Args:
        source, target: their rows.
        name: the target's.
    """

    def __init__(self, source: Rows, target: Rows, name: str) -> None:
        self._source, self._target, self._name = source, target, name
        self._of_key = target.attempts_by_key()
        self._mine = source.attempts_by_key()
        self._match = _matched(source, target)
        self._taken = {each.number for each in self._match.values()}

    # --- what contradicts -------------------------------------------------------------------

    def check(self) -> None:
        """Raise JournalError if both journals cannot be true."""
        found = [*self._contradictions(), *self._taken_ids()]
        if found:
            more = len(found) - _SHOWN
            shown = "; ".join(found[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            jobs = counted(len(found), "contradiction")
            raise JournalError(f"{jobs}, so nothing was copied: {shown}", path=self._name)

    def _contradictions(self) -> Iterator[str]:
        for key, job in self._source.jobs.items():
            there = self._target.jobs.get(key)
            if there is None:
                continue
            if self._new(key) and any(a.number not in self._taken for a in self._of_key[key]):
                yield f"{key} is another job there"
            elif there["state"] != job["state"] and _ended(there) and _ended(job):
                yield f"{key} is {job['state']}, and {there['state']} there"
        for number, there_too in self._match.items():
            here = self._source.attempts[number]
            for name in ("request_id", "credits_charged"):
                mine, theirs = here.values[name], there_too.values[name]
                if mine != theirs and None not in (mine, theirs):
                    words = name.replace("_", " ")
                    yield f"{here.key or 'a forgotten job'} has the {words} {mine}, {theirs} there"

    def _taken_ids(self) -> Iterator[str]:
        holders: dict[str, list[AttemptRow]] = defaultdict(list)
        for each in self._target.attempts.values():
            if each.values["request_id"] is not None:
                holders[each.values["request_id"]].append(each)
        for number, each in self._source.attempts.items():
            for holder in holders.get(each.values["request_id"], ()):
                origins = {each.values["origin"], holder.values["origin"]}
                if holder is not self._match.get(number) and (len(origins) == 1 or "" in origins):
                    yield f"the id {each.values['request_id']} is that of {holder.key} there"

    def _new(self, key: str) -> list[AttemptRow]:
        """The attempts of a job that the target does not have."""
        return [each for each in self._mine[key] if each.number not in self._match]

    # --- what is written --------------------------------------------------------------------

    def write(self, database: Database) -> Copied:
        """Write what the target does not have."""
        sql = database.sql
        new_jobs = [key for key in self._source.jobs if key not in self._target.jobs]
        for key in new_jobs:
            sql.insert("jobs", {"key": key, **self._source.jobs[key], "attempt": 0})
        numbers = {number: each.number for number, each in self._match.items()}
        for number, each in self._source.attempts.items():
            if number in self._match:
                self._learn(sql, each, self._match[number])
            else:
                numbers[number] = _insert(sql, each)
        for key in new_jobs:
            self._set_attempt(sql, key, numbers)
        for key in self._source.jobs:
            if key in self._target.jobs:
                self._learn_job(sql, key, numbers)
        for kind, credits in {**self._source.prices, **self._target.prices}.items():
            dearest = max(credits, self._source.prices.get(kind, 0))
            database.spending.learn(kind, dearest)
        return Copied(
            jobs=len(new_jobs),
            known=len(self._source.jobs) - len(new_jobs),
            attempts=len(self._source.attempts) - len(self._match),
            has_secret=self._give_secret(sql),
        )

    def _learn(self, sql: Statements, mine: AttemptRow, theirs: AttemptRow) -> None:
        """Write what is known of an attempt here, and not there."""
        is_ahead = _knowledge(mine) > _knowledge(theirs)
        new = {
            name: value
            for name, value in mine.values.items()
            if value is not None and (theirs.values[name] is None or is_ahead)
        }
        new = {name: value for name, value in new.items() if value != theirs.values[name]}
        if new:
            sql.change("attempts", theirs.number, new)
        if theirs.key is None and mine.key is not None:
            sql.run(
                "UPDATE attempts SET job = (SELECT number FROM jobs WHERE key = ?) "
                "WHERE number = ?",
                *(mine.key, theirs.number),
            )

    def _learn_job(self, sql: Statements, key: str, numbers: Mapping[int, int]) -> None:
        """Write what is known of a job here, and not there."""
        mine, theirs = self._source.jobs[key], self._target.jobs[key]
        if self._new(key):
            _change_job(sql, key, mine)
            self._set_attempt(sql, key, numbers)
            return
        new: dict[str, Any] = {}
        has_gone_on = any(each.number not in self._taken for each in self._of_key[key])
        is_news = job_rank(mine["state"]) > job_rank(theirs["state"])
        if is_news and (_ended(mine) or not has_gone_on):
            new = {name: mine[name] for name in ("state", "error", "output_url", "updated_at")}
        if theirs["path"] is None and mine["path"] is not None:
            new |= {name: mine[name] for name in ("path", "size", "sha256")}
        if new:
            _change_job(sql, key, new)

    def _set_attempt(self, sql: Statements, key: str, numbers: Mapping[int, int]) -> None:
        last = self._source.last_attempts[key]
        own = [each.number for each in self._mine[key]]
        number = last if last in own else max(own, default=None)
        _change_job(sql, key, {"attempt": numbers[number] if number is not None else 0})

    def _give_secret(self, sql: Statements) -> bool:
        if self._source.secret == self._target.secret:
            return True
        if self._target.jobs or self._target.attempts:
            return False
        sql.run("UPDATE secret SET value = ?", self._source.secret)
        return True


def _ended(job: Mapping[str, Any]) -> bool:
    return job["state"] in ENDED_STATES


def _knowledge(attempt: AttemptRow) -> tuple[int, float]:
    """How much is known of an attempt, and since when."""
    return ATTEMPT_STATES.index(attempt.values["state"]), attempt.values["settled_at"] or 0.0


def _insert(sql: Statements, attempt: AttemptRow) -> int:
    """Add an attempt; its number."""
    number = sql.next_number("attempts")
    values = {"number": number, **attempt.values}
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    sql.run(
        f"INSERT INTO attempts (job, {columns}) "  # noqa: S608
        f"VALUES ((SELECT number FROM jobs WHERE key = ?), {marks})",
        *(attempt.key, *values.values()),
    )
    return number


def _change_job(sql: Statements, key: str, values: Mapping[str, Any]) -> None:
    columns = ", ".join(f"{name} = ?" for name in values)
    sql.run(f"UPDATE jobs SET {columns} WHERE key = ?", *values.values(), key)  # noqa: S608


def _matched(source: Rows, target: Rows) -> dict[int, AttemptRow]:
    """By the number of an attempt here, the same attempt there."""
    pool = _Pool(target.attempts.values())
    found: dict[int, AttemptRow] = {}
    for same in (_Pool.of_key, _Pool.forgotten, _Pool.of_any):
        for number, each in source.attempts.items():
            if number not in found and (match := same(pool, each)) is not None:
                found[number] = match
    return found


class _Pool:
    """The attempts of the target that are not matched yet."""

    def __init__(self, attempts: Iterable[AttemptRow]) -> None:
        self._left: dict[tuple[Any, ...], list[AttemptRow]] = defaultdict(list)
        for each in attempts:
            self._left[each.identity].append(each)

    def of_key(self, wanted: AttemptRow) -> AttemptRow | None:
        """One of the same job."""
        return self._take(wanted, lambda each: each.key == wanted.key)

    def forgotten(self, wanted: AttemptRow) -> AttemptRow | None:
        """One whose job was forgotten there."""
        return self._take(wanted, lambda each: each.key is None)

    def of_any(self, wanted: AttemptRow) -> AttemptRow | None:
        """Any, for one whose job was forgotten here."""
        return self._take(wanted, lambda each: wanted.key is None)

    def _take(self, wanted: AttemptRow, fits: Callable[[AttemptRow], bool]) -> AttemptRow | None:
        left = self._left.get(wanted.identity, [])
        fitting = sorted(
            filter(fits, left),
            key=lambda each: each.values["request_id"] != wanted.values["request_id"],
        )
        if not fitting:
            return None
        left.remove(fitting[0])
        return fitting[0]
