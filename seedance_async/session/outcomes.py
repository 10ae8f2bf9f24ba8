"""What the outcome of a submit means: for the registry, the credits, the journal and the polls.

An outcome is an acceptance, a refusal or a doubt. An acceptance whose id is another job's is a
doubt, too: nobody knows what became of the submit.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from seedance_async.api.client import Outcome, SeedanceClient
from seedance_async.api.errors import APIError, JournalError, SubmitUncertainError
from seedance_async.api.models import Submission
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState

if TYPE_CHECKING:
    from seedance_async.session.credit_limit import CreditLimit, Reservation
    from seedance_async.session.journaling import JournalRecorder

_log = logging.getLogger(__name__)


class SubmitOutcomes:
    """Takes the outcomes of a session's submits.

    Args:
        client, registry, poller: the session's.
        journal: the session's; None where it has none.

    Attributes:
        uncertain_in_a_row: uncertain submits since the last one that the server answered.
    """

    def __init__(
        self,
        *,
        client: SeedanceClient,
        registry: TaskRegistry,
        poller: Poller,
        journal: JournalRecorder | None,
    ) -> None:
        self._client, self._registry = client, registry
        self._poller, self._journal = poller, journal
        self.uncertain_in_a_row = 0

    def settle(self, record: JobRecord, settlement: Settlement | None, outcome: Outcome) -> None:
        """Record the outcome of a submit in the registry and the credits."""
        request = record.request
        assert request is not None
        if isinstance(outcome, Submission):
            try:
                self._accept(record, outcome, settlement)
            except ValueError as error:
                self._client.submit_gate.job_ended()  # the id of a job that was there already
                outcome = SubmitUncertainError(
                    str(error), request=request, request_id=outcome.request_id
                )
            else:
                self.uncertain_in_a_row = 0
                return
        if isinstance(outcome, SubmitUncertainError):
            self.uncertain_in_a_row += 1
            if settlement is not None:
                settlement.charged(None)
            outcome.key, outcome.request = record.key, request  # not as it was sent
            _log.error("job %s: %s", record.key, outcome)
            self._registry.move(record, JobState.UNCERTAIN, error=outcome)
        else:
            if settlement is not None:
                settlement.never_sent()
            if isinstance(outcome, APIError):
                self.uncertain_in_a_row = 0
            self._registry.move(record, JobState.REJECTED, error=outcome)

    def _accept(
        self, record: JobRecord, submission: Submission, settlement: Settlement | None
    ) -> None:
        """The server has accepted a job. Raises ValueError if its id is another job's."""
        if self._journal is not None:
            self._journal.check_new(record, submission.request_id)
        self._registry.accept(record, submission, at=asyncio.get_running_loop().time())
        if settlement is not None:
            settlement.charged(submission.credits_charged)
        _log.info(
            "job %s is accepted, charged %s credits: %.60r",
            submission.request_id,
            submission.credits_charged,
            record.request.prompt if record.request else "",
        )
        if submission.credits_charged is None:
            _log.warning("job %s: the answer has no usable charge", submission.request_id)
        if self._journal is not None:
            self._journal.follow(record)
        self._poller.watch(record)

    def settle_unknown(
        self, record: JobRecord, settlement: Settlement | None, error: BaseException
    ) -> None:
        """Record that a submit was broken off in a way that proves nothing."""
        assert record.request is not None
        unknown = SubmitUncertainError(f"it was broken off: {error!r}", request=record.request)
        self.settle(record, settlement, unknown)
        if self._journal is not None:
            self._journal.write_soon(record)

    async def write(self, journal: JournalRecorder, record: JobRecord) -> None:
        """As `JournalRecorder.write_outcome`; an id that is another job's is no acceptance."""
        try:
            await journal.write_outcome(record)
        except JournalError as error:
            holder = journal.holder_of_id(record, error)
            if holder is None:
                raise
            await self._disown(journal, record, holder)

    async def written(self, journal: JournalRecorder, record: JobRecord) -> None:
        """Wait until an outcome is on disk, as for `write`, after `JournalRecorder.write_soon`."""
        holder = journal.holder_of_id(record, await journal.written())
        if holder is not None:
            await self._disown(journal, record, holder)

    async def _disown(self, journal: JournalRecorder, record: JobRecord, holder: str) -> None:
        """The server has given a job the id of another one: nobody knows what became of it."""
        assert record.request is not None
        self._poller.forget(record)
        reason = f"the request id {record.request_id!r} belongs to job {holder}"
        unknown = SubmitUncertainError(
            reason, request=record.request, key=record.key, request_id=record.request_id
        )
        self.uncertain_in_a_row += 1
        _log.error("job %s: %s", record.key, unknown)
        self._registry.move(record, JobState.UNCERTAIN, error=unknown)
        await journal.written()


class Settlement:
    """Ends a reservation exactly once, whatever the outcome of the submit.

    Args:
        limit: the credits.
        reservation: what was reserved for the submit.
    """

    def __init__(self, limit: CreditLimit, reservation: Reservation) -> None:
        self._limit, self._reservation, self._is_over = limit, reservation, False

    def charged(self, credits: int | None) -> None:
        """The submit was accepted, or may have been."""
        if not self._is_over:
            self._limit.settle(self._reservation, credits)
            self._is_over = True

    def never_sent(self) -> None:
        """Nothing was spent."""
        if not self._is_over:
            self._limit.release(self._reservation)
            self._is_over = True
