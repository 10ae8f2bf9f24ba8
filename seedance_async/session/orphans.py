"""Submits that go on without their callers, for the next caller that asks for the same.

A program that gives up on a submit and asks for the same again wants one video, not two.
"""

from __future__ import annotations

import asyncio

import attrs

from seedance_async.api.errors import frameless
from seedance_async.api.prepared_request import PreparedRequest
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import JobState

#: Seconds for which an equal request is taken for a retry, though the job has ended.
KEPT_SECONDS = 3600.0

#: So many are not looked through for those that are over.
MANY = 100

#: The key and the budget that a caller gave, if it gave any, and the fingerprint of its request.
_Name = tuple[str | None, str | None, str]


class Orphans:
    """The submits of a session whose callers were cancelled. Each is adopted once at most.

    An hour after that, an equal request is no retry any more, if the job has ended.
    """

    def __init__(self) -> None:
        self._by_name: dict[_Name, list[_Orphan]] = {}
        self._tidy_at = MANY
        self._unsettled: dict[JobRecord, asyncio.Future[None]] = {}

    def add(self, record: JobRecord, prepared: PreparedRequest, *, settled: bool) -> None:
        """A job goes on without its caller.

        Args:
            record: the job.
            prepared: its request.
            settled: whether the outcome of its submit is known already.
        """
        loop = asyncio.get_running_loop()
        self._unsettled[record] = loop.create_future()
        orphan = _Orphan(record, self._unsettled[record], until=loop.time() + KEPT_SECONDS)
        self._tidy(loop.time())
        self._by_name.setdefault(_name(prepared), []).append(orphan)
        if settled:
            self.settle(record)

    def settle(self, record: JobRecord) -> None:
        """The outcome of a submit is known, and on its way to the journal."""
        settled = self._unsettled.pop(record, None)
        if settled is not None:
            settled.set_result(None)

    async def adopt(self, prepared: PreparedRequest) -> JobRecord | None:
        """The job of an equal request with the same key and budget, or with none like this one.

        Waits until the outcome of its submit is known; None if there is no such job.

        Raises:
            SubmitUncertainError: its outcome is that nobody knows.
        """
        name = _name(prepared)
        while name in self._by_name:
            first, *others = self._by_name.pop(name)
            if others:
                self._by_name[name] = others
            if first.is_over(asyncio.get_running_loop().time()):
                continue
            try:
                await asyncio.shield(first.settled)
            except asyncio.CancelledError:
                self._by_name.setdefault(name, []).insert(0, first)
                raise
            record = first.record
            if record.state is JobState.UNCERTAIN and record.error is not None:
                raise frameless(record.error)
            if record.state is not JobState.REJECTED:
                return record
        return None

    def _tidy(self, now: float) -> None:
        """Forget those that nobody gets any more, once there are many more than there were."""
        if len(self._by_name) < self._tidy_at:
            return
        kept = {
            name: [each for each in orphans if not each.is_over(now)]
            for name, orphans in self._by_name.items()
        }
        self._by_name = {name: orphans for name, orphans in kept.items() if orphans}
        self._tidy_at = MANY + 2 * len(self._by_name)


def _name(prepared: PreparedRequest) -> _Name:
    return prepared.key, prepared.budget, prepared.fingerprint


@attrs.frozen(eq=False)
class _Orphan:
    """A submit that goes on without its caller; `settled` ends when its outcome is known."""

    record: JobRecord
    settled: asyncio.Future[None]
    until: float

    def is_over(self, now: float) -> bool:
        """Whether an equal request is a new one, and no retry of this."""
        state = self.record.state
        return state is JobState.REJECTED or (state.has_ended and now >= self.until)
