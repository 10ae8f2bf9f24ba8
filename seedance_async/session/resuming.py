"""Taking up jobs that were submitted before: by another run, another process, or uncertainly.

What tells of such a job is a token, a journal's entry or a callback; here it becomes a record of
this session that is polled to its end. Nothing here submits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from seedance_async.api import protocol
from seedance_async.api.errors import JournalError, SubmitUncertainError
from seedance_async.api.models import ErrorDetail, Generation, GenerationStatus, Submission
from seedance_async.jobs.job import JobToken
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, SavedFile, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.telling import Telling
from seedance_async.session.journaling import Books

if TYPE_CHECKING:
    from seedance_async.journal import JournalEntry

_log = logging.getLogger(__name__)

_ENDED = {"succeeded", "failed", "cancelled"}


class Resumer:
    """Takes up jobs, one call a job.

    Args:
        registry, poller, books, events: the session's.
        joined: called for each job that is running though no submit of this session started it.
        changed: set when a job that was taken up has ended.
    """

    def __init__(
        self,
        *,
        registry: TaskRegistry,
        poller: Poller,
        books: Books,
        telling: Telling,
        joined: Callable[[], None],
        changed: asyncio.Event,
    ) -> None:
        self._registry, self._poller, self._books = registry, poller, books
        self._telling = telling
        self._joined, self._changed = joined, changed

    async def attach(self, reference: str, settled: Callable[[JobRecord], None]) -> JobRecord:
        """The job that a request id or a token names; see `SeedanceSession.attach`.

        Args:
            reference: a request id or a `Job.token`.
            settled: called once the job has its id.
        """
        token = JobToken.parse(reference)
        protocol.build_get(token.request_id)  # refuses what cannot be an id
        known = None if token.key is None else await self._books.find(token.key)
        record = self._registry.find(request_id=token.request_id)
        if record is not None:
            return record
        record = self._registry.find(key=token.key)
        if record is None:
            record = self._registry.add(token.key or f"attached-{token.request_id}", None)
        elif record.state is not JobState.UNCERTAIN:
            raise ValueError(f"the key {token.key!r} belongs to another job, {record!r}")
        charged = None if known is None else known.credits_charged
        with self._telling.holding(record):
            self._registry.take_up(record, token.request_id, credits_charged=charged)
            settled(record)
            await self._follow(record, token.key)
        return record

    async def found(self, record: JobRecord, request_id: str) -> None:
        """Go on with an uncertain job: a callback told its id, and a query has confirmed it.

        Raises:
            ValueError: the id belongs to another job; nothing is changed.
        """
        self._books.check_new(record, request_id)
        with self._telling.holding(record):
            self._registry.accept(record, Submission(request_id, GenerationStatus.QUEUED))
            _log.warning(
                "job %s, whose submit was uncertain, goes on: a callback told its id, %s",
                record.key,
                request_id,
            )
            try:
                await self._follow(record, record.key)
            except JournalError as error:
                told = "job %s is %s, and that is NOT on record: %s"
                _log.critical(told, record.key, request_id, error)

    async def take_up(self, record: JobRecord, known: JournalEntry) -> None:
        """Go on with a job that an earlier run has sent.

        Raises:
            SubmitUncertainError: nobody knows whether the server accepted it.
            JournalError: its id belongs to another job.
        """
        self._books.take_over(record)
        if known.path is not None and known.size is not None and known.sha256 is not None:
            record.saved = SavedFile(Path(known.path), known.size, known.sha256)
        if known.request_id is None:
            await self._tell_uncertain(record, known)
            return
        try:
            self._registry.take_up(record, known.request_id, credits_charged=known.credits_charged)
        except ValueError as error:
            raise JournalError(str(error)) from error
        if known.state in _ENDED:
            self._registry.observe(record, _as_told(known, known.request_id))
        else:
            self._books.follow(record)
            self._joined()
            self._poller.watch(record, at_once=True)

    async def _follow(self, record: JobRecord, key: str | None) -> None:
        """Poll a job whose id was learnt; what becomes of it goes to the entry with `key`."""
        record.on_final(lambda _: self._changed.set())
        self._joined()
        self._poller.watch(record, at_once=True)
        if key is not None and await self._books.find(key) is not None:
            self._books.take_over(record)
            self._books.follow(record)
            await self._books.write(record)

    async def _tell_uncertain(self, record: JobRecord, known: JournalEntry) -> None:
        assert record.request is not None
        reason = known.error or "the process ended between the submit and its answer"
        error = SubmitUncertainError(reason, request=record.request, key=record.key)
        self._registry.move(record, JobState.SUBMITTING)
        self._registry.move(record, JobState.UNCERTAIN, error=error)
        await self._books.write_outcome(record)
        raise error


def _as_told(known: JournalEntry, request_id: str) -> Generation:
    """The end of a job as the journal has it; its URL, which is not kept, comes with a query."""
    error = ErrorDetail(known.error) if known.error is not None else None
    return Generation(request_id, GenerationStatus(known.state), error=error)
