"""Jobs by the keys that their callers gave, for the next caller that has the same key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from seedance_async.api.errors import InvalidRequestError, frameless
from seedance_async.api.prepared_request import PreparedRequest, Preparer
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import UNSETTLED_STATES, JobState
from seedance_async.session.resumer import Resumer

if TYPE_CHECKING:
    from seedance_async.session.journaling import JournalRecorder


class RunningKeys:
    """The jobs of a session that have not ended, by their keys.

    Args:
        registry, preparer, resumer: the session's.
        journal: the session's; None where it has none.
    """

    def __init__(
        self,
        registry: TaskRegistry,
        preparer: Preparer,
        resumer: Resumer,
        journal: JournalRecorder | None,
    ) -> None:
        self._registry, self._preparer = registry, preparer
        self._resumer, self._journal = resumer, journal

    async def find(self, key: str, prepared: PreparedRequest) -> JobRecord | None:
        """The job of this session with a key, once its submit has an outcome; None if none has it.

        Raises:
            SeedanceError: its submit was refused, or is in doubt.
            ValueError: it is a job of another request.
        """
        while True:
            record = self._registry.find(key=key)
            if record is None:
                return None
            if not self.is_same(record, prepared):
                raise ValueError(f"the key {key!r} belongs to another job that has not ended")
            await self._has_outcome(record)
            if record.state in UNSETTLED_STATES:
                continue  # its caller was cancelled before anything was sent
            if record.state in (JobState.REJECTED, JobState.UNCERTAIN) and record.error is not None:
                raise frameless(record.error)
            await self._resumer.recorded(record)
            if self._journal is not None:
                await self._journal.written()
            return record

    async def _has_outcome(self, record: JobRecord) -> None:
        """Wait until the submit of a job has an outcome, or the job is forgotten."""
        moved = asyncio.Event()

        def forgotten(_: JobRecord) -> None:
            moved.set()

        self._registry.watch_moves(record, moved.set)
        record.on_final(forgotten)
        try:
            while (
                record.state in UNSETTLED_STATES and self._registry.find(key=record.key) is record
            ):
                moved.clear()
                await moved.wait()
        finally:
            record.forget(forgotten)
            self._registry.unwatch_moves(record, moved.set)

    def is_same(self, record: JobRecord, prepared: PreparedRequest) -> bool:
        """Whether a job's request is this one, perhaps with media URLs that are signed anew."""
        if record.fingerprint is not None:
            return record.fingerprint == prepared.fingerprint
        if record.request is None or record.request == prepared.request:
            return True
        try:
            return self._preparer.fingerprint(record.request) == prepared.fingerprint
        except InvalidRequestError:  # its files are no longer where they were
            return False
