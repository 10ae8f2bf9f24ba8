"""`QueuedSession`: what a run asks of a session, where other processes make the jobs.

The queue tells the outcomes, and which keys workers have; the journal tells what these workers have
sent. From both a registry is kept, so that a run, its view and its events are those of any session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs

from seedance_async import (
    DownloadError,
    Event,
    GenerationRequest,
    Job,
    JobState,
    JournalError,
    SavedFile,
    SeedanceError,
    SessionStats,
    SubmitUncertainError,
)
from seedance_async.api.models import ErrorDetail, Generation, GenerationStatus, Submission
from seedance_async.cli.inputs import Line
from seedance_async.cli.queues.errors import refusal_of
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.cli.runs.journal_entries import state_of
from seedance_async.cli.runs.reworded import difference
from seedance_async.engines import Outcome, Queue, RunStatus
from seedance_async.jobs.events import EventEmitter
from seedance_async.jobs.job import JobActions
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import UNSETTLED_STATES
from seedance_async.jobs.stats import FinishTimes
from seedance_async.journal import JournalEntry

_log = logging.getLogger(__name__)

#: Seconds for which a journal that is away is waited for, and between two tries.
AWAY, PAUSE = 300.0, 1.0

#: Seconds that a last look into the journal may take.
LAST_LOOK = 5.0

#: Seconds without a worker after which that is said.
PATIENCE = 5.0


@attrs.frozen
class _Client:
    base_url: str


class QueuedSession:
    """The jobs of a run that workers make.

    Args:
        place: where the queue is.
        queue: open.
        run: its name.
        base_url: the API of the workers, as far as this process knows.
        on_event: called with each event.
        on_idle: called once if no worker takes the tasks.

    Attributes:
        sent_before: by key, what was sent before this run began.
        reworded: by key, what was made with another request than its line has.
    """

    def __init__(
        self,
        place: QueuePlace,
        queue: Queue,
        run: str,
        *,
        base_url: str,
        on_event: Callable[[Event], object],
        on_idle: Callable[[], object],
    ) -> None:
        self._place, self._queue, self._run = place, queue, run
        self.client, self.registry = _Client(base_url), TaskRegistry()
        self.sent_before: Mapping[str, JournalEntry] = {}
        self.reworded: dict[str, JournalEntry] = {}
        self._events = EventEmitter(on_event)
        self.registry.on_move = self._events.moved
        self._on_idle, self._has_told_idle = on_idle, False
        self._idle_since: float | None = None
        self._records: dict[str, JobRecord] = {}
        self._entries: dict[str, JournalEntry] = {}
        self._unsaved: dict[str, str] = {}
        self._times = FinishTimes()
        self._actions = JobActions(_nothing, self._download, _nothing, _nothing)

    async def __aenter__(self) -> QueuedSession:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the jobs to the workers, as they are now: what was sent is not said to wait."""
        unsettled = [key for key in self._records if self._is_unsettled(key)]
        try:
            async with asyncio.timeout(LAST_LOOK):
                found = await self._place.find(unsettled)
        except (JournalError, TimeoutError):
            return
        for key, entry in found.items():
            self._advance(self._records[key], entry)

    def stop_submitting(self, reason: SeedanceError) -> None:
        """Nothing: this process submits none, and workers go on."""

    async def recorded(self, key: str) -> JournalEntry | None:
        """What the journal has of a job."""
        known = self._entries.pop(key, None)
        return known or (await self._place.find([key])).get(key)

    def stats(self) -> SessionStats:
        """The figures at this moment, as far as this process has heard."""
        counts = self.registry.counts
        running = counts[JobState.QUEUED] + counts[JobState.PROCESSING]
        waiting: dict[Any, float] = {}
        if self._idle_since is not None and (idle := _now() - self._idle_since) >= PATIENCE:
            waiting["worker"] = idle
        return SessionStats(
            counts=counts,
            in_flight=running + counts[JobState.SUBMITTING],
            credits_charged=self.registry.credits_charged,
            credits_unknown=self.registry.credits_unknown,
            polls=0,
            refusals=0,
            finish_rate=self._times.rate(running),
            waiting=waiting,
        )

    async def follow(self, lines: Iterator[Line]) -> AsyncGenerator[tuple[Line, Job]]:
        """Each line with its job once that has its outcome; ends where the run has no more."""
        waiting = {line.key or "": line for line in lines}
        for key, line in waiting.items():
            record = self._records[key] = self.registry.add(key, line.request)
            if (earlier := self.sent_before.get(key)) is not None:
                self._advance(record, earlier)
        async for outcomes, status in self._queue.follow(run=self._run):
            new = [outcome for outcome in outcomes if outcome.key in waiting]
            await self._hear(new, status)
            for outcome in new:
                yield waiting.pop(outcome.key), Job(self._records[outcome.key], self._actions)
            if not waiting:
                return

    # --- what is heard ----------------------------------------------------------------------

    async def _hear(self, outcomes: Sequence[Outcome], status: RunStatus) -> None:
        self._note_idle(status)
        told = {outcome.key: outcome for outcome in outcomes}
        unsettled = [key for key in status.making if self._is_unsettled(key)]
        asked = {*unsettled, *(key for key, outcome in told.items() if outcome.sent)}
        found = await self._found(asked)
        for key, entry in found.items():
            self._advance(self._records[key], entry)
        for key, outcome in told.items():
            known = found.get(key)
            if known is not None:
                self._entries[key] = known
                request = self._records[key].request
                if request is not None and difference(known, request):
                    self.reworded[key] = known
            self._end(self._records[key], outcome, known)

    async def _found(self, keys: Collection[str]) -> Mapping[str, JournalEntry]:
        """What the journal has; while its database is away, that is waited for."""
        since = _now()
        while True:
            try:
                return await self._place.find(keys)
            except JournalError as error:
                if _now() - since >= AWAY:
                    raise
                _log.warning("the journal cannot be read now, and is tried again: %s", error)
                await asyncio.sleep(PAUSE)

    def _is_unsettled(self, key: str) -> bool:
        record = self._records.get(key)
        return record is not None and record.state in UNSETTLED_STATES

    def _note_idle(self, status: RunStatus) -> None:
        """Take note of how long there has been work that no worker takes."""
        if status.running or not status.waiting:
            self._idle_since = None
            return
        self._idle_since = _now() if self._idle_since is None else self._idle_since
        if _now() - self._idle_since >= PATIENCE and not self._has_told_idle:
            self._has_told_idle = True
            self._on_idle()

    def _advance(self, record: JobRecord, entry: JournalEntry) -> None:
        """Bring a job to where the journal has it; its end comes with its outcome."""
        if record.state not in UNSETTLED_STATES or state_of(entry) is JobState.REJECTED:
            return
        if entry.request_id is not None:
            self._accept(record, entry.request_id, entry)
        elif record.state is JobState.PENDING and state_of(entry) is JobState.SUBMITTING:
            self._submit(record)

    def _submit(self, record: JobRecord) -> None:
        self._events.submitted(record)
        self._events.release(record)
        self.registry.move(record, JobState.SUBMITTING)

    def _accept(self, record: JobRecord, request_id: str, entry: JournalEntry | None) -> None:
        charged = None if entry is None else entry.credits_charged
        if record.state is JobState.PENDING:
            earlier = self.sent_before.get(record.key)
            if earlier is not None and earlier.request_id == request_id:
                self.registry.resume(record, request_id, credits_charged=charged)
                return
            self.registry.move(record, JobState.SUBMITTING)
        accepted_at = None
        if entry is not None and state_of(entry).is_running:  # it was last written when accepted
            accepted_at = _now() - max(0.0, time.time() - entry.updated_at)
        submission = Submission(request_id, GenerationStatus.QUEUED, charged)
        self.registry.accept(record, submission, at=accepted_at)

    # --- outcomes ---------------------------------------------------------------------------

    def _end(self, record: JobRecord, outcome: Outcome, entry: JournalEntry | None) -> None:
        state, request_id = JobState(outcome.state), outcome.request_id
        if request_id is not None and record.state in UNSETTLED_STATES:
            self._accept(record, request_id, entry)
        if request_id is None:
            self._end_without_id(record, outcome, state)
        elif state.has_ended:
            self._ended_at_server(record, outcome, request_id)
        else:
            self.registry.move(record, JobState.ABANDONED, error=refusal_of(outcome))
        if record.accepted_at is not None and state.has_ended:
            self._times.note(_now() - record.accepted_at, 0)

    def _ended_at_server(self, record: JobRecord, outcome: Outcome, request_id: str) -> None:
        why = ErrorDetail(outcome.error) if outcome.error is not None else None
        status = GenerationStatus(outcome.state)
        self.registry.observe(record, Generation(request_id, status, error=why))
        if status is not GenerationStatus.SUCCEEDED:
            return
        entry = self._entries.get(record.key)
        if outcome.file is None:
            self._unsaved[record.key] = outcome.error or "its worker saves no videos"
            return
        size = entry.size if entry is not None else None
        record.saved = SavedFile.at(outcome.file, size or 0, outcome.sha256 or "")
        earlier = self.sent_before.get(record.key)
        if earlier is None or earlier.path is None:
            self._events.saved(record, record.saved)

    def _end_without_id(self, record: JobRecord, outcome: Outcome, state: JobState) -> None:
        if state is not JobState.UNCERTAIN:
            self.registry.move(record, JobState.REJECTED, error=refusal_of(outcome))
            return
        if record.state is JobState.PENDING:
            self.registry.move(record, JobState.SUBMITTING)
        assert isinstance(record.request, GenerationRequest)
        reason = outcome.error or "a worker ended between the submit and its answer"
        error = SubmitUncertainError(reason, request=record.request, key=record.key)
        self.registry.move(record, JobState.UNCERTAIN, error=error)

    async def _download(self, record: JobRecord, *_: object) -> SavedFile:
        reason = self._unsaved.get(record.key, "it is not where its worker has saved it")
        raise DownloadError(reason, request_id=record.request_id or "")


def _nothing(*_: object) -> Any:
    raise RuntimeError("a worker has this job")


def _now() -> float:
    return asyncio.get_running_loop().time()
