"""Resuming jobs that were submitted before: by another run, by another process, or uncertainly.

A token, a journal's entry or a callback names such a job; here it becomes a record of this session
that is polled to its end. Nothing here submits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import attrs

from seedance_async._utils.cancellation import shielded
from seedance_async.api import protocol
from seedance_async.api.errors import JournalError, SubmitUncertainError
from seedance_async.api.models import ErrorDetail, Generation, GenerationStatus, Submission
from seedance_async.jobs.job import JobToken
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, SavedFile, TaskRegistry
from seedance_async.jobs.state import ENDED_STATES, JobState

if TYPE_CHECKING:
    from seedance_async.jobs.events import EventEmitter
    from seedance_async.journal import JournalEntry
    from seedance_async.session.journaling import JournalRecorder

_log = logging.getLogger(__name__)


class Resumer:
    """Resumes jobs, one call per job.

    Args:
        registry, poller: the session's.
        journal, events: the session's; None where it has none.
        job_started: called for each job that is running although no submit of this session
            started it.
        changed: set when a job that was resumed has ended.
        leave_late: leaves a job, if the session was left while it was looked up.
    """

    def __init__(
        self,
        *,
        registry: TaskRegistry,
        poller: Poller,
        journal: JournalRecorder | None,
        events: EventEmitter | None,
        job_started: Callable[[], None],
        changed: asyncio.Event,
        leave_late: Callable[[JobRecord], None],
    ) -> None:
        self._registry, self._poller, self._journal = registry, poller, journal
        self._events, self._job_started, self._changed = events, job_started, changed
        self._leave_late = leave_late
        self._recording: dict[JobRecord, asyncio.Task[None]] = {}

    async def attach(
        self, reference: str, settled: Callable[[JobRecord], None] | None
    ) -> JobRecord:
        """The job that a request id or a token names; see `SeedanceSession.attach`.

        Args:
            reference: a request id or a `Job.token`.
            settled: called once the job has its id.
        """
        token = self._with_key(JobToken.parse(reference))
        protocol.build_get(token.request_id)  # refuses what cannot be an id
        known = await self._known(token.key)
        if known is not None and known.request_id not in (None, token.request_id):
            raise ValueError(f"the key {token.key!r} belongs to the job {known.request_id}")
        record = self._registry.find(request_id=token.request_id)
        if record is not None:
            await self.recorded(record)
            return record
        record = self._registry.find(key=token.key)
        if record is None:
            record = self._registry.add(token.key or f"attached-{token.request_id}", None)
        elif record.state is not JobState.UNCERTAIN:
            raise ValueError(f"the key {token.key!r} belongs to another job, {record!r}")
        charged = None if known is None else known.credits_charged
        with nullcontext() if self._events is None else self._events.holding(record):
            self._registry.resume(record, token.request_id, credits_charged=charged)
            if settled is not None:
                settled(record)
            await self._follow(record, token.key)
        return record

    async def resolve(self, record: JobRecord, request_id: str) -> None:
        """Continue an uncertain job: a callback named its id, and a query has confirmed it.

        Raises:
            ValueError: the id belongs to another job; nothing is changed.
        """
        if self._journal is not None:
            self._journal.check_new(record, request_id)
        with nullcontext() if self._events is None else self._events.holding(record):
            self._registry.accept(record, Submission(request_id, GenerationStatus.QUEUED))
            _log.warning(
                "job %s, whose submit was uncertain, goes on: a callback named its id, %s",
                record.key,
                request_id,
            )
            try:
                await self._follow(record, record.key)
            except JournalError as error:
                message = "job %s is %s, and that is NOT on record: %s"
                _log.critical(message, record.key, request_id, error)

    async def on_record(self, key: str) -> JobRecord | None:
        """A job as the journal has it, which is not resumed; None if it is not in the journal.

        Raises:
            JournalError: it belongs to a job of another API.
        """
        known = None if self._journal is None else await self._journal.find(key)
        if known is None:
            return None
        record = JobRecord(key, None, JobState(known.state), known.request_id)
        record.credits_charged, record.saved = known.credits_charged, _saved_file(known)
        if known.request_id is not None and known.state in ENDED_STATES:
            record.generation = _ended_generation(known, known.request_id)
        return record

    async def resume(self, record: JobRecord, known: JournalEntry) -> None:
        """Continue a job that an earlier run has submitted.

        Raises:
            SubmitUncertainError: nobody knows whether the server accepted it.
            JournalError: its id belongs to another job.
        """
        assert self._journal is not None
        self._journal.adopt(record, known)
        record.saved = _saved_file(known)
        if known.request_id is None:
            await self._report_uncertain(self._journal, record, known)
            return
        try:
            self._registry.resume(record, known.request_id, credits_charged=known.credits_charged)
        except ValueError as error:
            raise JournalError(str(error)) from error
        if known.state in ENDED_STATES:
            self._registry.observe(record, _ended_generation(known, known.request_id))
        else:
            self._journal.follow(record)
            self._job_started()
            self._poller.watch(record, at_once=True)

    def _with_key(self, token: JobToken) -> JobToken:
        """The token with the key under which the journal knows its job.

        Raises:
            ValueError: the token's key is another job's in the journal.
        """
        key = None if self._journal is None else self._journal.key_of(token.request_id)
        if key is None:
            return token
        if token.key not in (None, key):
            raise ValueError(f"job {token.request_id} has the key {key!r}, not {token.key!r}")
        return attrs.evolve(token, key=key)

    async def _known(self, key: str | None) -> JournalEntry | None:
        return None if key is None or self._journal is None else await self._journal.find(key)

    async def _follow(self, record: JobRecord, key: str | None) -> None:
        """Poll a job whose id was learned, and record it, in the journal's entry with this key."""
        record.on_final(lambda _: self._changed.set())
        self._job_started()
        self._poller.watch(record, at_once=True)
        try:
            if self._journal is not None:
                await self._recorded_by_task(self._journal, record, key)
        finally:
            self._leave_late(record)

    async def _recorded_by_task(
        self, journal: JournalRecorder, record: JobRecord, key: str | None
    ) -> None:
        recording = asyncio.create_task(self._record(journal, record, key))
        self._recording[record] = recording
        try:
            await shielded(recording)
        finally:
            del self._recording[record]

    async def _record(self, journal: JournalRecorder, record: JobRecord, key: str | None) -> None:
        known = await self._known(key)
        if known is None:
            assert record.request_id is not None
            await journal.record_attached(record, record.request_id)
        else:
            journal.adopt(record, known)
        journal.follow(record)
        await journal.write(record)
        if record.state.is_final:  # it has ended meanwhile, and that is being written
            await journal.written()

    async def recorded(self, record: JobRecord) -> None:
        """Wait while the id of a job, learned elsewhere, is being recorded, or refused."""
        if record in self._recording:
            await asyncio.wait([self._recording[record]])

    async def _report_uncertain(
        self, journal: JournalRecorder, record: JobRecord, known: JournalEntry
    ) -> None:
        assert record.request is not None
        reason = known.error or "the process ended between the submit and its answer"
        error = SubmitUncertainError(reason, request=record.request, key=record.key)
        if record.state is JobState.PENDING:
            self._registry.move(record, JobState.SUBMITTING)
        self._registry.move(record, JobState.UNCERTAIN, error=error)
        await journal.write_outcome(record)
        raise error


def _saved_file(known: JournalEntry) -> SavedFile | None:
    """Where a job's video was saved."""
    if known.path is None or known.size is None or known.sha256 is None:
        return None
    return SavedFile.at(known.path, known.size, known.sha256)


def _ended_generation(known: JournalEntry, request_id: str) -> Generation:
    """The end of a job as the journal has it; its URL, which is not kept, comes with a query."""
    error = ErrorDetail(known.error) if known.error is not None else None
    return Generation(request_id, GenerationStatus(known.state), error=error)
