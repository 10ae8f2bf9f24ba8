"""A run whose outcomes are kept in a folder: `run_lines`, for `batch` and for the demo.

It puts the run, the folder's files and the report together, and tells what signals do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import click

from seedance_async import Job, JobState, JournalError, SeedanceSession
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, StoppedRunError, code_of
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs import progress
from seedance_async.cli.runs.advice import JOURNAL, Advice
from seedance_async.cli.runs.outcomes import Outcome, file_name
from seedance_async.cli.runs.recorded import sent_before
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.results import (
    ResultsFile,
    earlier_record,
    move_record,
    move_results,
    write_remaining,
)
from seedance_async.cli.runs.run import Run, Running
from seedance_async.journal import JournalEntry, read_entries


def _name(number: int, job: Job) -> str:
    return file_name(number, job.request_id)


@attrs.frozen
class Options:
    """How the outcomes of a batch are kept.

    Attributes:
        folder: where the videos and results go.
        journal: the session's journal; None where it keeps none.
        overwrite: whether the record of an earlier run may be moved aside.
        as_json: whether outcomes go to stdout as well.
        savers: downloads at once.
        name: gives a line's video its file name.
    """

    folder: Path
    journal: Path | None = attrs.field(default=None, kw_only=True)
    overwrite: bool = attrs.field(default=False, kw_only=True)
    as_json: bool = attrs.field(default=False, kw_only=True)
    savers: int = attrs.field(default=4, kw_only=True)
    name: Callable[[int, Job], str] = attrs.field(default=_name, kw_only=True)


async def run_lines(
    session: SeedanceSession, lines: Sequence[Line], options: Options, screen: Screen
) -> Report:
    """Run lines through a session, keep their outcomes in the folder, tell the summary."""
    keeper = _Keeper(lines, options, screen)
    keeper.prepare()
    folder, advice = options.folder, keeper.advice
    run = Run(
        session,
        lines,
        keeper.take,
        target=lambda number, job: folder / options.name(number, job),
        advice=advice,
        begin=keeper.begin,
        # The name of a video has the job's id, and a journal's own video may be fetched again.
        overwrite=options.overwrite or options.journal is not None,
        savers=options.savers,
        on_stop=lambda running: tell_stop(screen, running, advice),
        on_leave=lambda running: tell_leave(screen, running, advice),
    )
    keeper.stop = run.stop
    begun = time.monotonic()
    try:
        await complete(run, len(lines), keeper.report, screen)
    finally:
        if run.has_begun:
            keeper.end(time.monotonic() - begun)
    return keeper.report


async def complete(run: Run, total: int, report: Report, screen: Screen) -> None:
    """Run to the end, its progress shown; what happened beside the outcomes is in the report."""
    try:
        async with progress.shown(run, total, screen):
            await run.complete()
    except JournalError as error:
        if not run.has_begun:
            raise
        screen.say(f"seedance: {error}", style="red")
        report.also(code_of(error))
    finally:
        if run.interrupts.stopping:
            report.also(ExitCode.INTERRUPTED)


class _Keeper:
    """The files of one run in its folder, and its report."""

    def __init__(self, lines: Sequence[Line], options: Options, screen: Screen) -> None:
        self._lines, self._options, self._screen = lines, options, screen
        self._folder, self._journal = options.folder, options.journal
        self._results: ResultsFile | None = None
        self.advice = Advice(options.folder, options.journal)
        self.report = Report(self.advice)
        self.stop: Callable[[StoppedRunError], None] = lambda reason: None

    def prepare(self) -> None:
        """Refuse, before anything is opened, what would pay for an earlier run's lines again."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._options.overwrite:
                for old, new in move_record(self._journal or self._folder / JOURNAL):
                    self._tell_moved(old, new)
                return  # the results are moved once the journal is this run's
            record = earlier_record(self._folder, self._journal)
        except OSError as error:
            raise self._no_folder(error) from None
        if record is not None:
            raise click.UsageError(
                f"{record} is there already: the record of an earlier run"
                f"{'' if self._journal is None else ' that kept no journal'}. Choose another "
                "folder, or pass --overwrite to start anew (the record is kept under another "
                "name). All lines of FILE would be submitted, and paid, again."
            )

    def begin(self) -> Mapping[int, JournalEntry]:
        """Open the results, now that nobody else writes here; what was sent before, by line."""
        try:
            if self._journal is not None or self._options.overwrite:
                for old, new in move_results(self._folder):
                    self._tell_moved(old, new)
            self._results = ResultsFile(self._folder, self._screen)
        except OSError as error:
            raise self._no_folder(error) from None
        if self._journal is None:
            return {}
        sent = sent_before(read_entries(self._journal), self._lines)
        self.report.charged_earlier = sum(entry.credits_charged or 0 for entry in sent.values())
        if sent:
            self._screen.say(
                f"Going on: {len(sent)} of {len(self._lines)} lines were sent before, as "
                f"{self._journal} has it."
            )
        return sent

    def take(self, outcome: Outcome) -> None:
        """Keep one outcome."""
        assert self._results is not None
        self._results.write(outcome)
        self.report.add(outcome)
        if self._options.as_json:
            self._screen.record(outcome.as_record())
        if self._results.broken is not None:
            self.stop(StoppedRunError(f"{self._results.path} cannot be written"))

    def end(self, seconds: float) -> None:
        """Close the files and tell the summary."""
        assert self._results is not None
        self._results.close()
        self.report.tell(self._screen, seconds)
        if self._results.broken is not None:
            self.report.also(ExitCode.NOT_SAVED)
        if self._journal is None:
            self._leave_remaining()
        else:
            self._tell_unrecorded(self._journal)
        self._screen.say(f"Results: {self._results.path}")

    def _leave_remaining(self) -> None:
        """Without a journal, the input of the next run; with one, it is the same input."""
        try:
            remaining = write_remaining(self._folder, self.report.outcomes)
        except OSError as error:
            self._screen.say(f"the remaining lines could not be written: {error}")
            return
        if remaining is not None:
            self._screen.say(f"What can be submitted again as it is: {remaining}")

    def _tell_unrecorded(self, journal: Path) -> None:
        """Compare the outcomes with what is on disk: an id that is not there is told aloud."""
        accepted = (o for o in self.report.outcomes if o.state != JobState.UNCERTAIN)
        ids = {outcome.request_id for outcome in accepted if outcome.request_id}
        try:
            ids -= {entry.request_id for entry in read_entries(journal)}
        except JournalError as error:
            self._screen.say(f"seedance: {error}", style="red")
        if not ids:
            return
        self.report.also(ExitCode.NOT_SAVED)
        self._screen.say(
            f"Accepted, but NOT in the journal: {' '.join(sorted(ids))}. The same command would "
            "tell of them as uncertain.",
            style="bold red",
        )

    def _tell_moved(self, old: Path, new: Path) -> None:
        self._screen.say(f"{old} of an earlier run is now {new}")

    def _no_folder(self, error: OSError) -> click.UsageError:
        return click.UsageError(f"{self._folder} cannot be written: {error.strerror}")


def tell_stop(screen: Screen, running: Running, advice: Advice) -> None:
    """What the first Ctrl-C does."""
    screen.say("Interrupted: nothing more is submitted.", style="yellow")
    if running.ids or running.submits:
        screen.say(f"Waiting for {running}. Ctrl-C again leaves them.")
    _tell_how_to_go_on(screen, running, advice)


def tell_leave(screen: Screen, running: Running, advice: Advice) -> None:
    """What the second Ctrl-C does."""
    screen.say(f"Leaving {running}; they go on without this command.", style="yellow")
    _tell_how_to_go_on(screen, running, advice)


def _tell_how_to_go_on(screen: Screen, running: Running, advice: Advice) -> None:
    if running.ids or advice.journal is not None:
        screen.say(advice.go_on(running.ids), whole=True)
