"""One job from a request to the server's acceptance: its slot, its credits, its journal entry.

In this order, each step only after the one before: a slot, what an earlier run knows of the job,
the credits reserved, the intent on disk, the POST, the id in the registry, the acceptance on disk.
A component that is switched off is None and is not called. Jobs that were submitted before are
resumed by `resumer`; streams of requests are pulled by `batch`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from seedance_async._utils.cancellation import shielded
from seedance_async.api.client import Outcome, PendingSubmit, SeedanceClient
from seedance_async.api.errors import (
    JournalError,
    SeedanceError,
    SubmitUncertainError,
    drop_frames,
    frameless,
)
from seedance_async.api.prepared_request import PreparedRequest, Preparer
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import UNSETTLED_STATES, JobState
from seedance_async.session.orphans import Orphans
from seedance_async.session.outcomes import Settlement, SubmitOutcomes
from seedance_async.session.resumer import Resumer
from seedance_async.session.running_keys import RunningKeys
from seedance_async.session.shutdown import SessionShutdown

if TYPE_CHECKING:
    from seedance_async.jobs.events import EventEmitter
    from seedance_async.journal import JournalEntry
    from seedance_async.session.chaining import Chaining, NamedJobs
    from seedance_async.session.credit_limit import CreditLimit
    from seedance_async.session.journaling import JournalRecorder
    from seedance_async.session.uploads import Uploads
    from seedance_async.session.webhook_callbacks import Callbacks

_log = logging.getLogger(__name__)


class Submitter:
    """Submits jobs, one call per job, at most `max_in_flight` of them in flight.

    Args:
        client, registry, poller, resumer, preparer: the session's.
        journal, callbacks, uploads, events: the session's; None where it has none.
        chaining: returns the session's, for requests whose media are videos of other jobs.
        max_in_flight: jobs between submit and their end.
        resubmit_uncertain: submit again what an earlier run left uncertain. It may pay twice.
        check_usable: raises if the session can no longer be used.
        shutdown: names a job that is accepted after the session was left.
        changed: set whenever a job moves on.

    Attributes:
        credit_limit: what reserves the credits of a submit; None without a limit.
        outcomes: takes the outcomes of the submits.
        keys: the jobs by the keys that callers gave.
        slots: one for each job in flight.
        in_flight: jobs that are submitted, or being submitted, and not known to have ended.
    """

    def __init__(
        self,
        *,
        client: SeedanceClient,
        registry: TaskRegistry,
        poller: Poller,
        resumer: Resumer,
        journal: JournalRecorder | None,
        callbacks: Callbacks | None,
        preparer: Preparer,
        uploads: Uploads | None,
        events: EventEmitter | None,
        chaining: Callable[[], Chaining],
        max_in_flight: int,
        resubmit_uncertain: bool,
        check_usable: Callable[[], None],
        shutdown: SessionShutdown,
        changed: asyncio.Event,
    ) -> None:
        self._client, self._registry, self._poller = client, registry, poller
        self._resumer, self._journal = resumer, journal
        self._callbacks, self._uploads, self._events = callbacks, uploads, events
        self._chaining, self._preparer = chaining, preparer
        self.outcomes = SubmitOutcomes(
            client=client, registry=registry, poller=poller, journal=journal
        )
        self._resubmit_uncertain = resubmit_uncertain
        self._check_usable, self._shutdown, self._changed = check_usable, shutdown, changed
        self._slot_freer = self._free_slot  # one bound method for all jobs: each keeps it
        self._detached: set[JobRecord] = set()  # sent, and their callers are gone
        self.keys = RunningKeys(registry, preparer, resumer, journal)
        self.orphans: Orphans | None = None  # until there is one
        self._automatic: set[JobRecord] = set()  # their keys go back if nothing is accepted
        self._finishing: set[asyncio.Task[None]] = set()
        self.credit_limit: CreditLimit | None = None
        self.slots = asyncio.Semaphore(max_in_flight)
        # One single submit and one stream at a time queue for a slot, the others behind them: so
        # slots go to either in turn, however many there are of the other.
        self._turn, self._turn_of_streams = asyncio.Lock(), asyncio.Lock()
        self._max_in_flight = max_in_flight
        self._slots_taken = self._waiting_for_place = 0
        self._owed = 0  # slots of jobs that were taken up although none was free

    @property
    def in_flight(self) -> int:
        """See the class."""
        return self._slots_taken - self._waiting_for_place + self._poller.abandoned.places

    def add(self, key: str, prepared: PreparedRequest, *, automatic: bool = False) -> JobRecord:
        """Register a job. Raises ValueError if a job that has not ended has the key.

        Args:
            key: the job's.
            prepared: what is asked for.
            automatic: whether its caller gave no key. If nothing comes of the job, this one is
                given back.
        """
        record = self._registry.add(
            key,
            prepared.request,
            automatic=automatic,
            fingerprint=prepared.fingerprint if prepared.local else None,
        )
        if self._journal is not None:
            if automatic:
                self._automatic.add(record)
            else:
                self._journal.take_key(key)
        return record

    def new_key(self, prepared: PreparedRequest) -> str:
        """A key for a job whose caller gave none."""
        if self._journal is None:
            return secrets.token_hex(8)
        return self._journal.new_key(prepared)

    async def submit(self, prepared: PreparedRequest, key: str | None) -> JobRecord:
        """Submit one job, once a slot is free; see `SeedanceSession.submit`."""
        prepared.key = key
        orphan = await self.adopt_orphan(prepared)
        if orphan is not None:
            return orphan
        if key is None:
            key = self.new_key(prepared)
            attached = None if self._journal is None else self._registry.find(key=key)
            if attached is not None:  # the same job, attached before
                await self._resumer.recorded(attached)
                return attached
            record = self.add(key, prepared, automatic=True)
        else:
            await self._release_if_settled(key)
            running = await self.keys.find(key, prepared)
            if running is not None:
                return running
            record = self.add(key, prepared)
        waited = self.slots.locked() or bool(prepared.sources)
        try:
            if prepared.sources:
                await self.sources_ended(record, prepared)
            with self._client.waits.during("slot") if waited else nullcontext():
                async with self._turn:
                    await self.slots.acquire()
        except BaseException:
            self.discard(record)
            raise
        try:
            await self.submit_in_slot(record, prepared, waited=waited)
        except (JournalError, asyncio.CancelledError):
            if record in self._detached or record.state not in UNSETTLED_STATES:
                self._orphan(record, prepared)  # the caller has an error, and no job
            raise
        return record

    async def _release_if_settled(self, key: str) -> None:
        """Free the key of an uncertain job if the journal knows better: somebody has looked."""
        record = self._registry.find(key=key)
        if self._journal is None or record is None or record.state is not JobState.UNCERTAIN:
            return
        known = await self._journal.find(key)
        if known is not None and known.is_uncertain:
            return
        if record.state is JobState.UNCERTAIN and self._registry.find(key=key) is record:
            self._registry.release(record)
            if self._callbacks is not None:
                self._callbacks.forget(record)

    async def sources_ended(
        self, record: JobRecord, prepared: PreparedRequest, named: NamedJobs | None = None
    ) -> None:
        """Wait, without a slot, for the jobs whose videos are media of a request.

        Not if an earlier run has sent the request: then its job is resumed, whatever they are.
        """
        if self._journal is None or not await self._is_sent(self._journal, record.key):
            with self._client.waits.during("source"):
                await self._chaining().ended(record, prepared, named)

    async def _is_sent(self, journal: JournalRecorder, key: str) -> bool:
        try:
            known = await journal.find(key)
        except JournalError:  # raised again where the job has its slot
            return True
        return known is not None and not self._may_submit(known)

    async def adopt_orphan(self, prepared: PreparedRequest) -> JobRecord | None:
        """As `Orphans.adopt`; the job that it returns is on disk, if it can be."""
        if self.orphans is None:
            return None
        with self._client.waits.during("network"):
            orphan = await self.orphans.adopt(prepared)
        if orphan is not None and self._journal is not None:
            try:
                await self._resumer.recorded(orphan)
                await self._journal.written()
            except asyncio.CancelledError:
                self._orphan(orphan, prepared)
                raise
        return orphan

    async def take_slot_for_stream(self) -> None:
        """Wait for a slot that the caller submits in, or gives back."""
        if not self.slots.locked() and not self._turn_of_streams.locked():
            await self.slots.acquire()
            return
        with self._client.waits.during("slot"):
            async with self._turn_of_streams:
                await self.slots.acquire()

    async def submit_in_slot(
        self, record: JobRecord, prepared: PreparedRequest, *, waited: bool = True
    ) -> None:
        """Submit a job whose slot is taken; the slot is freed when the job ends.

        Args:
            record: the job.
            prepared: its request.
            waited: whether the session may have been left since it was last looked at.

        Raises:
            SeedanceError: how the submit ended; the record says the same.
            CancelledError: nothing was sent, or the outcome is in the registry.
        """
        self._slots_taken += 1
        record.on_final(self._slot_freer)
        try:
            if waited:
                self._check_usable()
            await self._submit_or_resume(record, prepared)
            if prepared.sources:
                self._chaining().accepted(record)
        finally:
            self._changed.set()
            self._settle_key(record)
            if record in self._detached:
                pass  # it keeps its slot until its outcome is known
            elif record.state in UNSETTLED_STATES:
                self.discard(record)
            else:
                self._shutdown.leave_late(record)

    def _orphan(self, record: JobRecord, prepared: PreparedRequest | None) -> None:
        """The caller has no job, though its request was sent: a retry of it gets this one."""
        self.orphans = self.orphans or Orphans(self._preparer.fingerprint)
        self.orphans.add(record, prepared, settled=record.state not in UNSETTLED_STATES)

    def give_up(self, record: JobRecord, prepared: PreparedRequest) -> None:
        """The caller waits for its job no more: a retry of its request gets this job."""
        if not record.state.has_ended or record.state is JobState.SUCCEEDED:
            self._orphan(record, prepared)

    def give_up_all(self, records: Iterable[JobRecord]) -> None:
        """The consumer of a stream has not been given these: a retry of their requests is."""
        for record in records:
            self._orphan(record, None)

    def settle_given_up(self, records: Iterable[JobRecord]) -> None:
        """The submits of these are over, but for those that go on without their callers."""
        for record in records:
            if self.orphans is not None and record not in self._detached:
                self.orphans.settle(record)

    async def take_up(
        self, left: JournalEntry, request: GenerationRequest | None
    ) -> JobRecord | None:
        """The job that an earlier run left unfinished, polled on; nothing is submitted.

        It runs, so it has a slot: one that is free, or else the next that would come free. None if
        this session, or another, has brought it to its end since the entry was read.
        """
        assert self._journal is not None
        running = self._registry.find(key=left.key) or self._registry.find(
            request_id=left.request_id
        )
        if running is not None:
            return running
        record, known = self._registry.add(left.key, request), None
        self._journal.take_key(left.key)
        try:
            known = await self._journal.find_unfinished(left.key)
        finally:
            if known is None:
                self.discard(record)
        if known is None:
            return None
        self._slots_taken += 1
        if self.slots.locked():
            self._owed += 1
        else:
            await self.slots.acquire()
        record.on_final(self._slot_freer)
        try:
            await self._resume(record, known)
        except SubmitUncertainError as error:
            _log.error("job %s: %s", record.key, error)
        except SeedanceError as error:
            self._registry.move(record, JobState.REJECTED, error=error)
        self._shutdown.leave_late(record)
        return record

    def release_key(self, key: str) -> None:
        """No job was made of an automatic key: the next equal request gets it."""
        if self._journal is not None:
            self._journal.release_key(key)

    def _settle_key(self, record: JobRecord) -> None:
        if record.state is JobState.REJECTED:
            self._release_key(record)
        elif record.state not in UNSETTLED_STATES:
            self._automatic.discard(record)

    def _release_key(self, record: JobRecord) -> None:
        """Nothing was accepted under a job's automatic key: a retry of the caller gets it again."""
        if record in self._automatic:
            self._automatic.discard(record)
            self.release_key(record.key)

    def reject(self, request: object, reason: SeedanceError) -> JobRecord:
        """A job that ends before anything is sent for it."""
        record = self._registry.add(secrets.token_hex(8), request)
        self._registry.move(record, JobState.REJECTED, error=reason)
        return record

    def discard(self, record: JobRecord) -> None:
        """Forget a job that came to nothing before it was sent."""
        self._release_key(record)
        if self._registry.find(key=record.key) is record:
            self._registry.discard(record)
        self._changed.set()

    def _free_slot(self, record: JobRecord) -> None:
        self._slots_taken -= 1
        self._poller.abandoned.keep_place(record)
        if self._owed:
            self._owed -= 1
        else:
            self.slots.release()
        self._changed.set()

    async def _submit_or_resume(self, record: JobRecord, prepared: PreparedRequest) -> None:
        try:
            if self._journal is None:
                await self._submit(record, prepared, None)
            else:
                await self._submit_if_new(self._journal, record, prepared)
        except SeedanceError as error:
            if record.state in UNSETTLED_STATES:
                self._registry.move(record, JobState.REJECTED, error=error)
            raise
        except asyncio.CancelledError:
            if self._journal is not None and record.state not in UNSETTLED_STATES:
                await shielded(self._journal.written())  # the outcome was learned late
            raise
        finally:
            if record not in self._detached:
                if record.state in UNSETTLED_STATES:
                    self._withdraw(record)
                if self._events is not None:
                    self._events.release(record)  # everything there is to report is on disk

    async def _submit_if_new(
        self, journal: JournalRecorder, record: JobRecord, prepared: PreparedRequest
    ) -> None:
        """Submit a job, unless the journal knows it; another session may be quicker."""
        from seedance_async.session.journaling import KeyTakenError

        known = await journal.find(record.key)
        while known is None or self._may_submit(known):
            try:
                await self._submit(record, prepared, known)
            except KeyTakenError:
                known = await journal.find(record.key)
            else:
                return
        journal.warn_if_another(known, prepared)
        await self._resume(record, known)

    async def _resume(self, record: JobRecord, known: JournalEntry) -> None:
        if self._callbacks is None:
            await self._resumer.resume(record, known)
            return
        self._callbacks.expect_again(record)
        try:
            await self._resumer.resume(record, known)
        finally:
            self._callbacks.settled(record)

    def _may_submit(self, known: JournalEntry) -> bool:
        if known.state == JobState.REJECTED:
            return True
        return known.is_uncertain and self._resubmit_uncertain

    def _withdraw(self, record: JobRecord) -> None:
        """Forget a job whose caller was cancelled before anything was sent."""
        if self._journal is not None:
            self._journal.never_sent(record)
        if self._callbacks is not None:
            self._callbacks.forget(record)
        self._registry.discard(record)
        if self._events is not None:
            self._events.withdrawn(record)

    async def _submit(
        self, record: JobRecord, prepared: PreparedRequest, known: JournalEntry | None
    ) -> None:
        if self._poller.abandoned.jobs:
            await self._wait_for_place()
        wire = prepared
        if self._uploads is not None and prepared.local:
            with self._client.waits.during("upload"):
                wire = await self._uploads.placed(prepared)
        if prepared.sources:
            await self._client.submit_gate.pause(0.0)  # nothing is fetched if nothing may be sent
            with self._client.waits.during("source"):
                wire = wire.with_media(await self._chaining().urls(prepared))
        limit, reservation, settlement = self.credit_limit, None, None
        if limit is not None:
            with self._client.waits.during("credits"):
                reservation = await limit.reserve(prepared.request, prepared.budget)
            settlement = None if reservation is None else Settlement(limit, reservation)
        pending = PendingSubmit(partial(self._settle_late, record, settlement))
        if self._journal is not None:
            credits = None if reservation is None else reservation.credits
            pending.before_sending = partial(
                self._journal.intend, record, prepared, known, credits, limit
            )
            pending.not_accepted = partial(self._journal.take_back, record)
            pending.valid_for = self._journal.claims_last
        try:
            self.outcomes.settle(record, settlement, await self._send(record, wire, pending))
        except asyncio.CancelledError:
            raise  # nothing was sent, or its outcome is settled, or will be
        except BaseException as error:  # the process ends, or a bug: nobody knows
            if pending.may_be_sent:
                self.outcomes.settle_unknown(record, settlement, error)
            raise
        finally:
            if pending.is_detached:
                self._detached.add(record)
            elif settlement is not None:
                settlement.never_sent()
        try:
            if self._journal is not None:
                with self._client.waits.during("journal"):
                    await self.outcomes.write(self._journal, record)
        finally:
            if self._callbacks is not None:
                self._callbacks.settled(record)
        if record.error is not None and record.state is not JobState.ABANDONED:
            raise frameless(record.error)

    async def _wait_for_place(self) -> None:
        """Wait while jobs that were given up and may still run take the places of all others.

        Raises:
            TooManyAbandonedError: too many were given up, one after the other.
        """
        abandoned, since = self._poller.abandoned, asyncio.get_running_loop().time()
        self._waiting_for_place += 1
        try:
            while True:
                abandoned.check()
                if self.in_flight < self._max_in_flight:
                    return
                await self._wait_for_change(since)
        finally:
            self._waiting_for_place -= 1

    async def _wait_for_change(self, since: float) -> None:
        self._changed.clear()
        with self._client.waits.during("slot", since):
            await self._changed.wait()

    async def _send(
        self, record: JobRecord, prepared: PreparedRequest, pending: PendingSubmit
    ) -> Outcome:
        if record.state is JobState.PENDING:  # else another session was quicker, and gave up
            self._registry.move(record, JobState.SUBMITTING)
            if self._events is not None:
                self._events.submitted(record)
        if self._callbacks is not None:
            prepared = self._callbacks.with_callback_url(record, prepared)
        try:
            return await self._client.create_prepared(prepared, pending)
        except SeedanceError as error:
            if self._journal is not None and self._journal.was_taken(error):
                raise
            return drop_frames(error)  # they hold the error, which is a cycle

    def _settle_late(
        self, record: JobRecord, settlement: Settlement | None, outcome: Outcome
    ) -> None:
        """Record the outcome of a submit whose caller was cancelled."""
        detached = record in self._detached
        self._detached.discard(record)
        self.outcomes.settle(record, settlement, outcome)
        self._settle_key(record)
        if self._journal is not None:
            self._journal.write_soon(record)
        if self._callbacks is not None:
            self._callbacks.settled(record)
        if record.request_id is not None:
            _log.warning(
                "job %s was accepted although its caller was cancelled; it goes on",
                record.request_id,
            )
        self._shutdown.leave_late(record)
        self._changed.set()
        if self._journal is None:
            self._finish_late(record, detached=detached)
        else:
            task = asyncio.create_task(self._finish_late_on_disk(self._journal, record, detached))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _finish_late_on_disk(
        self, journal: JournalRecorder, record: JobRecord, detached: bool
    ) -> None:
        await self.outcomes.written(journal, record)
        self._finish_late(record, detached=detached)

    def _finish_late(self, record: JobRecord, *, detached: bool) -> None:
        """Tell those who wait for the outcome of a submit whose caller was cancelled."""
        if self.orphans is not None:
            self.orphans.settle(record)
        if detached and self._events is not None:
            self._events.release(record)
