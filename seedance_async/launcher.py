"""The life of a job from a request to the server's acceptance, with its money and its books.

In this order, and each step only after the one before: what an earlier run knows of the job, the
credits set aside, the intent on disk, the POST, the id in the registry, the acceptance on disk.
Slots, streams and the session's own life are the session's.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seedance_async import protocol
from seedance_async.books import Books
from seedance_async.client import Late, SeedanceClient
from seedance_async.errors import JournalError, SeedanceError, SubmitUncertainError
from seedance_async.models import (
    ErrorDetail,
    Generation,
    GenerationRequest,
    GenerationStatus,
    SavedFile,
    Submission,
)
from seedance_async.poller import Poller
from seedance_async.registry import JobRecord, JobState, TaskRegistry
from seedance_async.shielding import surely
from seedance_async.spend import Reservation, SpendGuard
from seedance_async.webhooks import Hints

if TYPE_CHECKING:
    from seedance_async.journal import JournalEntry

_log = logging.getLogger(__name__)

_ENDED = {"succeeded", "failed", "cancelled"}
_UNKNOWN = {"submitting", "uncertain"}


class Launcher:
    """Submits jobs, one call a job.

    Args:
        client, registry, poller, books, hints: the session's.
        resubmit_uncertain: submit again what an earlier run left uncertain. It may pay twice.
    """

    def __init__(
        self,
        *,
        client: SeedanceClient,
        registry: TaskRegistry,
        poller: Poller,
        books: Books,
        hints: Hints,
        resubmit_uncertain: bool = False,
    ) -> None:
        self._client, self._registry = client, registry
        self._poller, self._books, self._hints = poller, books, hints
        self._resubmit_uncertain = resubmit_uncertain
        self.guard: SpendGuard | None = None

    async def launch(self, record: JobRecord) -> None:
        """From a pending job to one that the server has accepted, or that has ended.

        Raises:
            SeedanceError: how the submit ended; the record says the same.
            CancelledError: the job never was, or what became of it is in the registry.
        """
        request = record.request
        try:
            assert request is not None
            protocol.check(request, allow_local=self._client.allow_local)
            known = await self._books.find(record.key)
            if known is not None and not self._may_submit(known):
                await self._take_up(record, known)
                return
            await self._submit(record, request, known)
        except SeedanceError as error:
            if record.state in (JobState.PENDING, JobState.SUBMITTING):
                self._registry.move(record, JobState.REJECTED, error=error)
            raise
        finally:
            if record.state in (JobState.PENDING, JobState.SUBMITTING):  # cancelled: nothing sent
                self._books.never_sent(record)
                self._hints.forget(record)
                self._registry.discard(record)

    def _may_submit(self, known: JournalEntry) -> bool:
        return known.state == "rejected" or (known.state in _UNKNOWN and self._resubmit_uncertain)

    async def _submit(
        self, record: JobRecord, request: GenerationRequest, known: JournalEntry | None
    ) -> None:
        reservation = await self.guard.reserve(request) if self.guard is not None else None
        settle = _Settlement(self.guard, reservation)
        try:
            credits = reservation.counts if reservation is not None else 0
            await surely(self._books.intend(record, known, credits))
            self._registry.move(record, JobState.SUBMITTING)
            late = partial(self._late, record, settle)
            outcome: Late
            try:
                dressed = self._hints.dress(record, request)
                outcome = await self._client.create(dressed, if_cancelled=late)
            except SeedanceError as error:
                outcome = error
            self._settle(record, settle, outcome)
        finally:
            settle.never_sent()
        try:
            await self._write(record)
        finally:
            self._hints.settled(record)
        if record.error is not None:
            raise record.error

    async def _write(self, record: JobRecord) -> None:
        """Have the outcome of a submit on disk before anybody is told of it."""
        try:
            await surely(self._books.write(record))
        except JournalError as error:
            _log.critical(
                "job %s is %s, with the request id %s, and that is NOT on record: %s",
                record.key, record.state, record.request_id, error,
            )  # fmt: skip
            if record.error is None:
                error.request_id = record.request_id
                raise

    def _settle(self, record: JobRecord, settle: _Settlement, outcome: Late) -> None:
        """Take in what became of a submit."""
        if isinstance(outcome, Submission):
            try:
                self._books.check_new(record, outcome.request_id)
                self._registry.accept(record, outcome)
            except ValueError as error:
                assert record.request is not None
                outcome = SubmitUncertainError(
                    str(error), request=record.request, request_id=outcome.request_id
                )
            else:
                settle.charged(outcome.credits_charged)
                if outcome.credits_charged is None:
                    _log.warning("job %s: the server told no usable charge", outcome.request_id)
                record.on_final(self._books.write_soon)
                self._poller.watch(record)
                return
        if isinstance(outcome, SubmitUncertainError):
            settle.charged(None)
            assert record.request is not None
            outcome.key, outcome.request = record.key, record.request  # not as it was sent
            _log.error("job %s: %s", record.key, outcome)
            self._registry.move(record, JobState.UNCERTAIN, error=outcome)
        else:
            self._registry.move(record, JobState.REJECTED, error=outcome)

    def _late(self, record: JobRecord, settle: _Settlement, outcome: Late) -> None:
        """Take in what became of a submit whose caller was cancelled."""
        self._settle(record, settle, outcome)
        self._books.write_soon(record)
        self._hints.settled(record)
        if record.request_id is not None:
            _log.warning(
                "job %s was accepted though its caller was cancelled; it goes on", record.request_id
            )

    # --- what an earlier run has left ---------------------------------------------------------

    async def _take_up(self, record: JobRecord, known: JournalEntry) -> None:
        """Go on with a job that an earlier run has sent; nothing is submitted."""
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
            record.on_final(self._books.write_soon)
            self._poller.watch(record, at_once=True)

    async def _tell_uncertain(self, record: JobRecord, known: JournalEntry) -> None:
        assert record.request is not None
        reason = known.error or "the process ended between the submit and its answer"
        error = SubmitUncertainError(reason, request=record.request, key=record.key)
        self._registry.move(record, JobState.SUBMITTING)
        self._registry.move(record, JobState.UNCERTAIN, error=error)
        await self._write(record)
        raise error


class _Settlement:
    """A reservation that is ended exactly once, whatever becomes of the submit."""

    def __init__(self, guard: SpendGuard | None, reservation: Reservation | None) -> None:
        self._guard, self._reservation = guard, reservation

    def charged(self, credits: int | None) -> None:
        guard, reservation = self._take()
        if guard is not None and reservation is not None:
            guard.settle(reservation, credits)

    def never_sent(self) -> None:
        guard, reservation = self._take()
        if guard is not None and reservation is not None:
            guard.release(reservation)

    def _take(self) -> tuple[SpendGuard | None, Reservation | None]:
        reservation, self._reservation = self._reservation, None
        return self._guard, reservation


def _as_told(known: JournalEntry, request_id: str) -> Generation:
    """The end of a job as the journal has it; its URL, which is not kept, comes with a query."""
    error = ErrorDetail(known.error) if known.error is not None else None
    return Generation(request_id, GenerationStatus(known.state), error=error)
