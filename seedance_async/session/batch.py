"""Many requests of one session: batches and streams, and what becomes of those that end early.

How requests are pulled is the business of `stream`, how one job is submitted that of `submitter`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import (
    AsyncGenerator,
    Callable,
    Iterator,
    Sequence,
)
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from seedance_async._utils.plural import counted
from seedance_async.api.errors import (
    BudgetExceededError,
    InsufficientCreditsError,
    InvalidRequestError,
    SeedanceError,
    SubmitUncertainError,
    TooManyUncertainError,
    frameless,
)
from seedance_async.api.prepared_request import PreparedRequest, Preparer
from seedance_async.api.request import Violation
from seedance_async.api.retry import stops_submits
from seedance_async.jobs.job import Job, JobActions
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import UNSETTLED_STATES, JobState
from seedance_async.session.completed_jobs import CompletedJobs
from seedance_async.session.source import Requests, Source
from seedance_async.session.stream import Stream
from seedance_async.session.submitter import Submitter

if TYPE_CHECKING:
    from seedance_async.session.chaining import NamedJobs
    from seedance_async.session.journaling import JournalRecorder
    from seedance_async.session.uploads import Uploads

_log = logging.getLogger(__name__)

#: Jobs that are named in one line of the log, or in one note.
NAMED = 200

#: Reasons that `str` of a batch shows.
REASONS = 20

#: Requests of an input of unknown length that are given an outcome once no more is submitted: it
#: may be endless.
MOST_REJECTED = 100_000

#: Jobs to reject before other callbacks of the event loop have a turn.
_AT_ONCE = 100


@attrs.frozen(repr=False)
class BatchResult:
    """The outcome of a batch: one ended `Job` per request, in the order of the input.

    Attributes:
        outcomes: the jobs. `job.state` is the final state of each, `job.error` what went wrong.
        stopped_by: the exception that the input itself raised; or the refusal of all submits, if
            the input was not read to its end because it is async or perhaps endless; else None.
    """

    outcomes: tuple[Job, ...]
    stopped_by: Exception | None = None

    def __repr__(self) -> str:
        return f"<BatchResult {self._summary()}>"

    def __str__(self) -> str:
        """The counts, and why jobs did not succeed: each reason once."""
        numbers = defaultdict[str, list[int]](list)
        for number, job in enumerate(self.outcomes):
            if job.error is not None:
                numbers[f"{job.state}: {job.error}"].append(number)
        reasons = [f"  {_listed(found)} {reason}" for reason, found in numbers.items()]
        if len(reasons) > REASONS:
            reasons[REASONS:] = [f"  … and {len(reasons) - REASONS:,} more reasons"]
        stopped = [] if self.stopped_by is None else [f"  stopped by: {self.stopped_by}"]
        return "\n".join([self._summary(), *reasons, *stopped])

    def _summary(self) -> str:
        states = ", ".join(f"{count:,} {state}" for state, count in self.counts.items())
        return f"{counted(len(self), 'job')}{states and ': '}{states}"

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.outcomes)

    def __getitem__(self, index: int) -> Job:
        return self.outcomes[index]

    @property
    def succeeded(self) -> tuple[Job, ...]:
        """The jobs whose video is made."""
        return self._in(JobState.SUCCEEDED)

    @property
    def uncertain(self) -> tuple[Job, ...]:
        """The jobs that may have been charged although no id came back."""
        return self._in(JobState.UNCERTAIN)

    @property
    def failures(self) -> tuple[Job, ...]:
        """The jobs that did not succeed, for any reason."""
        return tuple(job for job in self.outcomes if job.state is not JobState.SUCCEEDED)

    @property
    def counts(self) -> Counter[JobState]:
        """How many jobs ended in each state."""
        return Counter(job.state for job in self.outcomes)

    @property
    def credits_charged(self) -> int:
        """The sum of the charges that the server reported."""
        return sum(job.credits_charged or 0 for job in self.outcomes)

    def raise_for_failures(self) -> None:
        """Raise an ExceptionGroup of what went wrong, if anything did."""
        errors: list[Exception] = [job.error for job in self.outcomes if job.error is not None]
        if self.stopped_by is not None:
            errors.append(self.stopped_by)
        if errors:
            raise ExceptionGroup(f"{len(errors)} of {counted(len(self), 'job')} failed", errors)

    def _in(self, state: JobState) -> tuple[Job, ...]:
        return tuple(job for job in self.outcomes if job.state is state)


def _listed(numbers: Sequence[int]) -> str:
    """The places of requests in the input, as `[0, 1, 2 … 19]`."""
    shown = ", ".join(map(str, numbers[:3]))
    return f"[{shown} … {numbers[-1]}]" if len(numbers) > 3 else f"[{shown}]"


def _key_and_request(item: Any) -> tuple[Any, Any]:
    """The key, None if the caller gave none, and the request of an item of a stream."""
    return item if isinstance(item, tuple) and len(item) == 2 else (None, item)


def _named_jobs(source: Source) -> NamedJobs | None:
    """What keeps the jobs of a stream that others of it name; None if none is named."""
    if not source.named:
        return None
    from seedance_async.session.chaining import NamedJobs

    return NamedJobs(source.named)


class BatchRunner:
    """Runs the batches and streams of one session.

    Args:
        submitter, registry: the session's.
        journal: the session's; None where it has none.
        actions: what the handles of the jobs can do.
        check_open: raises if the session is not open.
        preparer: checks the requests, and turns them into JSON.
        uploads: the session's; None where it has none.
        max_uncertain: uncertain submits in a row after which a stream stops.
        feeders: submits in progress at once per stream.
        window: jobs of a stream that may be running or waiting for the consumer.
    """

    def __init__(
        self,
        *,
        submitter: Submitter,
        registry: TaskRegistry,
        journal: JournalRecorder | None,
        actions: JobActions,
        check_open: Callable[[], None],
        preparer: Preparer,
        uploads: Uploads | None,
        max_uncertain: int,
        feeders: int,
        window: int,
    ) -> None:
        self._submitter, self._registry, self._journal = submitter, registry, journal
        self._actions, self._check_open = actions, check_open
        self._max_uncertain = max_uncertain
        self._uploads, self._preparer = uploads, preparer
        self._feeders, self._window = feeders, window
        # In the order of their starts; with the jobs that were given up, once one is being left.
        self._streams: dict[Stream, dict[JobRecord, None] | None] = {}

    def as_completed(self, requests: Requests) -> CompletedJobs:
        """See `SeedanceSession.as_completed`."""
        begun: list[Stream] = []
        return CompletedJobs(self._as_completed(requests, begun), partial(self._drop, begun))

    async def _as_completed(
        self, requests: Requests, begun: list[Stream]
    ) -> AsyncGenerator[Job, None]:
        stream = self._begin(Source(requests))
        begun.append(stream)
        try:
            while (ended := await stream.next_ended()) is not None:
                yield Job(self._with_outcome(ended[1]), self._actions)
        finally:
            await self._end(stream)
        if stream.stopped_by is not None:
            raise stream.stopped_by

    async def run(self, requests: Requests) -> BatchResult:
        """See `SeedanceSession.run`."""
        source, outcomes = Source(requests), dict[int, JobRecord]()
        stream = self._begin(source)
        try:
            try:
                while (ended := await stream.next_ended()) is not None:
                    outcomes[ended[0]] = self._with_outcome(ended[1])
            finally:
                await self._end(stream)
            stopped_by = stream.stopped_by
            if isinstance(stopped_by, SeedanceError) and stops_submits(stopped_by):
                stopped_by = await self._reject_rest(stream, source, outcomes, stopped_by)
        except asyncio.CancelledError as error:
            self._submitter.give_up_all(outcomes.values())
            known = [*outcomes.values(), *stream.unseen]
            attach_jobs(error, [Job(record, self._actions) for record in known])
            raise
        ordered = (Job(outcomes[number], self._actions) for number in sorted(outcomes))
        return BatchResult(tuple(ordered), stopped_by)

    def cancel(self, reason: Exception) -> None:
        """End all streams, without waiting for their submits in progress."""
        for stream in self._streams:
            stream.cancel(reason)

    async def stop(self, reason: Exception) -> None:
        """End all streams; see `Stream.stop`."""
        for stream in list(self._streams):
            await stream.stop(reason)

    async def _reject_rest(
        self,
        stream: Stream,
        source: Source,
        outcomes: dict[int, JobRecord],
        reason: SeedanceError,
    ) -> Exception | None:
        """Give the requests that are left an outcome; returns why some have none, if so."""
        rest = enumerate(source.rest(), stream.pulled)
        last = max(MOST_REJECTED, source.size, stream.pulled)
        try:
            for number, item in itertools.chain(stream.dropped.items(), rest):
                outcomes[number] = self._submitter.reject(_key_and_request(item)[1], reason)
                if number >= last:
                    return reason
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        except Exception as error:
            return error
        return reason if source.is_async else None

    def _begin(self, source: Source) -> Stream:
        self._check_open()
        submitter = self._submitter
        stream = Stream(
            source,
            take_slot=submitter.take_slot_for_stream,
            give_back_slot=submitter.slots.release,
            submit=partial(self._submit, _named_jobs(source)),
            goes_on=self._goes_on,
            feeders=self._feeders,
            window=self._window,
            may_resume=self._may_resume,
            stop_reason=self._stop_reason,
        )
        self._streams[stream] = None
        return stream

    async def _end(self, stream: Stream) -> None:
        """Stop a stream; name the jobs that its consumer has not been given, and keep them."""
        self._give_up(stream)
        try:
            await stream.stop()
        finally:
            before = self._streams.pop(stream) or {}
            unseen = stream.unseen
            _log_unseen(unseen)
            self._submitter.give_up_all(each for each in unseen if each not in before)
            self._submitter.settle_given_up(before)

    def _drop(self, begun: Sequence[Stream]) -> None:
        """The generator of a stream is garbage; if it has not ended, that is still to come."""
        for stream in begun:
            if stream in self._streams and stream.is_here():
                self._give_up(stream)
                stream.cancel()

    def _give_up(self, stream: Stream) -> None:
        """Keep the jobs for a retry of their requests, once; their submits may be in progress."""
        if self._streams[stream] is None:
            self._streams[stream] = before = dict.fromkeys(stream.unseen)
            self._submitter.give_up_all(before)

    def _with_outcome(self, record: JobRecord) -> JobRecord:
        """The job of a stream; a rejected one for it, if another caller has taken it back."""
        if record.state not in UNSETTLED_STATES:
            return record
        reason = "its other caller was cancelled before anything was sent; submit it again"
        return self._submitter.reject(record.request, SeedanceError(reason))

    async def _adopt_orphan(self, prepared: PreparedRequest) -> JobRecord | None:
        """As `Submitter.adopt_orphan`; an uncertain one is a job with that outcome."""
        try:
            return await self._submitter.adopt_orphan(prepared)
        except SubmitUncertainError as error:
            return self._registry.find(key=error.key)

    def _check_key(self, key: Any, prepared: PreparedRequest) -> None:
        """Refuse a key that cannot be one, or that another request of this session has."""
        if key is None:
            return
        if not isinstance(key, str) or not key.strip():
            raise InvalidRequestError([Violation("key", key, "must be text that is not blank")])
        known = self._registry.find(key=key)
        if known is not None and not self._submitter.keys.is_same(known, prepared):
            raise InvalidRequestError([Violation("key", key, "belongs to another request")])

    def _goes_on(self, record: JobRecord) -> bool:
        """Whether a job was accepted, or may be: also one that is submitted without its caller."""
        if record.state is JobState.SUBMITTING:
            return self._registry.find(key=record.key) is record
        return record.request_id is not None or record.state is JobState.UNCERTAIN

    def _stop_reason(self, record: JobRecord) -> Exception | None:
        """Why a stream submits no more after this job; None if it goes on."""
        if record.error is not None and stops_submits(record.error):
            return frameless(record.error)
        uncertain = record.state is JobState.UNCERTAIN
        if uncertain and self._submitter.outcomes.uncertain_in_a_row >= self._max_uncertain:
            self._submitter.outcomes.uncertain_in_a_row = 0
            return TooManyUncertainError(self._max_uncertain)
        return None

    def _may_resume(self, reason: Exception) -> bool:
        """Whether a stream that may submit no more goes on, to find what was paid for earlier.

        Not if the key is refused: nothing could be learned about those jobs either.
        """
        no_credits = isinstance(reason, (InsufficientCreditsError, BudgetExceededError))
        return no_credits and self._journal is not None and self._journal.awaits_more

    async def _submit(
        self,
        named: NamedJobs | None,
        item: Any,
        refusal: Exception | None,
        started: Callable[[JobRecord], None],
    ) -> JobRecord:
        """Submit one request of a stream; its slot is taken. The record has the outcome.

        After a refusal that concerns every submit, only what was submitted earlier is resumed.
        """
        found = prepared = None
        if named is not None:
            named.coming(_key_and_request(item)[0])
        try:
            found, prepared = await self._record_for(item, refusal)
        finally:
            if prepared is None:
                self._submitter.slots.release()
            if named is not None:
                named.begun(_key_and_request(item)[0], found)
        record = found
        started(record)
        if prepared is not None and prepared.sources:
            await self._wait_for_sources(record, prepared, named)
        if prepared is not None:
            try:
                await self._submitter.submit_in_slot(record, prepared)
            except SeedanceError as error:
                _log.info("job %s: %s", record.key, error)
        return record

    async def _wait_for_sources(
        self, record: JobRecord, prepared: PreparedRequest, named: NamedJobs | None
    ) -> None:
        """Give the slot back while jobs are waited for whose videos are media of this one."""
        self._submitter.slots.release()
        try:
            await self._submitter.sources_ended(record, prepared, named)
            await self._submitter.take_slot_for_stream()
        except BaseException:
            self._submitter.discard(record)
            raise

    async def _record_for(
        self, item: Any, refusal: Exception | None
    ) -> tuple[JobRecord, PreparedRequest | None]:
        """The job of an item of a stream, and its request if that is still to be submitted."""
        submitter, (key, request) = self._submitter, _key_and_request(item)
        if self._uploads is not None:
            await self._uploads.read(request)
        try:
            prepared = await self._preparer.prepare(request, key)
            self._check_key(key, prepared)
        except InvalidRequestError as error:
            return submitter.reject(request, error), None
        prepared.key, automatic = key, key is None
        orphan = await self._adopt_orphan(prepared)
        if orphan is not None:
            return orphan, None
        if automatic:
            key = submitter.new_key(prepared)
        journal = self._journal
        awaited = journal is not None and journal.awaits(key, searching=refusal is not None)
        attached = self._registry.find(key=key)
        if attached is not None:  # the same job, attached by its token before
            self._registry.identify(attached, request, automatic=automatic)
            return attached, None
        if not awaited and isinstance(refusal, SeedanceError):
            submitter.release_key(key)
            return submitter.reject(request, refusal), None
        return submitter.add(key, prepared, automatic=automatic), prepared


def attach_jobs(error: BaseException, jobs: Sequence[Job]) -> None:
    """Name jobs that go on in the exception that ended the waiting: a note, and `error.jobs`."""
    error.jobs = tuple(jobs)  # type: ignore[attr-defined]
    running = [str(job.request_id) for job in jobs if job.state.is_running]
    running += [f"{job.key} (being submitted)" for job in jobs if job.state is JobState.SUBMITTING]
    if running:
        listed = ", ".join(running[:NAMED]) + (" …" if len(running) > NAMED else "")
        error.add_note(f"{counted(len(running), 'job')} still running; attach resumes: {listed}")


def _log_unseen(records: Sequence[JobRecord]) -> None:
    """Name the jobs that a stream leaves behind."""
    for start in range(0, len(records), NAMED):
        some = records[start : start + NAMED]
        _log.warning(
            "a stream was left early: %s not seen by its consumer: %s",
            counted(len(some), "job"),
            ", ".join(f"{record.request_id or record.key} ({record.state})" for record in some),
        )
