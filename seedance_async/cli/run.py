"""A run: many requests through one session, their videos saved, every line accounted for.

It prints nothing and owns no file; outcomes go to a callable as they happen. Whatever ends a run,
each line has exactly one outcome, and none that may have been sent is told as not submitted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import attrs

from seedance_async import (
    AuthenticationError,
    DownloadError,
    GenerationRequest,
    InsufficientCreditsError,
    Job,
    JobState,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
)
from seedance_async.cli.exits import InterruptedRunError, StoppedRunError
from seedance_async.cli.inputs import Line
from seedance_async.cli.interrupts import Interrupts
from seedance_async.cli.outcomes import Outcome

Target = Callable[[int, Job], Path]

_LEFT = {
    JobState.SUCCEEDED: "the run was interrupted before the video was saved",
    JobState.ABANDONED: "the run was interrupted; the job goes on without it",
}


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
        folder: where the videos go, for the commands in outcomes.
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
        folder: Path | None = None,
        overwrite: bool = False,
        savers: int = 4,
        on_stop: Callable[[Running], None] = lambda running: None,
        on_leave: Callable[[Running], None] = lambda running: None,
    ) -> None:
        self.session = session
        self._lines, self._take, self._target = lines, take, target
        self._folder, self._overwrite, self._saver_count = folder, overwrite, savers
        self._on_stop, self._on_leave = on_stop, on_leave
        self._line_of = {id(line.request): line.number for line in lines}
        self._pulled: set[int] = set()
        self._known: dict[int, Job] = {}
        self._open = {line.number: line.request for line in lines}
        self._unsaved: asyncio.Queue[tuple[int, Job] | None] = asyncio.Queue()
        self._stopped_by: SeedanceError | None = None
        self.interrupts = Interrupts(self._interrupted, self._left)
        self.saved = 0

    async def complete(self) -> None:
        """Run to the end, or until a second signal; then account for what is left."""
        try:
            with self.interrupts.installed():
                async with self.session, asyncio.TaskGroup() as savers:
                    for _ in range(self._saver_count):
                        savers.create_task(self._save_videos())
                    await self._submit_all()
                    for _ in range(self._saver_count):
                        self._unsaved.put_nowait(None)
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
        self.session.client.submit_gate.shut(reason, math.inf)
        self._look_around()

    def running(self) -> Running:
        """What goes on at the server now."""
        records = list(self.session.registry)
        ids = tuple(str(each.request_id) for each in records if each.state.is_running)
        return Running(ids, sum(each.state is JobState.SUBMITTING for each in records))

    # --- submitting -------------------------------------------------------------------------

    def _requests(self) -> Iterator[GenerationRequest]:
        for line in self._lines:
            if self._stopped_by is not None:
                return
            self._pulled.add(line.number)
            yield line.request

    async def _submit_all(self) -> None:
        try:
            async with aclosing(self.session.as_completed(self._requests())) as jobs:
                async for job in jobs:
                    self._ended(job)
        except (AuthenticationError, InsufficientCreditsError) as error:
            self._stopped_by = error
        finally:
            self._look_around()

    def _ended(self, job: Job) -> None:
        number = self._line_of[id(job.request)]
        if job.state is JobState.SUCCEEDED and self._target is not None:
            self._known[number] = job
            self._unsaved.put_nowait((number, job))
        else:
            self._tell(number, job)

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
            self.saved += 1
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
        if isinstance(job.error, StoppedRunError) and job.request_id is None:
            self._take(Outcome.not_submitted(number, request, job.error))
            return
        self._take(Outcome.of_job(job, number, file=file, error=error, folder=self._folder))

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
                told = _LEFT.get(job.state)
                self._tell(number, job, error=InterruptedRunError(told) if told else None)
            else:
                self._open.pop(number)
                self._take(self._unended(number, request, job))

    def _unended(self, number: int, request: GenerationRequest, job: Job | None) -> Outcome:
        if job is None and number in self._pulled:  # only where the run itself broke off
            reason = "the run broke off before it was known what became of it"
            error = SubmitUncertainError(reason, request=request)
            return Outcome.uncertain(number, request, error, self._folder)
        # The session was left in good order and the job has not ended: it was never sent.
        return Outcome.not_submitted(number, request, self._stopped_by)

    # --- signals ----------------------------------------------------------------------------

    def _interrupted(self) -> None:
        self.stop(InterruptedRunError("interrupted before it was submitted"))
        self._on_stop(self.running())

    def _left(self) -> None:
        self._look_around()
        self._on_leave(self.running())
