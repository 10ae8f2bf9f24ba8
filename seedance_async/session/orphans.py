"""Jobs that go on without their callers, for the next caller that asks for the same.

A program that gives up on a job and asks for the same again wants one video, not two.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs

from seedance_async.api.errors import frameless
from seedance_async.api.prepared_request import PreparedRequest
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import UNSETTLED_STATES, JobState

_log = logging.getLogger(__name__)

#: Seconds for which an equal request is taken for a retry, though the job has ended.
KEPT_SECONDS = 3600.0

#: Fingerprints to compute before other callbacks of the event loop have a turn.
_AT_ONCE = 100

#: States of a submit that is over and has brought no job: refused, or never sent.
_NOTHING = UNSETTLED_STATES | {JobState.REJECTED}

#: The key and the budget that a caller gave, if it gave any, and the fingerprint of its request.
_Name = tuple[str | None, str | None, str]


class Orphans:
    """The jobs of a session whose callers were cancelled, or left. Each is adopted once at most.

    An hour after that, an equal request is no retry any more, if the job has ended.

    Args:
        fingerprint: that of a request without files, as `PreparedRequest` has it.
    """

    def __init__(self, fingerprint: Callable[[GenerationRequest], str]) -> None:
        self._fingerprint = fingerprint
        self._by_name: dict[_Name, OrderedDict[JobRecord, _Orphan]] = {}
        self._tidied_at = -math.inf
        self._unsettled: dict[JobRecord, asyncio.Future[None]] = {}
        self._unnamed: deque[_Orphan] = deque()
        self._unwanted: set[JobRecord] = set()

    def add(self, record: JobRecord, prepared: PreparedRequest | None, *, settled: bool) -> None:
        """A job goes on without its caller.

        Args:
            record: the job.
            prepared: its request. None if there are many: their fingerprints are only computed if
                something is submitted after that.
            settled: whether the outcome of its submit is known already.
        """
        loop = asyncio.get_running_loop()
        if not settled:
            self._unsettled[record] = loop.create_future()
        orphan = _Orphan(record, until=loop.time() + KEPT_SECONDS)
        if prepared is None:
            self._unnamed.append(orphan)
        else:
            self._tidy(loop.time())
            self._keep(_name(prepared), orphan)

    def settle(self, record: JobRecord) -> None:
        """The outcome of a submit is known, and on its way to the journal."""
        settled = self._unsettled.pop(record, None)
        if settled is not None:
            settled.set_result(None)

    def cancelled(self, record: JobRecord) -> None:
        """This session cancels a job: an equal request after that asks for another."""
        self._unwanted.add(record)

    async def adopt(self, prepared: PreparedRequest) -> JobRecord | None:
        """The job of an equal request with the same key and budget, or with none like this one.

        Waits until the outcome of its submit is known; None if there is no such job.

        Raises:
            SubmitUncertainError: its outcome is that nobody knows.
        """
        if self._unnamed:
            await self._name_all()
        name = _name(prepared)
        while name in self._by_name:
            record, orphan = self._by_name[name].popitem(last=False)
            if not self._by_name[name]:
                del self._by_name[name]
            if self._is_over(orphan, asyncio.get_running_loop().time()):
                continue
            try:
                if record in self._unsettled:
                    await asyncio.shield(self._unsettled[record])
            except asyncio.CancelledError:
                self._keep(name, orphan)
                self._by_name[name].move_to_end(record, last=False)
                raise
            if record.state is JobState.UNCERTAIN and record.error is not None:
                raise frameless(record.error)
            if record.state not in _NOTHING:
                return record
        return None

    def _keep(self, name: _Name, orphan: _Orphan) -> None:
        self._by_name.setdefault(name, OrderedDict())[orphan.record] = orphan

    async def _name_all(self) -> None:
        while self._unnamed:
            orphan = self._unnamed.popleft()
            if orphan.record.request is None or orphan.record.state is JobState.REJECTED:
                continue  # it was attached by its id; or its request may be none at all
            try:
                self._keep(self._name_of(orphan.record, orphan.record.request), orphan)
            except Exception as error:  # of the user's `media_key`
                key = orphan.record.key
                _log.warning("job %s cannot be given to a retry of its request: %r", key, error)
            if len(self._unnamed) % _AT_ONCE == 0:
                await asyncio.sleep(0)
        self._tidy(asyncio.get_running_loop().time())

    def _name_of(self, record: JobRecord, request: GenerationRequest) -> _Name:
        fingerprint = record.fingerprint or self._fingerprint(request)
        return None if record.has_automatic_key else record.key, None, fingerprint

    def _tidy(self, now: float) -> None:
        """Forget those that nobody gets any more; once in a while, since all are looked at."""
        if now < self._tidied_at + KEPT_SECONDS:
            return
        self._tidied_at = now
        for name, orphans in list(self._by_name.items()):
            for record in [each.record for each in orphans.values() if self._is_over(each, now)]:
                del orphans[record]
            if not orphans:
                del self._by_name[name]
        self._unwanted = {record for record in self._unwanted if not record.state.has_ended}

    def _is_over(self, orphan: _Orphan, now: float) -> bool:
        """Whether an equal request is a new one, and no retry of this."""
        state = orphan.record.state
        if state is JobState.CANCELLED and orphan.record in self._unwanted:
            return True
        return state is JobState.REJECTED or (state.has_ended and now >= orphan.until)


def _name(prepared: PreparedRequest) -> _Name:
    return prepared.key, prepared.budget, prepared.fingerprint


@attrs.frozen(eq=False)
class _Orphan:
    """A job that goes on without its caller, or has ended since."""

    record: JobRecord
    until: float
