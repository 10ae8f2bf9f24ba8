"""The life of a job from a request to the server's acceptance, with its money and its books.

In this order, and each step only after the one before: what an earlier run knows of the job, the
credits set aside, the intent on disk, the POST, the id in the registry, the acceptance on disk.
What an earlier run has sent is taken up in `resuming`; slots, streams and the session's own life
are the session's.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from seedance_async._utils.cancellation import surely
from seedance_async.api.client import Late, SeedanceClient
from seedance_async.api.errors import SeedanceError, SubmitUncertainError
from seedance_async.api.models import Submission
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.telling import Telling
from seedance_async.session.callbacks import Hints
from seedance_async.session.credit_limit import Reservation, SpendGuard
from seedance_async.session.journaling import Books
from seedance_async.session.resuming import Resumer

if TYPE_CHECKING:
    from seedance_async.journal import JournalEntry

_log = logging.getLogger(__name__)

_UNKNOWN = {"submitting", "uncertain"}


class Launcher:
    """Submits jobs, one call a job.

    Args:
        client, registry, poller, books, hints, resumer, events: the session's.
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
        resumer: Resumer,
        telling: Telling,
        resubmit_uncertain: bool = False,
    ) -> None:
        self._client, self._registry = client, registry
        self._poller, self._books, self._hints = poller, books, hints
        self._resumer, self._telling = resumer, telling
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
            known = await self._books.find(record.key)
            if known is not None and not self._may_submit(known):
                await self._resumer.take_up(record, known)
                return
            await self._submit(record, request, known)
        except SeedanceError as error:
            if record.state in (JobState.PENDING, JobState.SUBMITTING):
                self._registry.move(record, JobState.REJECTED, error=error)
            raise
        except asyncio.CancelledError:
            if record.state not in (JobState.PENDING, JobState.SUBMITTING):  # it was learnt late
                await surely(self._books.written(record))
            raise
        finally:
            if record.state in (JobState.PENDING, JobState.SUBMITTING):  # cancelled: nothing sent
                self._books.never_sent(record)
                self._hints.forget(record)
                self._registry.discard(record)
                self._telling.withdrawn(record)
            self._telling.release(record)  # all that there is to tell is on disk

    def _may_submit(self, known: JournalEntry) -> bool:
        return known.state == "rejected" or (known.state in _UNKNOWN and self._resubmit_uncertain)

    async def _submit(
        self, record: JobRecord, request: GenerationRequest, known: JournalEntry | None
    ) -> None:
        reservation = await self.guard.reserve(request) if self.guard is not None else None
        settle = _Settlement(self.guard, reservation)
        try:
            credits = reservation.counts if reservation is not None else 0
            await self._books.intend(record, known, credits)
            self._registry.move(record, JobState.SUBMITTING)
            self._telling.submitted(record)
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
            await self._books.write_outcome(record)
        finally:
            self._hints.settled(record)
        if record.error is not None:
            raise record.error

    def _settle(self, record: JobRecord, settle: _Settlement, outcome: Late) -> None:
        """Take in what became of a submit."""
        if isinstance(outcome, Submission):
            try:
                self._books.check_new(record, outcome.request_id)
                self._registry.accept(record, outcome, at=asyncio.get_running_loop().time())
            except ValueError as error:
                self._client.submit_gate.freed()  # a job that was there already
                assert record.request is not None
                outcome = SubmitUncertainError(
                    str(error), request=record.request, request_id=outcome.request_id
                )
            else:
                settle.charged(outcome.credits_charged)
                if outcome.credits_charged is None:
                    _log.warning("job %s: the server told no usable charge", outcome.request_id)
                self._books.follow(record)
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
