"""A batch whose jobs workers make, in the foreground: it is shown and written down as any other.

Leaving it ends nothing but the showing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import click

from seedance_async import Job, JobState, SeedanceError, SeedanceSession
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import InterruptedRunError, StoppedRunError
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.live.display import shown
from seedance_async.cli.options import cannot_write
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.cli.queues.session import QueuedSession
from seedance_async.cli.queues.steps import QueueSteps
from seedance_async.cli.runs.batch_run import BatchOptions, BatchRecord
from seedance_async.cli.runs.beside import Beside
from seedance_async.cli.runs.destinations import Bucket, Destination
from seedance_async.cli.runs.foreground import complete
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.cli.runs.next_steps import JOURNAL
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.results import ResultsFile
from seedance_async.cli.runs.run import Run, Running
from seedance_async.cli.takes.folder_lines import write_lines
from seedance_async.journal import JournalEntry, read_entries


async def run_queued(
    session: QueuedSession,
    lines: Sequence[Line],
    options: BatchOptions,
    steps: QueueSteps,
    known: KnownJobs,
    screen: Screen,
) -> Report:
    """Show the jobs of lines until all have their outcomes, keep these, show the summary.

    Args:
        session: tells of the jobs.
        lines: with their keys; they are in the queue.
        options: where the outcomes go.
        steps: what they suggest to the user.
        known: what the journal knew before.
        screen: where it is shown.
    """
    destination = options.destination
    assert destination is not None
    bucket = destination if isinstance(destination, Bucket) else None
    beside = Beside(cast(SeedanceSession, session), bucket=bucket)
    record = _QueueRecord(lines, options, screen, steps, known, session.reworded)
    record.prepare()
    run = _QueuedRun(
        cast(SeedanceSession, session),
        lines,
        record.take,
        target=lambda line, job: destination.place("none"),
        next_steps=steps,
        found=lambda place, size: _found(destination, place, size),
        begin=record.begin,
        stream=lambda _, pulled: cast(Any, session.follow(pulled)),
        beside=beside.write,
    )
    started = time.monotonic()
    try:
        await _in_foreground(run, record.report, screen)
    finally:
        if run.has_begun:
            beside.show(screen)
            record.end(time.monotonic() - started)
    return record.report


async def _in_foreground(run: _QueuedRun, report: Report, screen: Screen) -> None:
    def explain(running: Running) -> None:
        jobs = f"; {running} at the server" if running.ids or running.submits else ""
        screen.say(f"Left: the workers go on with the run{jobs}.", style="yellow")
        screen.say(run.next_steps.resume(running.ids), whole=True)
        run.interrupts.receive()

    await complete(
        run,
        report,
        screen,
        shown(run, screen),
        on_stop=explain,
        on_leave=lambda running: None,
    )


def _found(destination: Destination, place: object, size: int | None) -> Any:
    """Where a video is: as it is found from here, else where its worker says it is."""
    if place is None:
        return None
    found = destination.found(str(place), size)
    return found if found is not None else str(place)


class _QueuedRun(Run):
    """A run of which nothing ends when it is left."""

    def _unfinished(self, line: Line, job: Job | None) -> Outcome:
        if job is None:
            return Outcome.not_submitted(line, StoppedRunError("it is not in the queue any more"))
        if job.state is JobState.PENDING:
            return Outcome.not_submitted(line, InterruptedRunError("it waits for a worker"))
        left: SeedanceError = InterruptedRunError("a worker goes on with it")
        told = Outcome.of_job(job, line, error=left, next_steps=self.next_steps)
        return attrs.evolve(told, state=str(JobState.ABANDONED))


class _QueueRecord(BatchRecord):
    """The files of a batch in its folder, where the journal is that of a queue."""

    def __init__(
        self,
        lines: Sequence[Line],
        options: BatchOptions,
        screen: Screen,
        steps: QueueSteps,
        known: KnownJobs,
        made_of: Mapping[str, JournalEntry],
    ) -> None:
        super().__init__(lines, options, screen, steps)
        self._steps, self._known, self._made_of = steps, known, made_of

    def prepare(self) -> None:
        """Make the folder."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self._folder, error) from None

    def begin(self) -> Mapping[Place, JournalEntry]:
        """Open the results; what was sent before, by place."""
        try:
            self._move_results()
            self._results = ResultsFile(self._folder, self._screen)
            write_lines(self._folder, self._lines)
        except OSError as error:
            raise cannot_write(self._folder, error) from None
        return self._resumed(self._known, "the journal of the queue")

    def take(self, outcome: Outcome) -> None:
        """Keep one outcome, with the prompt that its video was made of."""
        made_of = self._made_of.get(outcome.key or "")
        if made_of is not None and outcome.line is not None:
            self._reworded.add((outcome.line, outcome.take), made_of)
        super().take(outcome)

    def _end_record(self) -> None:
        """Nothing: the workers keep the journal."""


def check_folder(folder: Path, known: KnownJobs, place: QueuePlace) -> None:
    """Refuse to buy again what the folder's own journal says was bought.

    Raises:
        UsageError: it has jobs that the queue does not know.
    """
    own = folder / JOURNAL
    if not own.exists():
        return
    unknown = KnownJobs(read_entries(own), None).sent_keys - known.sent_keys
    if unknown:
        raise click.UsageError(
            f"{own} has {len(unknown):,} of the jobs of earlier runs, and the queue does not know "
            f"them: it would submit, and pay for, them again. Copy the journal first: seedance "
            f"journal copy {folder} {place.shown}; or choose another folder."
        )
