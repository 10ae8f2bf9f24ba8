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


class Orphans:
    """The submits of a session whose callers were cancelled. Each is adopted once at most."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[str | None, str], list[_Orphan]] = {}
        self._unsettled: dict[JobRecord, asyncio.Future[None]] = {}

    def add(self, record: JobRecord, prepared: PreparedRequest, *, settled: bool) -> None:
        """A job goes on without its caller.

        Args:
            record: the job.
            prepared: its request.
            settled: whether the outcome of its submit is known already.
        """
        self._unsettled[record] = asyncio.get_running_loop().create_future()
        orphan = _Orphan(record, self._unsettled[record])
        self._by_name.setdefault(_name(prepared), []).append(orphan)
        if settled:
            self.settle(record)

    def settle(self, record: JobRecord) -> None:
        """The outcome of a submit is known, and on its way to the journal."""
        settled = self._unsettled.pop(record, None)
        if settled is not None:
            settled.set_result(None)

    async def adopt(self, prepared: PreparedRequest) -> JobRecord | None:
        """The job of an equal request with the same key, or with none like this one.

        Waits until the outcome of its submit is known; None if there is no such job.

        Raises:
            SubmitUncertainError: its outcome is that nobody knows.
        """
        orphans = self._by_name.get(_name(prepared), [])
        while orphans:
            orphan = orphans.pop(0)
            try:
                await asyncio.shield(orphan.settled)
            except asyncio.CancelledError:
                orphans.insert(0, orphan)
                raise
            record = orphan.record
            if record.state is JobState.UNCERTAIN and record.error is not None:
                raise frameless(record.error)
            if record.state is not JobState.REJECTED:
                return record
        return None


def _name(prepared: PreparedRequest) -> tuple[str | None, str]:
    return prepared.key, prepared.fingerprint


@attrs.frozen(eq=False)
class _Orphan:
    """A submit that goes on without its caller, and the future that ends when it is settled."""

    record: JobRecord
    settled: asyncio.Future[None]
