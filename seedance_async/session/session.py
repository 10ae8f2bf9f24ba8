"""`SeedanceSession`: the composition root, and the life of its jobs from submit to end.

It puts the rooms together (client, registry, poller, downloads), holds the semaphore on jobs in
flight, and sees that nothing paid is lost when it is left.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs

from seedance_async._utils.cancellation import see_through, surely
from seedance_async.api import protocol
from seedance_async.api.client import ClientOptions, SeedanceClient
from seedance_async.api.errors import (
    BudgetExceededError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    SeedanceError,
)
from seedance_async.api.models import Generation
from seedance_async.api.option_fields import takes
from seedance_async.api.request import GenerationRequest
from seedance_async.api.retry import stops_submits
from seedance_async.jobs.downloads.downloader import Downloader
from seedance_async.jobs.job import Job, JobActions
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.stats import SessionStats
from seedance_async.jobs.telling import Telling
from seedance_async.session.batch import BatchResult, Requests, Source, Stream
from seedance_async.session.callbacks import Hints
from seedance_async.session.credit_limit import CreditLimit
from seedance_async.session.journaling import Books, price_table, spent_on
from seedance_async.session.options import SessionOptions
from seedance_async.session.resuming import Resumer
from seedance_async.session.shutdown import Leaving
from seedance_async.session.submitter import Launcher

if TYPE_CHECKING:
    from seedance_async.jobs.events import Event
    from seedance_async.journal import Journal

_log = logging.getLogger(__name__)


class SeedanceSession:
    """Many generation jobs at once: submitted under a semaphore, polled to their end.

    ```python
    async with SeedanceSession() as session:
        generation = await session.generate(GenerationRequest("A river in autumn"))
    ```

    Leaving the block normally waits for the jobs. Leaving it by an exception leaves the remote
    jobs running and logs their ids. A session belongs to one event loop.

    It takes the options of `SessionOptions`, `ClientOptions` and `TransportOptions`.

    Raises:
        ConfigurationError: no key, a bad base URL, an option out of bounds, a receiver whose
            address the server cannot be given, or an `on_event` that would have to be awaited.
    """

    @takes(SessionOptions)
    def __init__(self, *args: Any, **named: Any) -> None:
        options = self._options = SessionOptions(*args, **named)
        self._telling = _teller(options.on_event)
        self.client = SeedanceClient(
            **{field.name: getattr(options, field.name) for field in attrs.fields(ClientOptions)}
        )
        self.client.submit_gate.counts_jobs = True
        if options.webhooks is not None:
            options.webhooks.check(allow_local=self.client.allow_local)
        self.registry = TaskRegistry()
        if options.on_event is not None:
            self.registry.on_move = self._telling.moved
            self.client.on_throttled = self._telling.throttled
        self._slots = asyncio.Semaphore(options.max_in_flight)
        self._poller = Poller(
            self.registry,
            self.client.get_once,
            poll=options.poll,
            poll_rate=options.poll_rate,
            workers=options.max_connections,
            job_timeout=options.job_timeout,
            patience=options.poll_failure_timeout,
            freed=self.client.submit_gate.freed,
            telling=self._telling,
            rng=options.rng,
        )
        self._downloader = Downloader(
            self.client.transport,
            self.client.get,
            limit=options.max_downloads,
            retry=options.retry,
            timeouts=options.timeouts,
            rng=options.rng,
        )
        self._actions = JobActions(self._cancel, self._download, self._check_home)
        self._books = Books(_journal(options.journal))
        self._changed = asyncio.Event()
        self._resumer = Resumer(
            registry=self.registry,
            poller=self._poller,
            books=self._books,
            telling=self._telling,
            joined=self.client.submit_gate.joined,
            changed=self._changed,
        )
        self._hints = Hints(
            options.webhooks,
            get=self.client.get_once,
            hurry=self._poller.hurry,
            found=self._resumer.found,
            idle=self._changed.set,
            rng=options.rng,
        )
        self._launcher = Launcher(
            client=self.client,
            registry=self.registry,
            poller=self._poller,
            books=self._books,
            hints=self._hints,
            resumer=self._resumer,
            telling=self._telling,
            resubmit_uncertain=options.resubmit_uncertain,
        )
        self._leaving = Leaving(
            client=self.client,
            registry=self.registry,
            poller=self._poller,
            books=self._books,
            hints=self._hints,
            options=options,
            changed=self._changed,
            cancel=self._cancel,
        )
        self._streams: set[Stream] = set()
        self._accepting = self._closed = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._in_flight = 0
        self._slot_freer = self._free_slot  # one bound method for all jobs: it is kept by each

    def __repr__(self) -> str:
        return f"<SeedanceSession {self.client!r} {self.registry!r}>"

    # --- jobs -------------------------------------------------------------------------------

    async def submit(self, request: GenerationRequest, *, key: str | None = None) -> Job:
        """Submit one job; returns once the server has accepted it.

        Waits while `max_in_flight` jobs are running or a rate limit holds submits back.

        Args:
            request: what to make.
            key: a name for the job, unique among the session's unfinished jobs; random if absent.

        Raises:
            InvalidRequestError: a documented rule is broken; nothing was sent.
            SubmitUncertainError: the job may have been accepted and charged.
            BudgetExceededError: `max_credits` would be exceeded; nothing was sent.
            JournalError: the intent could not be recorded, and nothing was sent; or the
                acceptance could not, and the error has the `request_id`.
            APIError: the server refused it; nothing was charged.
            TransportError: the server could not be reached; nothing was charged.
            RuntimeError: the session is not open.
            ValueError: the key is in use.
        """
        self._check_open()
        protocol.check(request, allow_local=self.client.allow_local)
        record = self.registry.add(key or self._books.new_key(request), request)
        try:
            await self._slots.acquire()
        except BaseException:
            self._discard(record)
            raise
        await self._launch_in_slot(record)
        return Job(record, self._actions)

    async def generate(self, request: GenerationRequest) -> Generation:
        """Submit one job and wait for its end. Raises as `submit` and `Job.wait` do."""
        return await (await self.submit(request))

    async def attach(self, reference: str) -> Job:
        """Take up a job that was accepted earlier, by this process or another.

        Args:
            reference: a request id, or a `Job.token`. A token whose key belongs to an uncertain
                job of this session settles that job.

        Raises:
            ValueError: the reference is neither, or its key belongs to another job.
            RuntimeError: the session is not open.
        """
        self._check_open()
        record = await self._resumer.attach(reference, self._hints.settled)
        if self._leaving.left:
            self._leaving.leave([record])  # it was taken up too late to be told of then
        return Job(record, self._actions)

    async def as_completed(self, requests: Requests) -> AsyncGenerator[Job]:
        """Submit many requests and yield each job when it has ended, however it ended.

        The requests, an iterable or an async iterable, are pulled as slots come free, and no
        further than `max_in_flight` jobs ahead of the consumer. Breaking out of the loop stops
        the pulling and leaves the running jobs alone.

        Raises:
            AuthenticationError, InsufficientCreditsError: the server takes no more submits. The
                jobs accepted before are yielded first.
            Exception: what the iterable itself raised; likewise after its jobs.
        """
        async with aclosing(self._stream(Source(requests))) as stream:
            async for _, job in stream:
                yield job

    async def run(self, requests: Requests) -> BatchResult:
        """Submit many requests, wait for all, and tell of each how it ended.

        What is wrong with one job is in its outcome and touches no other. Once the server refuses
        the key or the credits are gone, what is left is not sent and ends as rejected.
        """
        source = Source(requests)
        outcomes: dict[int, Job] = {}
        stopped_by: Exception | None = None
        try:
            async with aclosing(self._stream(source)) as stream:
                async for number, job in stream:
                    outcomes[number] = job
        except Exception as error:
            stopped_by = error
        if isinstance(stopped_by, SeedanceError) and stops_submits(stopped_by):
            reason, stopped_by = stopped_by, None
            try:
                async for request in source:
                    number = max(outcomes, default=-1) + 1
                    outcomes[number] = Job(self._unsent(request, reason), self._actions)
            except Exception as error:
                stopped_by = error
        ordered = (outcomes[number] for number in sorted(outcomes))
        return BatchResult(tuple(ordered), stopped_by)

    def stop_submitting(self, reason: SeedanceError) -> None:
        """From now on, end every submit that is not sent yet with `reason`, those waiting too.

        What was accepted goes on, and so does a submit that is on its way.
        """
        self.client.submit_gate.shut(reason, math.inf)

    def stats(self) -> SessionStats:
        """The session at this moment."""
        counts, times = self.registry.counts, self._poller.finish_times
        p50, p95 = times.quantiles(0.5, 0.95)
        return SessionStats(
            counts=counts,
            in_flight=self._in_flight,
            credits_charged=self.registry.credits_charged,
            credits_unknown=self.registry.credits_unknown,
            polls=self._poller.polls,
            refusals=self.client.submit_gate.refusals,
            query_refusals=self.client.query_gate.refusals,
            submit_rate=self.client.submit_gate.rate,
            submit_limit=self.client.submit_gate.limit,
            polls_per_job=times.polls_per_job,
            time_to_finish_p50=p50,
            time_to_finish_p95=p95,
            finish_rate=times.rate(counts[JobState.QUEUED] + counts[JobState.PROCESSING]),
            loop_lag=self._poller.longest_lag,
        )

    # --- the life of a job ------------------------------------------------------------------

    async def _stream(self, source: Source) -> AsyncGenerator[tuple[int, Job]]:
        self._check_open()
        options = self._options

        async def launch(request: Any) -> JobRecord:
            return await self._launch(request, stream.stopped_by)

        stream = Stream(
            source,
            slots=self._slots,
            launch=launch,
            feeders=min(options.max_connections, options.max_in_flight),
            window=options.max_in_flight,
            goes_on=self._may_take_up,
        )
        self._streams.add(stream)
        try:
            async with aclosing(stream.jobs()) as ended:
                async for number, record in ended:
                    yield number, Job(record, self._actions)
        finally:
            self._streams.discard(stream)
        if stream.stopped_by is not None:
            raise stream.stopped_by

    def _may_take_up(self, reason: Exception) -> bool:
        """Whether a stream that may submit no more goes on, to find what was paid for earlier.

        Not where the key is refused: nothing could be learnt of those jobs either.
        """
        no_money = isinstance(reason, (InsufficientCreditsError, BudgetExceededError))
        return no_money and self._books.awaits_more

    async def _launch(self, request: Any, refusal: Exception | None) -> JobRecord:
        """Submit one request of a stream; its slot is taken. The record tells how it went.

        After a refusal that concerns every submit, only what was sent earlier is taken up.
        """
        try:
            protocol.check(request, allow_local=self.client.allow_local)
        except InvalidRequestError as error:
            self._slots.release()
            return self._unsent(request, error)
        key = self._books.new_key(request)
        awaited = self._books.awaits(key, searching=refusal is not None)
        attached = self.registry.find(key=key)
        if attached is not None:  # the same job, taken up by its token before
            self._slots.release()
            return attached
        if not awaited and isinstance(refusal, SeedanceError):
            self._slots.release()
            return self._unsent(request, refusal)
        record = self.registry.add(key, request)
        try:
            await self._launch_in_slot(record)
        except SeedanceError as error:
            _log.info("job %s: %s", record.key, error)
        return record

    async def _launch_in_slot(self, record: JobRecord) -> None:
        """Launch a job whose slot is taken; the slot is freed when the job ends."""
        self._in_flight += 1
        record.on_final(self._slot_freer)
        try:
            self._check_usable()
            await self._launcher.launch(record)
        finally:
            self._changed.set()
            if not (record.state.is_final or record.state.is_running):
                self._discard(record)
                self._free_slot(record)
            elif self._leaving.left:
                self._leaving.leave([record])  # it was accepted too late to be told of then

    def _unsent(self, request: Any, reason: SeedanceError) -> JobRecord:
        record = self.registry.add(secrets.token_hex(8), request)
        self.registry.move(record, JobState.REJECTED, error=reason)
        return record

    def _discard(self, record: JobRecord) -> None:
        if self.registry.find(key=record.key) is record:
            self.registry.discard(record)
        self._changed.set()

    def _free_slot(self, record: JobRecord) -> None:
        self._in_flight -= 1
        self._slots.release()
        self._changed.set()

    async def _download(self, record: JobRecord, path: Path, overwrite: bool) -> Path:
        assert record.generation is not None
        record.saved = await self._downloader.save(record.generation, path, overwrite)
        await self._books.write_saved(record, record.saved)
        self._telling.saved(record, record.saved)
        return record.saved.path

    async def _cancel(self, record: JobRecord) -> None:
        assert record.request_id is not None
        try:
            await self.client.cancel(record.request_id)
        except (ConflictError, NotFoundError) as error:
            _log.info("job %s was not cancelled: %s", record.request_id, error)
        self._poller.hurry(record)

    # --- the life of the session ------------------------------------------------------------

    async def __aenter__(self) -> SeedanceSession:
        if self._home is not None:
            raise RuntimeError("a session can be entered once")
        self._home = (os.getpid(), asyncio.get_running_loop())
        try:
            await self._open_books()
        except BaseException:
            await surely(self._leaving.release())
            raise
        self._accepting = True
        self._poller.start()
        return self

    async def _open_books(self) -> None:
        """Open the journal, and learn from it what is spent and what things cost."""
        entries = await self._books.open()
        limit = self._options.max_credits
        if limit is not None:
            prices = price_table(entries)
            spent = sum(spent_on(entry, prices) for entry in entries)
            self._launcher.guard = CreditLimit(limit, spent=spent, prices=prices)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._accepting = False
        try:
            for stream in list(self._streams):
                await stream.stop(SeedanceError("the session was left"))
            if error is None:
                await self._leaving.jobs_ended()
        finally:
            self._closed = True
            closing = asyncio.create_task(self._leaving.close(), name="seedance-close")
            cancelled = await see_through(closing)
            closing.result()
            if cancelled:
                raise asyncio.CancelledError

    def _check_open(self) -> None:
        if not self._accepting:
            raise RuntimeError("the session is not open: use it inside `async with`")
        self._check_usable()

    def _check_usable(self) -> None:
        if self._closed:
            raise RuntimeError("the session is closed")
        self._check_home()

    def _check_home(self) -> None:
        if self._home != (os.getpid(), asyncio.get_running_loop()):
            raise RuntimeError("a session belongs to the process and event loop it was entered in")


def _journal(given: Journal | str | Path | None) -> Journal | None:
    if not isinstance(given, (str, Path)):
        return given
    from seedance_async.journal import SQLiteJournal  # SQLite is imported only if it is used

    return SQLiteJournal(given)


def _teller(on_event: Callable[[Event], object] | None) -> Telling:
    if on_event is None:
        return Telling()
    from seedance_async.jobs.events import (
        Teller,  # a score of classes, imported only if one listens
    )

    return Teller(on_event)
