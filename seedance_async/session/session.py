"""`SeedanceSession`: the composition root, and the public face of everything below it.

It connects the parts (client, registry, poller, downloads, journal) and is entered and left once.
How a job is submitted, a batch is run and a session ends stands in `submitter`, `batch` and
`shutdown`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from seedance_async._utils.cancellation import shielded
from seedance_async.api.client import ClientOptions, SeedanceClient
from seedance_async.api.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
    SeedanceError,
)
from seedance_async.api.models import Generation
from seedance_async.api.option_fields import takes
from seedance_async.api.prepared_request import PreparedRequest, Preparer
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.job import Job, JobActions
from seedance_async.jobs.polling.poller import Poller
from seedance_async.jobs.registry import JobRecord, SavedFile, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.stats import SessionStats
from seedance_async.jobs.updates import JobUpdates
from seedance_async.session.batch import BatchResult, BatchRunner, attach_jobs
from seedance_async.session.options import SessionOptions
from seedance_async.session.resumer import Resumer
from seedance_async.session.shutdown import SessionShutdown
from seedance_async.session.source import Requests
from seedance_async.session.submitter import Submitter

if TYPE_CHECKING:
    from seedance_async.jobs.downloads.downloader import Downloader
    from seedance_async.jobs.downloads.video_stream import VideoStream, VideoTarget
    from seedance_async.jobs.events import Event, EventEmitter
    from seedance_async.journal import Journal, JournalEntry
    from seedance_async.session.chaining import Chaining
    from seedance_async.session.credit_limit import Budget
    from seedance_async.session.journaling import JournalRecorder
    from seedance_async.session.uploads import Uploads
    from seedance_async.session.webhook_callbacks import Callbacks

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

    Attributes:
        client: one coroutine per endpoint, through the session's connections and rate limits.
        registry: the in-memory table of the session's jobs.

    Raises:
        ConfigurationError: no key, a bad base URL, an option out of bounds, a receiver whose
            address the server cannot be given, or an `on_event` that would have to be awaited.
    """

    @takes(SessionOptions)
    def __init__(self, *args: Any, **named: Any) -> None:
        try:
            options = self._options = SessionOptions(*args, **named)
        except ConfigurationError as error:
            args, named = (), {}  # the key may be among them, and a traceback shows them
            raise error.with_traceback(None) from None
        args, named = (), {}
        self.client = SeedanceClient(
            **{field.name: getattr(options, field.name) for field in attrs.fields(ClientOptions)}
        )
        self.client.submit_gate.counts_jobs = True
        if options.webhooks is not None:
            options.webhooks.check(allow_local=self.client.allow_local)
        self.registry = TaskRegistry()
        self._events = _event_emitter(options.on_event)
        if self._events is not None:
            self.registry.on_move = self._events.moved
            self.client.on_throttled = self._events.throttled
            self.client.on_retry = self._events.retried
            self.client.on_gate_change = self._events.limits_changed
            self.client.waits.on_long = self._events.waited
        self._journal = _journal_recorder(options.journal, self.client)
        self._changed = asyncio.Event()
        self._accepting = self._closed = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._connect_rooms(options)

    def _connect_rooms(self, options: SessionOptions) -> None:
        self._poller = Poller(
            self.registry,
            self.client.get_once,
            poll=options.poll,
            poll_rate=options.poll_rate,
            workers=options.max_connections,
            job_timeout=options.job_timeout,
            queue_timeout=options.queue_timeout,
            max_abandoned=options.max_abandoned_in_a_row,
            poll_failure_timeout=options.poll_failure_timeout,
            job_ended=self._job_ended,
            events=self._events,
            rng=options.rng,
        )
        updates = JobUpdates(self.registry, self._poller.finish_times)
        self._actions = JobActions(
            cancel=self._cancel,
            download=self._download,
            stream=self._stream,
            updates=updates.follow,
            check=self._check_home,
        )
        self._resumer = Resumer(
            registry=self.registry,
            poller=self._poller,
            journal=self._journal,
            events=self._events,
            job_started=self.client.submit_gate.job_started,
            changed=self._changed,
            leave_late=lambda record: self._shutdown.leave_late(record),
        )
        self._callbacks = self._expected_callbacks(options)
        self._uploads = self._made_uploads(options)
        self._preparer = Preparer(
            self.client.capabilities,
            allow_local=self.client.allow_local,
            strict=options.strict,
            uploads=self._uploads is not None,
            media_key=options.media_key,
            was_sent=None if self._journal is None else self._journal.was_sent,
        )
        self._shutdown = SessionShutdown(
            registry=self.registry,
            poller=self._poller,
            journal=self._journal,
            client=self.client,
            callbacks=self._callbacks,
            uploads=self._uploads,
            options=options,
            changed=self._changed,
            cancel=self._cancel,
        )
        self._submitter = Submitter(
            registry=self.registry,
            poller=self._poller,
            journal=self._journal,
            client=self.client,
            resumer=self._resumer,
            callbacks=self._callbacks,
            preparer=self._preparer,
            uploads=self._uploads,
            events=self._events,
            chaining=lambda: self._chaining,
            max_in_flight=options.max_in_flight,
            resubmit_uncertain=options.resubmit_uncertain,
            check_usable=self._check_usable,
            shutdown=self._shutdown,
            changed=self._changed,
        )
        self._batches = BatchRunner(
            submitter=self._submitter,
            registry=self.registry,
            journal=self._journal,
            actions=self._actions,
            check_open=self._check_open,
            preparer=self._preparer,
            uploads=self._uploads,
            max_uncertain=options.max_uncertain_in_a_row,
            feeders=min(options.max_connections, options.max_in_flight),
            window=options.max_in_flight,
        )

    def _made_uploads(self, options: SessionOptions) -> Uploads | None:
        if options.uploader is None:
            return None
        from seedance_async.session.uploads import Uploads

        return Uploads(options.uploader, allow_local=self.client.allow_local)

    def _expected_callbacks(self, options: SessionOptions) -> Callbacks | None:
        if options.webhooks is None:
            return None
        from seedance_async.session.webhook_callbacks import Callbacks

        return Callbacks(
            options.webhooks,
            get=self.client.get_once,
            poll_soon=self._poller.poll_soon,
            resolve=self._resumer.resolve,
            changed=self._changed.set,
            rng=options.rng,
        )

    def __repr__(self) -> str:
        if not hasattr(self, "_submitter"):
            return "<SeedanceSession that was refused its options>"
        limit = self._submitter.credit_limit
        held = f"{self._submitter.in_flight} in flight, {self._poller!r}"
        credits = "" if limit is None else f", {limit!r}"
        return f"<SeedanceSession {self.client!r} {self.registry!r}, {held}{credits}>"

    # --- jobs -------------------------------------------------------------------------------

    async def submit(
        self, request: GenerationRequest, *, key: str | None = None, budget: str | None = None
    ) -> Job:
        """Submit one job; returns once the server has accepted it.

        Waits while `max_in_flight` jobs are running or a rate limit holds submits back.

        If the caller is cancelled after the request was sent, by a timeout of its own perhaps, the
        submit goes on without it. The next call with an equal request, and the same key or none as
        before, returns that job once its outcome is known, and pays for no other; if the job has
        ended, within an hour.

        Args:
            request: what to make.
            key: a name for the job. While one of an equal request runs that has this key, that one
                is returned. If absent, it is made of the request's content with a journal, and
                random without one.
            budget: one of the session's `budgets`, that the job counts for.

        Raises:
            InvalidRequestError: a rule is broken; nothing was sent.
            SourceJobError: a job whose video is one of the media has none; nothing was sent.
            MediaUploadError: a file on this machine could not be uploaded; nothing was sent.
            SubmitUncertainError: the job may have been accepted and charged.
            BudgetExceededError: `max_credits`, or the budget, would be exceeded; nothing was sent.
            TooManyAbandonedError: `max_abandoned_in_a_row` jobs were given up, one after the other,
                and may still run; nothing was sent.
            JournalError: the intent could not be recorded, and nothing was sent; or the
                acceptance could not, and the error has the `request_id`.
            APIError: the server refused it; nothing was charged.
            TransportError: the server could not be reached; nothing was charged. It is an
                `UnreachableError` within a minute if it never was.
            RuntimeError: the session is not open.
            ValueError: the key is that of another request's job that has not ended, or there is no
                such budget.
        """
        prepared = await self._prepare(request, key, budget)
        return Job(await self._submitter.submit(prepared, key), self._actions)

    async def _prepare(
        self, request: GenerationRequest, key: str | None, budget: str | None
    ) -> PreparedRequest:
        """The request of a single submit, with everything about it checked."""
        self._check_open()
        if self._uploads is not None:
            await self._uploads.read(request)
            self._check_open()
        prepared = await self._preparer.prepare(request, key)
        if budget is not None and budget not in self.budgets:
            names = ", ".join(map(repr, self.budgets)) or "none"
            raise ValueError(f"budget must be one of the session's, {names}, not {budget!r}")
        prepared.budget = budget
        return prepared

    async def check(self, request: GenerationRequest) -> None:
        """Check a request as `submit` does, and submit nothing. The session need not be open.

        If a documented rule would refuse it and the server's list of models may not, that is
        asked for, at most once an hour; a session that is never opened then has a connection to
        close, by `client.aclose`.

        Raises:
            InvalidRequestError: a rule is broken.
        """
        if self._uploads is not None:
            await self._uploads.read(request)
        await self._preparer.prepare(request)

    @property
    def budgets(self) -> dict[str, Budget]:
        """The named limits on credits, and what counts as spent of each at this moment.

        Empty before the session is open, when the journal has not been read.
        """
        limit = self._submitter.credit_limit
        known = {} if limit is None else limit.budgets
        return {name: attrs.evolve(budget) for name, budget in known.items() if name}

    async def generate(
        self, request: GenerationRequest, *, budget: str | None = None
    ) -> Generation:
        """Submit one job and wait for its end. Raises as `submit` and `Job.wait` do.

        If it is cancelled while the job runs, the job goes on: the log names it, the exception has
        it as `jobs`, and the next equal request gets it, as a retry.
        """
        prepared = await self._prepare(request, None, budget)
        record = await self._submitter.submit(prepared, None)
        job = Job(record, self._actions)
        try:
            return await job
        except asyncio.CancelledError as error:
            _log.warning("the wait for job %s was cancelled; it goes on", job.request_id)
            attach_jobs(error, [job])
            self._submitter.give_up(record, prepared)
            raise

    async def attach(self, reference: str) -> Job:
        """Resume a job that was accepted earlier, by this process or another.

        Args:
            reference: a request id, or a `Job.token`. A token whose key belongs to an uncertain
                job of this session settles that job.

        Raises:
            ValueError: the reference is neither, or its key belongs to another job.
            RuntimeError: the session is not open.
        """
        self._check_open()
        settled = None if self._callbacks is None else self._callbacks.settled
        return Job(await self._resumer.attach(reference, settled), self._actions)

    def jobs(self) -> list[Job]:
        """The jobs whose state can still change: those that have not ended, and the uncertain ones.

        Raises:
            RuntimeError: the session is not open.
        """
        self._check_open()
        return [Job(record, self._actions) for record in self.registry]

    async def resume(self) -> list[Job]:
        """Take up all jobs that earlier runs of the journal left running, and submit nothing.

        They count against `max_in_flight` like any other, but wait for no slot: they run already.
        Uncertain ones are among them, as jobs with that state; `attach` with a token of the id and
        the key, or a callback, settles those. What another session is submitting at this moment,
        and jobs of another API, are left alone.

        Returns:
            The jobs, in the order of the journal; none without a journal.

        Raises:
            JournalError: the journal cannot be read.
            RuntimeError: the session is not open.
        """
        self._check_open()
        unfinished = [] if self._journal is None else await self._journal.unfinished()
        records = [await self._submitter.take_up(*each) for each in unfinished]
        return [Job(record, self._actions) for record in records if record is not None]

    async def recorded(self, key: str) -> JournalEntry | None:
        """What the journal has of a job: its request as it was sent, its id, its price, its file.

        Returns:
            The entry; None if there is none, or no journal.

        Raises:
            JournalError: the journal cannot be read.
            RuntimeError: the session is not open.
        """
        self._check_open()
        return None if self._journal is None else await self._journal.find(key)

    def as_completed(self, requests: Requests) -> AsyncGenerator[Job, None]:
        """Submit many requests and yield each job when it has ended, whatever its outcome.

        The requests, an iterable or an async iterable, are pulled as slots come free, and no
        further than `max_in_flight` jobs ahead of the consumer. An item may be a pair of a key and
        a request, if the content of a request is not what makes a job the same. Breaking out of the
        loop stops the pulling and leaves the running jobs alone; the log names those that were not
        yielded, and the next equal requests get them, as after a cancelled `run`. An async
        generator is pulled and closed by one task. Where you keep what this returns in a variable,
        use `contextlib.aclosing`.

        Raises:
            AuthenticationError, InsufficientCreditsError, UnreachableError: no more submits are
                taken. The jobs accepted before are yielded first.
            TooManyUncertainError: `max_uncertain_in_a_row` submits in a row were uncertain.
            TooManyAbandonedError: `max_abandoned_in_a_row` jobs in a row were given up.
            RuntimeError: the session is not open.
            Exception: what the iterable itself raised; likewise after its jobs.
        """
        return self._batches.as_completed(requests)

    async def run(self, requests: Requests) -> BatchResult:
        """Submit many requests, wait for all, and return the outcome of each.

        The requests are as for `as_completed`.

        What is wrong with one job is in its outcome and affects no other. Once the server refuses
        the key or the credits are used up, the rest is not sent and ends as rejected; what is async
        or seems endless is not read on, and `stopped_by` says so. If it is cancelled, the exception
        has the jobs as `jobs`, the log names those that go on, and the next equal requests get all
        of them, as a retry: those that have ended, within an hour.

        Raises:
            RuntimeError: the session is not open.
        """
        return await self._batches.run(requests)

    def stop_submitting(self, reason: SeedanceError) -> None:
        """From now on, end every submit that is not sent yet with `reason`, those waiting too.

        Accepted jobs go on, and so does a submit in progress.

        Raises:
            RuntimeError: the session was opened in another process or event loop.
        """
        if self._home is not None:
            self._check_home()
        self.client.submit_gate.shut(reason, math.inf)

    @property
    def poll_rate(self) -> float:
        """Polls a second over all jobs, as in the options; may be changed while it is open."""
        return self._poller.poll_rate

    @poll_rate.setter
    def poll_rate(self, rate: float) -> None:
        if not rate > 0:
            raise ConfigurationError(f"poll_rate must be above 0, not {rate!r}")
        self._poller.poll_rate = rate

    def stats(self) -> SessionStats:
        """The session at this moment."""
        counts, times = self.registry.counts, self._poller.finish_times
        gate = self.client.submit_gate.state()
        p50, p95 = times.quantiles(0.5, 0.95)
        return SessionStats(
            counts=counts,
            in_flight=self._submitter.in_flight,
            credits_charged=self.registry.credits_charged,
            credits_unknown=self.registry.credits_unknown,
            polls=self._poller.polls,
            refusals=self.client.submit_gate.refusals,
            query_refusals=self.client.query_gate.refusals,
            submit_rate=gate.rate,
            submit_limit=gate.limit,
            submit_noise=gate.noise,
            submit_hold=gate.held_for,
            polls_per_job=times.polls_per_job,
            time_to_finish_p50=p50,
            time_to_finish_p95=p95,
            finish_rate=times.rate(counts[JobState.QUEUED] + counts[JobState.PROCESSING]),
            loop_lag=self._poller.longest_lag,
            waiting=self.client.waits.long,
            poll_stretch=self._poller.stretch,
        )

    def _job_ended(self) -> None:
        self.client.submit_gate.job_ended()
        self._changed.set()

    # --- what the handles of jobs do --------------------------------------------------------

    @cached_property
    def _downloader(self) -> Downloader:
        from seedance_async.jobs.downloads.downloader import Downloader  # only if it is used

        return Downloader(
            self.client.transport,
            self.client.get,
            limit=self._options.max_downloads,
            retry=self._options.retry,
            timeouts=self._options.timeouts,
            rng=self._options.rng,
            waits=self.client.waits,
            on_retry=None if self._events is None else partial(self._events.retried, "download"),
        )

    @cached_property
    def _chaining(self) -> Chaining:
        from seedance_async.session.chaining import Chaining  # only if it is used

        return Chaining(
            registry=self.registry,
            uploads=self._uploads,
            on_record=self._resumer.on_record,
            actions=self._actions,
            get=self.client.get,
            save=self._downloader.save,
            allow_local=self.client.allow_local,
        )

    async def _download(
        self, record: JobRecord, target: Path | VideoTarget, overwrite: bool
    ) -> SavedFile:
        assert record.generation is not None
        record.saved = await self._downloader.save(record.generation, target, overwrite)
        _log.info("the video of job %s is saved: %s", record.request_id, record.saved.place)
        if self._journal is not None:
            await self._journal.write_saved(record, record.saved)
        if self._events is not None:
            self._events.saved(record, record.saved)
        return record.saved

    def _stream(self, record: JobRecord, ready: Callable[[], Awaitable[Generation]]) -> VideoStream:
        return self._downloader.stream(record.request_id or record.key, ready)

    async def _cancel(self, record: JobRecord) -> None:
        assert record.request_id is not None
        if self._submitter.orphans is not None:
            self._submitter.orphans.cancelled(record)
        try:
            await self.client.cancel(record.request_id)
        except (ConflictError, NotFoundError) as error:
            _log.info("job %s was not cancelled: %s", record.request_id, error)
        self._poller.poll_soon(record)

    # --- entering and leaving ---------------------------------------------------------------

    async def __aenter__(self) -> SeedanceSession:
        return await self.open()

    async def open(self) -> SeedanceSession:
        """Open the session, as entering its block does; `aclose` must follow.

        Returns:
            The session.

        Raises:
            JournalError: the journal cannot be used, or another run is writing it.
            RuntimeError: it was opened before.
        """
        if self._home is not None:
            raise RuntimeError("a session can be opened once")
        self._home = (os.getpid(), asyncio.get_running_loop())
        anyio.CancelScope()  # imports what shielding needs, while there are files to open
        try:
            await self._open_journal()
        except BaseException:
            if not self._is_broken_off():
                await shielded(self._shutdown.release())
            raise
        self._accepting = True
        self._poller.start()
        shared = None if self._journal is None else self._journal.shared
        if self._callbacks is not None and shared is not None:
            self._callbacks.share(shared)
        return self

    async def _open_journal(self) -> None:
        """Open the journal, and learn from it what is spent and what jobs cost."""
        shared = None if self._journal is None else self._journal.shared
        keeps = self._callbacks is not None and shared is None  # early callbacks, in memory
        read = self._options.read_journal or keeps
        entries = [] if self._journal is None else await self._journal.open(read=read)
        if self._journal is not None and self._callbacks is not None:
            uncertain = [each.key for each in entries if keeps and each.is_uncertain]
            self._callbacks.restore(await self._journal.secret(), uncertain)
        limits = dict(self._options.budgets or {})
        if self._options.max_credits is not None:
            limits[""] = self._options.max_credits
        if limits:
            from seedance_async.session.credit_limit import CreditLimit

            before = None if self._journal is None else await self._journal.spending(limits)
            self._submitter.credit_limit = CreditLimit(
                limits, before, list_models=self.client.capabilities.read
            )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close(wait=error is None, leave=False, deadline=math.inf)

    async def aclose(self, *, leave: bool = False, within: float | None = None) -> None:
        """Leave the session: submit nothing more, wait for its jobs, and release what it holds.

        Jobs that are not waited for go on at the server. Their ids are in the log, and in the
        journal if there is one, from which `resume` takes them up. A session that is closed, or
        was never opened, is left as it is.

        Args:
            leave: wait for no job. Submits in progress still have half of `within` to learn their
                ids, or `Timeouts.submit_grace` seconds if that is not given.
            within: seconds after which this returns; None for as long as the jobs take.

        Raises:
            RuntimeError: it was opened in another process or event loop.
        """
        if self._home is None or not self._accepting:
            return
        self._check_home()
        deadline = math.inf if within is None else asyncio.get_running_loop().time() + within
        await self._close(wait=not leave, leave=leave, deadline=deadline)

    async def _close(self, *, wait: bool, leave: bool, deadline: float) -> None:
        """Close the session; by the deadline, at most, of the event loop's clock."""
        self._accepting = False
        reason = SeedanceError("the session was left")
        try:
            if self._is_broken_off():
                return
            self._shutdown.hurry(deadline - asyncio.get_running_loop().time(), leave=leave)
            if wait:
                with anyio.move_on_at(deadline - self.client.submit_grace):
                    await self._batches.stop(reason)
                    await self._shutdown.jobs_ended()
            elif leave:
                self._batches.cancel(reason)
            else:
                await self._batches.stop(reason)
        finally:
            self._closed = True
            if self._is_broken_off():
                self._shutdown.break_off()
            else:
                await self._shutdown.close_by(deadline, leave=leave)

    def _is_broken_off(self) -> bool:
        """Whether the event loop was closed in the middle, so that nothing can be awaited."""
        return isinstance(sys.exception(), GeneratorExit) or not self._is_home()

    def _check_open(self) -> None:
        if not self._accepting:
            raise RuntimeError("the session is not open: use it inside `async with`")
        self._check_usable()

    def _check_usable(self) -> None:
        if self._closed:
            raise RuntimeError("the session is closed")
        self._check_home()

    def _is_home(self) -> bool:
        try:
            return self._home == (os.getpid(), asyncio.get_running_loop())
        except RuntimeError:  # a thread without a loop
            return False

    def _check_home(self) -> None:
        if not self._is_home():
            raise RuntimeError(
                "a session belongs to the process and event loop that it was opened in; from a"
                " thread, use asyncio.run_coroutine_threadsafe"
            )


def _journal_recorder(
    journal: Journal | str | Path | None, client: SeedanceClient
) -> JournalRecorder | None:
    if journal is None:
        return None
    from seedance_async.session.journaling import JournalRecorder

    if isinstance(journal, (str, Path)):
        from seedance_async.journal import SQLiteJournal  # SQLite is imported only if it is used

        journal = SQLiteJournal(journal)
    return JournalRecorder(journal, origin=client.base_url, waits=client.waits)


def _event_emitter(on_event: Callable[[Event], object] | None) -> EventEmitter | None:
    if on_event is None:
        return None
    from seedance_async.jobs.events import EventEmitter  # imported only if somebody listens

    return EventEmitter(on_event)
