"""A run: many requests through one session, their videos saved, every line accounted for.

It prints nothing and owns no file; outcomes go to a callable as they happen. Whatever ends a run,
each line has exactly one outcome, and none that may have been sent is told as not submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import attrs

from seedance_async import (
    AuthenticationError,
    BudgetExceededError,
    DownloadError,
    GenerationRequest,
    InsufficientCreditsError,
    Job,
    JobState,
    JournalError,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
)
from seedance_async.cli.exit_codes import InterruptedRunError, StoppedRunError
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.advice import Advice
from seedance_async.cli.runs.outcomes import Outcome
from seedance_async.cli.runs.recorded import ENDED, file_there, job_of
from seedance_async.cli.signals import Interrupts
from seedance_async.journal import JournalEntry

Target = Callable[[int, Job], Path]
Stream = Callable[[SeedanceSession, Iterator[Line]], AsyncGenerator[Job]]

_LEFT = {
    JobState.SUCCEEDED: "the run was interrupted before the video was saved",
    JobState.ABANDONED: "the run was interrupted; the job goes on without it",
}

#: A submit that ended so was never sent, and nothing is wrong with its request.
_NEVER_SENT = (StoppedRunError, BudgetExceededError, JournalError)


async def submitted(session: SeedanceSession, lines: Iterator[Line]) -> AsyncGenerator[Job]:
    """The jobs of the lines as they end; those that are not known to the journal are submitted."""
    async with aclosing(session.as_completed(line.request for line in lines)) as jobs:
        async for job in jobs:
            yield job


@attrs.frozen
class Running:
    """What goes on at the server at one moment.

    Attributes:
        ids: the jobs that it has accepted and that have not ended.
        submits: how many submits are out, their answers not yet here.
    """

    ids: tuple[str, ...]
    submits: int

    def __str__(self) -> str:
        told = f"{len(self.ids)} running job" + ("" if len(self.ids) == 1 else "s")
        return told + (f" and {self.submits} submits on their way" if self.submits else "")


class Run:
    """The requests of some lines, from submit to saved video.

    Args:
        session: a session that is not yet entered; the run enters and leaves it.
        lines: what to submit.
        take: given each outcome as it happens; must not raise.
        target: the file for a line's video; None saves none.
        advice: what outcomes tell to do next.
        begin: called when the session is open and nothing is sent yet; tells, by line, what an
            earlier run has sent. What it raises ends the run.
        stream: from lines to jobs that have ended.
        overwrite: whether a file that is there may be replaced.
        savers: downloads at once.
        on_stop: told what is running when a signal ends the submitting.
        on_leave: the same when a second signal ends the waiting.
    """

    def __init__(
        self,
        session: SeedanceSession,
        lines: Sequence[Line],
        take: Callable[[Outcome], None],
        *,
        target: Target | None,
        advice: Advice,
        begin: Callable[[], Mapping[int, JournalEntry]] = dict,
        stream: Stream = submitted,
        overwrite: bool = False,
        savers: int = 4,
        on_stop: Callable[[Running], None] = lambda running: None,
        on_leave: Callable[[Running], None] = lambda running: None,
    ) -> None:
        self.session = session
        self._lines, self._take, self._target = lines, take, target
        self._advice, self._overwrite, self._saver_count = advice, overwrite, savers
        self._begin, self._stream = begin, stream
        self._on_stop, self._on_leave = on_stop, on_leave
        self._line_of = {id(line.request): line.number for line in lines}
        self._sent_before: Mapping[int, JournalEntry] = {}
        self._pulled: set[int] = set()
        self._known: dict[int, Job] = {}
        self._open: dict[int, GenerationRequest] = {}
        self._unsaved: asyncio.Queue[tuple[int, Job] | None] = asyncio.Queue()
        self._stopped_by: SeedanceError | None = None
        self.interrupts = Interrupts(self._interrupted, self._left)
        self.has_begun = False
        self.saved = self.ended_before = 0

    async def complete(self) -> None:
        """Run to the end, or until a second signal; then account for what is left."""
        try:
            with self.interrupts.installed():
                async with self.session:
                    self._sent_before = self._begin()
                    self.has_begun = True
                    self._open = {line.number: line.request for line in self._lines}
                    await self._submit_and_save()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.interrupts.leaving or task is None:
                raise
            task.uncancel()
        finally:
            self._account_for_the_rest()

    def stop(self, reason: SeedanceError) -> None:
        """Submit no more: neither what is still in the input nor what waits for its turn."""
        self._stopped_by = self._stopped_by or reason
        self.session.stop_submitting(reason)
        self._look_around()

    def running(self) -> Running:
        """What goes on at the server now."""
        records = list(self.session.registry)
        ids = tuple(str(each.request_id) for each in records if each.state.is_running)
        return Running(ids, sum(each.state is JobState.SUBMITTING for each in records))

    # --- submitting -------------------------------------------------------------------------

    def _pull(self) -> Iterator[Line]:
        for line in self._lines:
            if self._stopped_by is not None:
                return
            self._pulled.add(line.number)
            yield line

    async def _submit_and_save(self) -> None:
        async with asyncio.TaskGroup() as savers:
            for _ in range(self._saver_count):
                savers.create_task(self._save_videos())
            await self._submit_all()
            for _ in range(self._saver_count):
                self._unsaved.put_nowait(None)

    async def _submit_all(self) -> None:
        try:
            async with aclosing(self._stream(self.session, self._pull())) as jobs:
                async for job in jobs:
                    self._ended(job)
        except (AuthenticationError, InsufficientCreditsError, BudgetExceededError) as error:
            self._stopped_by = self._stopped_by or error
        finally:
            self._look_around()

    def _ended(self, job: Job) -> None:
        number = self._line_of[id(job.request)]
        entry = self._sent_before.get(number)
        self.ended_before += entry is not None and entry.state in ENDED
        if isinstance(job.error, JournalError):  # what cannot be recorded is not bought
            self.stop(StoppedRunError(str(job.error)))
        if job.state is not JobState.SUCCEEDED or self._target is None:
            self._tell(number, job)
        elif (file := self._file_of(job)) is not None:
            self._tell(number, job, file=file)
        else:
            self._known[number] = job
            self._unsaved.put_nowait((number, job))

    def _file_of(self, job: Job) -> Path | None:
        """The video where an earlier run has saved it."""
        if job.saved is None or self._advice.folder is None:
            return None
        return file_there(job.saved.path, job.saved.size, self._advice.folder)

    # --- saving -----------------------------------------------------------------------------

    async def _save_videos(self) -> None:
        while (each := await self._unsaved.get()) is not None:
            await self._save(*each)

    async def _save(self, number: int, job: Job) -> None:
        assert self._target is not None
        try:
            file = await job.download(self._target(number, job), overwrite=self._overwrite)
        except DownloadError as error:
            self._tell(number, job, error=error)
        else:
            self._tell(number, job, file=file)

    # --- outcomes ---------------------------------------------------------------------------

    def _tell(
        self,
        number: int,
        job: Job,
        *,
        file: Path | None = None,
        error: SeedanceError | None = None,
    ) -> None:
        request = self._open.pop(number)
        if isinstance(job.error, _NEVER_SENT) and job.request_id is None:
            self._take(self._not_sent(number, request, job.error))
            return
        self.saved += file is not None
        self._take(Outcome.of_job(job, number, file=file, error=error, advice=self._advice))

    def _not_sent(
        self, number: int, request: GenerationRequest, reason: SeedanceError | None
    ) -> Outcome:
        """Of a line that this run did not send: what an earlier one has left, or nothing."""
        entry = self._sent_before.get(number)
        if entry is None:
            return Outcome.not_submitted(number, request, reason)
        interrupted = isinstance(reason, InterruptedRunError)
        left = (InterruptedRunError if interrupted else StoppedRunError)(
            "the run ended before it came to this job of an earlier run"
        )
        job = job_of(entry, request, left)
        file = file_there(entry.path, entry.size, self._advice.folder or Path())
        is_open = job.state is JobState.ABANDONED or (job.state is JobState.SUCCEEDED and not file)
        error = left if is_open else None
        return Outcome.of_job(job, number, file=file, error=error, advice=self._advice)

    def _look_around(self) -> None:
        """Keep a handle on every job of the session, for the case that the run is left."""
        for record in self.session.registry:
            number = self._line_of.get(id(record.request))
            if number is not None:
                self._known[number] = Job(record, None)

    def _account_for_the_rest(self) -> None:
        for number, request in sorted(self._open.items()):
            job = self._known.get(number)
            if job is not None and job.done:
                self._tell_left(number, job)
            else:
                self._open.pop(number)
                self._take(self._unended(number, request, job))

    def _tell_left(self, number: int, job: Job) -> None:
        file = self._file_of(job) if job.state is JobState.SUCCEEDED else None
        told = _LEFT.get(job.state) if file is None else None
        self._tell(number, job, file=file, error=InterruptedRunError(told) if told else None)

    def _unended(self, number: int, request: GenerationRequest, job: Job | None) -> Outcome:
        sent_before = number in self._sent_before
        if (
            job is None and number in self._pulled and not sent_before
        ):  # only where the run itself broke off
            reason = "the run broke off before it was known what became of it"
            error = SubmitUncertainError(reason, request=request)
            return Outcome.uncertain(number, request, error, self._advice)
        # The session was left in good order and the job has not ended: it was never sent.
        return self._not_sent(number, request, self._stopped_by)

    # --- signals ----------------------------------------------------------------------------

    def _interrupted(self) -> None:
        self.stop(InterruptedRunError("interrupted before it was submitted"))
        self._on_stop(self.running())

    def _left(self) -> None:
        self._look_around()
        self._on_leave(self.running())
