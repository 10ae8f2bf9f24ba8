"""A run: many requests through one session, their videos saved, every line accounted for.

It prints nothing and owns no file; outcomes go to a callable as they happen. Whatever ends a run,
each line has exactly one outcome, and none that may have been sent is reported as not submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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
    SourceJobError,
    SubmitUncertainError,
    TooManyUncertainError,
    UnreachableError,
)
from seedance_async._utils.plural import counted
from seedance_async.cli.exit_codes import InterruptedRunError, StoppedRunError
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.runs.destinations import LocalFolder
from seedance_async.cli.runs.journal_entries import state_of
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.streams import Stream, submit_lines
from seedance_async.cli.runs.unsaved import UnsavedVideos
from seedance_async.cli.signals import Interrupts
from seedance_async.jobs.downloads.video_stream import VideoTarget
from seedance_async.journal import JournalEntry

#: Where the video of a line's job goes.
Target = Callable[[Line, Job], Path | VideoTarget]

#: The video with a recorded place and size, if it is still there.
Found = Callable[[str | Path | None, int | None], Path | str | None]

_INTERRUPTED = {
    JobState.SUCCEEDED: "the run was interrupted before the video was saved",
    JobState.ABANDONED: "the run was interrupted; the job goes on at the server",
}

#: A submit that ended with one of these was never sent, and nothing is wrong with its request.
_NEVER_SENT = (StoppedRunError, BudgetExceededError, JournalError, UnreachableError)

#: What a stream raises, after its jobs, if it submits no more.
_STOPS = (
    AuthenticationError,
    InsufficientCreditsError,
    BudgetExceededError,
    TooManyUncertainError,
    UnreachableError,
)


@attrs.frozen
class Running:
    """What is in progress at one moment.

    Attributes:
        ids: the jobs that the server has accepted and that have not ended.
        submits: how many submits are waiting for their answer.
    """

    ids: tuple[str, ...]
    submits: int

    def __str__(self) -> str:
        jobs = counted(len(self.ids), "running job")
        if not self.submits:
            return jobs
        submits = counted(self.submits, "submit") + " in progress"
        return f"{jobs} and {submits}" if self.ids else submits


class Run:
    """The requests of some lines, from submit to saved video.

    Args:
        session: a session that is not yet entered; the run enters and leaves it.
        lines: what to submit or resume.
        take: called with each outcome as it happens; must not raise.
        target: the place for a line's video; None saves none.
        next_steps: what outcomes suggest to the user.
        found: finds videos of earlier runs; by default in the folder of `next_steps`.
        begin: called when the session is open and nothing is sent yet; returns, by place, what an
            earlier run has sent. An error that it raises ends the run.
        stream: submits or resumes the lines.
        overwrite: whether an existing file may be replaced.
        max_downloads: downloads at once.
        beside: writes what belongs beside each video, once its outcome is taken; must not raise.
    """

    def __init__(
        self,
        session: SeedanceSession,
        lines: Sequence[Line],
        take: Callable[[Outcome], None],
        *,
        target: Target | None,
        next_steps: NextSteps,
        found: Found | None = None,
        begin: Callable[[], Mapping[Place, JournalEntry]] = dict,
        stream: Stream = submit_lines,
        overwrite: bool = False,
        max_downloads: int = 4,
        beside: Callable[[Line, Job, Path | str], Awaitable[None]] | None = None,
    ) -> None:
        self.session, self.next_steps = session, next_steps
        self._lines, self._keep, self._target = lines, take, target
        self._begin, self._stream = begin, stream
        self._found = found or LocalFolder(next_steps.folder or Path()).found
        self._overwrite, self._max_downloads, self._beside = overwrite, max_downloads, beside
        self._line_of = {id(line.request): line for line in lines}
        self._sent_before: Mapping[Place, JournalEntry] = {}
        self._pulled: set[Place] = set()
        self._known: dict[Place, Job] = {}
        self._open: dict[Place, Line] = {}
        self._unsaved = UnsavedVideos()
        self._stopped_by: SeedanceError | None = None
        self._on_stop: Callable[[Running], None] = lambda running: None
        self._on_leave: Callable[[Running], None] = lambda running: None
        self.on_outcome: Callable[[Outcome], None] = lambda outcome: None
        self.interrupts = Interrupts(self._interrupted, self._leaving)
        self.has_begun = False
        self.saved = self.ended_before = 0

    @property
    def total(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    @property
    def saves(self) -> bool:
        """Whether it saves the videos."""
        return self._target is not None

    def line_of(self, request: GenerationRequest | None) -> Line | None:
        """The line that a request comes from."""
        return self._line_of.get(id(request))

    def had_ended(self, outcome: Outcome) -> bool:
        """Whether an earlier run knew the end of this outcome's job already."""
        entry = self._sent_before.get((outcome.line or 0, outcome.take))
        return entry is not None and state_of(entry).has_ended

    async def complete(
        self, *, on_stop: Callable[[Running], None], on_leave: Callable[[Running], None]
    ) -> None:
        """Run to the end, or until a second signal; then account for what is left.

        Args:
            on_stop: called with what is running when a signal ends the submitting.
            on_leave: called with what is running when a second signal ends the waiting.
        """
        self._on_stop, self._on_leave = on_stop, on_leave
        try:
            with self.interrupts.installed():
                async with self.session:
                    self._sent_before = self._begin()
                    self.has_begun = True
                    self._open = {line.place: line for line in self._lines}
                    await self._submit_and_save()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.interrupts.leaving or task is None:
                raise
            task.uncancel()
        finally:
            self._report_rest()

    def stop(self, reason: SeedanceError) -> None:
        """Submit no more: neither what is still in the input nor what waits for its turn."""
        self._stopped_by = self._stopped_by or reason
        self.session.stop_submitting(reason)
        self._keep_handles()

    def running(self) -> Running:
        """What is in progress now."""
        records = list(self.session.registry)
        ids = tuple(str(each.request_id) for each in records if each.state.is_running)
        return Running(ids, sum(each.state is JobState.SUBMITTING for each in records))

    # --- submitting -------------------------------------------------------------------------

    def _pull(self) -> Iterator[Line]:
        for line in self._lines:
            if self._stopped_by is not None:
                return
            self._pulled.add(line.place)
            yield line

    async def _submit_and_save(self) -> None:
        async with asyncio.TaskGroup() as savers:
            for _ in range(self._max_downloads):
                savers.create_task(self._save_videos())
            await self._submit_all()
            self._unsaved.close()

    async def _submit_all(self) -> None:
        try:
            async with aclosing(self._stream(self.session, self._pull())) as results:
                async for line, result in results:
                    if isinstance(result, Job):
                        self._job_ended(line, result)
                    else:
                        self._take(self._not_resumed(self._open.pop(line.place), result))
        except _STOPS as error:
            self._stopped_by = self._stopped_by or error
        finally:
            self._keep_handles()

    def _job_ended(self, line: Line, job: Job) -> None:
        entry = self._sent_before.get(line.place)
        self.ended_before += entry is not None and state_of(entry).has_ended
        if isinstance(job.error, JournalError):  # what cannot be recorded is not bought
            self.stop(StoppedRunError(str(job.error)))
        if job.state is not JobState.SUCCEEDED or self._target is None:
            self._report(line, job)
        else:
            self._known[line.place] = job
            self._unsaved.add(line, job, None if entry is None else entry.updated_at)

    def _file_of(self, job: Job) -> Path | str | None:
        """The video that an earlier run saved, if it is still there."""
        return None if job.saved is None else self._found(job.saved.place, job.saved.size)

    # --- saving -----------------------------------------------------------------------------

    async def _save_videos(self) -> None:
        async for line, job in self._unsaved:
            await self._save(line, job)

    async def _save(self, line: Line, job: Job) -> None:
        assert self._target is not None
        try:
            file = self._file_of(job)
            if file is None:
                saved = await job.download(self._target(line, job), overwrite=self._overwrite)
                file = saved if isinstance(saved, Path) else saved.place
        except DownloadError as error:
            self._report(line, job, error=error)
            return
        self._report(line, job, file=file)
        if self._beside is not None:
            await self._beside(line, job, file)

    # --- outcomes ---------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        self._keep(outcome)
        self.on_outcome(outcome)

    def _report(
        self,
        line: Line,
        job: Job,
        *,
        file: Path | str | None = None,
        error: SeedanceError | None = None,
    ) -> None:
        self._open.pop(line.place)
        stopped = job.error.__cause__ if isinstance(job.error, SourceJobError) else job.error
        if isinstance(stopped, _NEVER_SENT) and job.request_id is None:
            self._take(self._not_sent(line, stopped))
            return
        self.saved += file is not None
        self._take(Outcome.of_job(job, line, file=file, error=error, next_steps=self.next_steps))

    def _not_sent(self, line: Line, reason: SeedanceError | None) -> Outcome:
        """The outcome of a line that this run did not send: perhaps an earlier one did."""
        if line.place not in self._sent_before:
            return Outcome.not_submitted(line, reason)
        interrupted = isinstance(reason, InterruptedRunError)
        unfinished = (InterruptedRunError if interrupted else StoppedRunError)(
            "the run ended before it resumed this job of an earlier run"
        )
        return self._not_resumed(line, unfinished)

    def _not_resumed(self, line: Line, reason: SeedanceError) -> Outcome:
        """The outcome of a job of an earlier run by its journal entry alone."""
        entry = self._sent_before[line.place]
        file = self._found(entry.path, entry.size)
        return Outcome.of_entry(
            entry, line, file=file, unfinished=reason, next_steps=self.next_steps
        )

    def _keep_handles(self) -> None:
        """Keep a handle on every job of the session, in case the run is left."""
        for record in self.session.registry:
            line = self._line_of.get(id(record.request))
            if line is not None:
                self._known[line.place] = Job(record, None)

    def _report_rest(self) -> None:
        for place in sorted(self._open):
            line, job = self._open[place], self._known.get(place)
            if job is not None and job.done:
                self._report_interrupted(line, job)
            else:
                self._open.pop(place)
                self._take(self._unfinished(line, job))

    def _report_interrupted(self, line: Line, job: Job) -> None:
        file = self._file_of(job) if job.state is JobState.SUCCEEDED else None
        message = _INTERRUPTED.get(job.state) if file is None else None
        error = InterruptedRunError(message) if message else None
        self._report(line, job, file=file, error=error)

    def _unfinished(self, line: Line, job: Job | None) -> Outcome:
        place = line.place
        is_lost = job is None and place in self._pulled and place not in self._sent_before
        if is_lost:  # only if the run itself broke off
            reason = "the run broke off before the result of its submit was known"
            error = SubmitUncertainError(reason, request=line.request)
            return Outcome.uncertain(line, error, self.next_steps)
        # The session was left in good order and the job has not ended: it was never sent.
        return self._not_sent(line, self._stopped_by)

    # --- signals ----------------------------------------------------------------------------

    def _interrupted(self) -> None:
        self.stop(InterruptedRunError("interrupted before it was submitted"))
        self._on_stop(self.running())

    def _leaving(self) -> None:
        self._keep_handles()
        self._on_leave(self.running())
