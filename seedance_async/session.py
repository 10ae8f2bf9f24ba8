"""`SeedanceSession`: the composition root, and the life of its jobs from submit to end.

It puts the rooms together (client, registry, poller, downloads), holds the semaphore on jobs in
flight, and sees that nothing paid is lost when it is left.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import attrs

from seedance_async import protocol
from seedance_async.backoff import Backoff
from seedance_async.bulk import BatchResult, Requests, Source, Stream
from seedance_async.client import Late, SeedanceClient
from seedance_async.downloads import Downloader
from seedance_async.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    SeedanceError,
    SubmitUncertainError,
)
from seedance_async.job import Job, JobActions
from seedance_async.models import Generation, GenerationRequest, JobToken, Submission
from seedance_async.options import RetryPolicy, SessionOptions, Timeouts
from seedance_async.poller import Poller
from seedance_async.registry import JobRecord, JobState, TaskRegistry
from seedance_async.shielding import see_through
from seedance_async.transport import Transport

_log = logging.getLogger(__name__)

#: Seconds that cancelling the remote jobs may take when a session is left by an error.
CANCEL_SECONDS = 10.0


@attrs.frozen
class SessionStats:
    """A session at one moment.

    Attributes:
        counts: jobs by state, since the session began.
        in_flight: jobs that this session submitted, or is submitting, and that have not ended.
        credits_charged: the sum of the charges that the server told.
        credits_unknown: jobs accepted without a charge that could be read.
        polls: status queries sent for tracked jobs.
        refusals: submits that a rate limit refused.
    """

    counts: Mapping[JobState, int]
    in_flight: int
    credits_charged: int
    credits_unknown: int
    polls: int
    refusals: int


class SeedanceSession:
    """Many generation jobs at once: submitted under a semaphore, polled to their end.

    ```python
    async with SeedanceSession() as session:
        generation = await session.generate(GenerationRequest("A river in autumn"))
    ```

    Leaving the block normally waits for the jobs. Leaving it by an exception leaves the remote
    jobs running and logs their ids. A session belongs to one event loop.

    Args:
        api_key: the key; else the environment's SEEDANCE_API_KEY.
        base_url: the API's origin; else SEEDANCE_BASE_URL, else the vendor's.
        max_in_flight: jobs between submit and their end, at every instant.
        max_connections: submits that are out at once, and as many other calls.
        max_downloads: downloads at once.
        poll: the delays between the polls of one job.
        poll_rate: polls a second over all jobs.
        job_timeout: seconds from acceptance after which a job is no longer waited for.
        poll_patience: seconds of nothing but failed polls after which a job is given up on.
        cancel_on_error: cancel the remote jobs when the block is left by an exception.
        retry, timeouts: see `RetryPolicy` and `Timeouts`.
        transport: another `Transport`; the session closes it.
        rng: the source of jitter, for tests.

    Raises:
        ConfigurationError: no key, a bad base URL, or an option out of bounds.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        max_in_flight: int = 20,
        max_connections: int = 50,
        max_downloads: int = 4,
        poll: Backoff | None = None,
        poll_rate: float = 20.0,
        job_timeout: float = 3600.0,
        poll_patience: float = 900.0,
        cancel_on_error: bool = False,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        transport: Transport | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._options = SessionOptions(
            max_in_flight=max_in_flight,
            max_connections=max_connections,
            max_downloads=max_downloads,
            poll=poll or Backoff(),
            poll_rate=poll_rate,
            job_timeout=job_timeout,
            poll_patience=poll_patience,
            cancel_on_error=cancel_on_error,
            retry=retry or RetryPolicy(),
            timeouts=timeouts or Timeouts(),
        )
        rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self.client = SeedanceClient(
            api_key,
            base_url,
            retry=self._options.retry,
            timeouts=self._options.timeouts,
            max_connections=max_connections,
            transport=transport,
            rng=rng,
        )
        self.registry = TaskRegistry()
        self._slots = asyncio.Semaphore(max_in_flight)
        self._poller = Poller(
            self.registry,
            self.client.get_once,
            poll=self._options.poll,
            poll_rate=poll_rate,
            workers=max_connections,
            job_timeout=job_timeout,
            patience=poll_patience,
            rng=rng,
        )
        self._downloader = Downloader(
            self.client.transport,
            self.client.get,
            limit=max_downloads,
            retry=self._options.retry,
            timeouts=self._options.timeouts,
            rng=rng,
        )
        self._actions = JobActions(self._cancel, self._downloader.save)
        self._streams: set[Stream] = set()
        self._changed = asyncio.Event()
        self._accepting = self._closed = False
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._in_flight = 0

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
            APIError: the server refused it; nothing was charged.
            TransportError: the server could not be reached; nothing was charged.
            RuntimeError: the session is not open.
            ValueError: the key is in use.
        """
        self._check_open()
        protocol.check(request, allow_local=self.client.allow_local)
        record = self.registry.add(key or secrets.token_hex(8), request)
        try:
            await self._slots.acquire()
        except BaseException:
            self._discard(record)
            raise
        await self._submit_in_slot(record)
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
        token = JobToken.parse(reference)
        protocol.build_get(token.request_id)  # refuses what cannot be an id
        record = self.registry.find(request_id=token.request_id)
        if record is None:
            record = self.registry.find(key=token.key)
            if record is None:
                record = self.registry.add(token.key or f"attached-{token.request_id}", None)
            elif record.state is not JobState.UNCERTAIN:
                raise ValueError(f"the key {token.key!r} belongs to another job, {record!r}")
            self.registry.take_up(record, token.request_id)
            record.on_final(lambda _: self._changed.set())
            self._poller.watch(record, at_once=True)
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
        if isinstance(stopped_by, SeedanceError) and protocol.stops_submits(stopped_by):
            async for request in source:
                outcomes[len(outcomes)] = self._unsent(request, stopped_by)
            stopped_by = None
        ordered = (outcomes[number] for number in sorted(outcomes))
        return BatchResult(tuple(ordered), stopped_by)

    def stats(self) -> SessionStats:
        """The session at this moment."""
        return SessionStats(
            counts=self.registry.counts,
            in_flight=self._in_flight,
            credits_charged=self.registry.credits_charged,
            credits_unknown=self.registry.credits_unknown,
            polls=self._poller.polls,
            refusals=self.client.submit_gate.refusals,
        )

    # --- the life of a job ------------------------------------------------------------------

    async def _stream(self, source: Source) -> AsyncGenerator[tuple[int, Job]]:
        self._check_open()
        options = self._options
        stream = Stream(
            source,
            slots=self._slots,
            launch=self._launch,
            feeders=min(options.max_connections, options.max_in_flight),
            window=options.max_in_flight,
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

    async def _launch(self, request: Any) -> JobRecord:
        """Submit one request of a stream; its slot is taken. The record tells how it went."""
        record = self.registry.add(secrets.token_hex(8), request)
        try:
            protocol.check(request, allow_local=self.client.allow_local)
        except InvalidRequestError as error:
            self.registry.move(record, JobState.REJECTED, error=error)
            self._slots.release()
            return record
        try:
            await self._submit_in_slot(record)
        except SeedanceError as error:
            _log.info("job %s: %s", record.key, error)
        return record

    async def _submit_in_slot(self, record: JobRecord) -> None:
        """From a taken slot to the server's acceptance; the slot is freed when the job ends."""
        request = record.request
        assert request is not None
        self._in_flight += 1
        record.on_final(self._free_slot)
        try:
            self._check_home()
            self.registry.move(record, JobState.SUBMITTING)
            late = partial(self._settle_late, record)
            submission = await self.client.create(request, if_cancelled=late)
        except SeedanceError as error:
            self._settle(record, error)
            raise
        except BaseException:
            if record.state in (JobState.PENDING, JobState.SUBMITTING):  # nothing was sent
                self._discard(record)
                self._free_slot(record)
            raise
        self._settle(record, submission)
        if record.error is not None:
            raise record.error

    def _settle(self, record: JobRecord, outcome: Late) -> None:
        """Take in what became of a submit."""
        if isinstance(outcome, Submission):
            try:
                self.registry.accept(record, outcome)
            except ValueError as error:
                assert record.request is not None
                outcome = SubmitUncertainError(
                    str(error), request=record.request, request_id=outcome.request_id
                )
            else:
                if outcome.credits_charged is None:
                    _log.warning("job %s: the server told no usable charge", outcome.request_id)
                self._poller.watch(record)
                return
        if isinstance(outcome, SubmitUncertainError):
            outcome.key = record.key
            _log.error("job %s: %s", record.key, outcome)
            self.registry.move(record, JobState.UNCERTAIN, error=outcome)
        else:
            self.registry.move(record, JobState.REJECTED, error=outcome)

    def _settle_late(self, record: JobRecord, outcome: Late) -> None:
        """Take in what became of a submit whose caller was cancelled."""
        self._settle(record, outcome)
        if record.request_id is not None:
            _log.warning(
                "job %s was accepted though its caller was cancelled; it goes on", record.request_id
            )

    def _unsent(self, request: Any, reason: SeedanceError) -> Job:
        record = self.registry.add(secrets.token_hex(8), request)
        self.registry.move(record, JobState.REJECTED, error=reason)
        return Job(record, self._actions)

    def _discard(self, record: JobRecord) -> None:
        self.registry.discard(record)
        self._changed.set()

    def _free_slot(self, record: JobRecord) -> None:
        self._in_flight -= 1
        self._slots.release()
        self._changed.set()

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
        self._accepting = True
        self._poller.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._accepting = False
        try:
            for stream in list(self._streams):
                await stream.stop()
            if error is None:
                await self._until(lambda: not self.registry.live)
        finally:
            closing = asyncio.create_task(self._close(), name="seedance-close")
            cancelled = await see_through(closing)
            closing.result()
            if cancelled:
                raise asyncio.CancelledError

    async def _close(self) -> None:
        self._closed = True
        self.client.submit_gate.shut(SeedanceError("the session is closed"), math.inf)
        submitting = JobState.SUBMITTING
        with anyio.move_on_after(self._options.timeouts.submit_grace):
            await self._until(lambda: not self.registry.counts[submitting])
        if self._options.cancel_on_error:
            with anyio.move_on_after(CANCEL_SECONDS):
                await asyncio.gather(*(self._cancel_for_good(r) for r in self._running()))
        self._leave_running()
        await self._poller.stop()
        await self.client.aclose()

    async def _cancel_for_good(self, record: JobRecord) -> None:
        try:
            await self._cancel(record)
        except SeedanceError as error:
            _log.warning("job %s could not be cancelled: %s", record.request_id, error)
            return
        await self._poller.poll_once(record)

    def _leave_running(self) -> None:
        """Tell of every job that goes on without this session, and end the waiting for it."""
        running = self._running()
        if running:
            ids = ", ".join(str(record.request_id) for record in running)
            _log.warning(
                "the session ends with %d jobs running; attach takes them up again: %s",
                len(running),
                ids,
            )
        uncertain = [record for record in self.registry if record.state is JobState.UNCERTAIN]
        if uncertain:
            _log.error(
                "the session ends with %d uncertain submits, which may be charged: %s",
                len(uncertain),
                ", ".join(record.key for record in uncertain),
            )
        left = SeedanceError("the session was left")
        for record in running:
            self.registry.move(record, JobState.ABANDONED, error=left)

    def _running(self) -> list[JobRecord]:
        return [record for record in self.registry if record.state.is_running]

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _check_open(self) -> None:
        if not self._accepting:
            raise RuntimeError("the session is not open: use it inside `async with`")
        self._check_home()

    def _check_home(self) -> None:
        if self._closed:
            raise RuntimeError("the session is closed")
        if self._home != (os.getpid(), asyncio.get_running_loop()):
            raise RuntimeError("a session belongs to the process and event loop it was entered in")
