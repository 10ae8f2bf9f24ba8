"""`Making`: one key in one session, from its submit, or what is known of it, to its outcome."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import attrs

from seedance_async import (
    APIError,
    BudgetExceededError,
    DownloadError,
    Job,
    JobState,
    JournalError,
    RateLimitError,
    SavedFile,
    SeedanceError,
    SeedanceSession,
    ServerError,
    SubmitUncertainError,
    TooManyAbandonedError,
    TransportError,
)
from seedance_async.api.retry import stops_submits
from seedance_async.engines.results import Results
from seedance_async.engines.submits import Submits
from seedance_async.engines.task import Outcome, Task
from seedance_async.journal import JournalEntry
from seedance_async.session.journaling import OtherAPIError

_log = logging.getLogger(__name__)

#: What is not about one task, besides what `stops_submits` knows.
_FOR_NOW = (TransportError, RateLimitError, TooManyAbandonedError, JournalError)

#: Tries of what may fail for one task alone, before that is its outcome.
TRIES = 8

#: Tries of a download before its task is told without a file: it is paid, and can be fetched later.
DOWNLOADS = 4

#: Seconds between two looks at a submit that is on its way.
LOOK_AGAIN = 0.1


@attrs.frozen(eq=False)
class Means:
    """What all tasks of a session share.

    Attributes:
        session: open, with a journal.
        results: where videos go; None to download none.
        submits: lets them through.
    """

    session: SeedanceSession
    results: Results | None
    submits: Submits


class Making:
    """One key that is being made; everybody who asks for it waits for the same outcome.

    Args:
        means: what all tasks of the session share.
        task: what is made.
        after: an earlier one of the key, which was cancelled and has not ended.
        done: called once it has ended.

    Attributes:
        is_left: whether everybody who waited for it has gone.
        is_cancelled: whether it is, for all.
    """

    def __init__(
        self, means: Means, task: Task, after: Making | None, done: Callable[[Making], None]
    ) -> None:
        self.task, self.is_left, self.is_cancelled = task, False, False
        self._means, self._after = means, after
        self._session, self._submits = means.session, means.submits
        self._waiting = Counter[str]()  # by who waits
        self._told_alone: dict[str, asyncio.Future[Outcome]] = {}
        self._submitting: asyncio.Task[Job] | None = None
        self._job: Job | None = None
        self._cancelling = set[asyncio.Task[None]]()
        self._making = asyncio.create_task(self._make(), name=f"seedance-make {task.key}")
        self._making.add_done_callback(lambda _: done(self))

    async def outcome(self, who: str) -> Outcome:
        """Its outcome. If all who wait are cancelled, it is; what was sent goes on."""
        if who not in self._waiting:
            self._told_alone[who] = asyncio.get_running_loop().create_future()
        self._waiting[who] += 1
        alone = self._told_alone[who]
        try:
            await asyncio.wait({self._making, alone}, return_when=asyncio.FIRST_COMPLETED)
            return (alone if alone.done() else self._making).result()
        finally:
            self._waiting -= Counter([who])
            self._waiting = +self._waiting
            if not self._waiting and not self._making.done():
                self.is_left = True
                self._making.cancel()
                await asyncio.wait({self._making})

    def cancel(self, who: str) -> None:
        """Submit it no more, unless others wait for it; if it is accepted, cancel it for all."""
        if self.is_cancelled:
            return
        if any(each != who and not self._is_told(each) for each in self._waiting):
            self._start(self._cancel_for(who))
            return
        self.is_cancelled = True
        if self._job is not None:
            self._start(self._cancel_job(self._job))
        elif self._submitting is not None:
            self._submitting.cancel()

    async def _cancel_for(self, who: str) -> None:
        """Cancel it for one who waits, if it is not sent; for all if it is."""
        known = await self._settled()
        if known is None or known.state == JobState.REJECTED:
            alone = self._told_alone.get(who)
            if alone is not None and not alone.done():
                alone.set_result(Outcome(self.task.key, JobState.CANCELLED.value))
            return
        self.is_cancelled = True
        if self._job is not None:
            await self._cancel_job(self._job)

    def waits(self, who: str) -> bool:
        """Whether somebody waits for it."""
        return who in self._waiting

    def _is_told(self, who: str) -> bool:
        return who in self._told_alone and self._told_alone[who].done()

    def _start(self, cancelling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(cancelling)
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _make(self) -> Outcome:
        if self._after is not None:
            await asyncio.wait({self._after._making})
        try:
            return await self._outcome_of(await self._accepted())
        except SeedanceError as error:
            return await self._told(error)
        except Exception as error:
            _log.exception("job %s could not be made", self.task.key)
            return await self._told(repr(error))
        finally:
            for each in self._cancelling:
                each.cancel()

    async def _outcome_of(self, job: Job | None) -> Outcome:
        """The outcome of an accepted job; of one that was cancelled before it was sent for None."""
        if job is None:
            return await self._told(None)
        self._job = job
        if self.is_cancelled:
            self._start(self._cancel_job(job))
        try:
            await job.wait()
        except SeedanceError as error:
            return await self._told(error)
        known = await self._recorded()
        if known is not None and known.is_uncertain:
            return await self._told(f"the id that it was given, {job.request_id}, is another job's")
        return await self._saved(job)

    # --- the submit -------------------------------------------------------------------------

    async def _accepted(self) -> Job | None:
        """The job, once it is accepted; None if it is cancelled before anything was sent."""
        here = self._session.registry.find(key=self.task.key)
        if here is not None and here.state is JobState.UNCERTAIN and here.error is not None:
            known = await self._recorded()
            if known is not None and known.is_uncertain:
                raise here.error  # the session would refuse its key
        if here is not None and here.state.is_running and here.request_id is not None:
            return await self._session.attach(here.request_id)  # a callback named its id, say
        if not self.is_cancelled:
            self._submitting = asyncio.create_task(self._submit())
            try:
                return await self._submitting
            except asyncio.CancelledError:
                if not self.is_cancelled or _is_being_cancelled():
                    raise
        known = await self._settled()
        if known is None or known.state == JobState.REJECTED:
            return None
        return await self._submit()  # it is on record as sent, so that nothing is

    async def _submit(self) -> Job:
        tries = 0
        while True:
            try:
                return await self._submit_once()
            except SeedanceError as error:
                if not (self._is_for_now(error, tries) or await self._is_beaten(error, tries)):
                    raise
                await self._submits.pause(tries)
                tries += 1

    async def _submit_once(self) -> Job:
        task, known = self.task, await self._session.recorded(self.task.key)
        if known is not None and known.state != JobState.REJECTED:
            return await self._session.submit(task.request, key=task.key, budget=task.budget)
        async with self._submits.place():
            return await self._session.submit(task.request, key=task.key, budget=task.budget)

    def _is_for_now(self, error: SeedanceError, tries: int) -> bool:
        """Whether a submit that failed, and was not charged, is tried again."""
        if isinstance(error, SubmitUncertainError | BudgetExceededError | OtherAPIError):
            return False
        if isinstance(error, ServerError):
            return tries < TRIES
        is_for_now = stops_submits(error) or isinstance(error, _FOR_NOW)
        if is_for_now:
            self._submits.hold(str(error))
        return is_for_now

    async def _is_beaten(self, error: SeedanceError, tries: int) -> bool:
        """Whether another worker's submit of the key was accepted meanwhile: it is followed."""
        if isinstance(error, SubmitUncertainError | OtherAPIError) or tries >= TRIES:
            return False
        known = await self._settled()
        if known is None:
            return False
        state = JobState(known.state)
        return state.is_resumable or state.has_ended

    # --- cancelling -------------------------------------------------------------------------

    async def _settled(self) -> JournalEntry | None:
        """What is on record of the key, once nobody is submitting it any more."""
        while True:
            known, here = await self._recorded(), self._session.registry.find(key=self.task.key)
            submitting = here is not None and here.state is JobState.SUBMITTING
            if not submitting and not (known is not None and known.is_held):
                return known
            await asyncio.sleep(LOOK_AGAIN)

    async def _cancel_job(self, job: Job) -> None:
        """Ask the server until it has cancelled the job, or the job ends: it may be charged."""
        tries = 0
        while True:
            try:
                return await job.cancel()
            except (APIError, TransportError) as error:
                if not tries:
                    _log.warning("job %s is not cancelled yet: %s", job.request_id, error)
                await self._submits.pause(tries)
                tries += 1

    # --- the video --------------------------------------------------------------------------

    async def _saved(self, job: Job) -> Outcome:
        results, request_id = self._means.results, job.request_id or ""
        if results is None or await results.has(self.task, request_id, job.saved):
            return await self._told(None, job.saved)
        error: DownloadError | None = None
        for tries in range(DOWNLOADS):
            try:
                await results.save(self.task, job)
            except DownloadError as failure:
                error = failure
                _log.warning("the video of job %s is not saved yet: %s", job.request_id, failure)
                await self._submits.pause(tries)
            else:
                return await self._told(None, job.saved)
        return await self._told(f"the video is made, and could not be saved: {error}", None)

    # --- what is told -----------------------------------------------------------------------

    async def _recorded(self) -> JournalEntry | None:
        tries = 0
        while True:
            try:
                known = await self._session.recorded(self.task.key)
            except OtherAPIError as error:
                return error.known
            except JournalError as error:
                self._submits.hold(str(error))
                await self._submits.pause(tries)
                tries += 1
            else:
                if tries:
                    self._submits.hold(None)
                return known

    async def _told(
        self, reason: SeedanceError | str | None, saved: SavedFile | None = None
    ) -> Outcome:
        """The outcome, in the words of the journal."""
        error = None if reason is None else str(reason)
        error_type = type(reason).__name__ if isinstance(reason, SeedanceError) else None
        known, key = await self._recorded(), self.task.key
        if known is None or (known.state == JobState.REJECTED and known.request_id is None):
            why = error or (None if self.is_cancelled or known is None else known.error)
            state = JobState.CANCELLED if self.is_cancelled else JobState.REJECTED
            return Outcome(key, state.value, error=why, error_type=error_type)
        state, why = _ended_state(known), known.error or error
        if isinstance(reason, OtherAPIError):  # that API is not asked
            why, saved = error, _recorded_file(known)
        return Outcome(
            key=key,
            state=state.value,
            request_id=known.request_id,
            credits_charged=known.credits_charged,
            file=None if saved is None else saved.place,
            sha256=None if saved is None else saved.sha256,
            error=None if state is JobState.SUCCEEDED and error is None else why,
            error_type=error_type,
            sent=True,
        )


def _ended_state(known: JournalEntry) -> JobState:
    """The state of a job that this session does no more about."""
    state = JobState(known.state)
    if known.is_uncertain:
        return JobState.UNCERTAIN
    return JobState.ABANDONED if state.is_resumable else state


def _recorded_file(known: JournalEntry) -> SavedFile | None:
    if known.path is None:
        return None
    return SavedFile.at(known.path, known.size or 0, known.sha256 or "")


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
