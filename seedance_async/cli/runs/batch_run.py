"""A batch: a run whose videos, results and journal are kept in a folder.

`run_batch` serves `seedance batch` and the demo. It never pays for an earlier run's lines again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
import click

from seedance_async import Job, JobState, JournalError, SeedanceSession
from seedance_async.cli.chains import named_by
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, StoppedRunError
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.options import cannot_write
from seedance_async.cli.runs.beside import Beside
from seedance_async.cli.runs.destinations import Bucket, Destination, LocalFolder
from seedance_async.cli.runs.foreground import run_in_foreground
from seedance_async.cli.runs.journal_entries import KnownJobs, credits_charged
from seedance_async.cli.runs.next_steps import JOURNAL, NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import Report, counted_lines
from seedance_async.cli.runs.results import (
    ResultsFile,
    drop_outcomes,
    earlier_record,
    move_record,
    move_results,
    write_remaining,
)
from seedance_async.cli.runs.reworded import Reworded, reworded
from seedance_async.cli.runs.run import Run
from seedance_async.cli.runs.streams import submit_lines
from seedance_async.cli.takes.folder_lines import write_lines
from seedance_async.jobs.downloads.part_file import safe_file_stem
from seedance_async.journal import JournalEntry, read_entries


def video_name(line: Line, job: Job) -> str:
    """A name for a line's video that sorts as the input does, its takes together."""
    take = "" if line.take == 1 else f"take{line.take}-"
    return f"{line.number:04d}-{take}{safe_file_stem(job.request_id or '')}.mp4"


@attrs.frozen
class BatchOptions:
    """Where the outcomes of a batch go.

    Attributes:
        folder: for the videos and the results.
        journal: the session's journal; None if it keeps none.
        source: the input's name, for the summary.
        overwrite: whether the record of an earlier run may be moved aside.
        as_json: whether outcomes go to stdout as well.
        max_downloads: downloads at once.
        media_key: see `SessionOptions`.
        tags: whether the videos get tags, which rewrites their files.
        name: gives a line's video its file name.
        destination: where the videos go, if not to the folder.
        adds: given where the results are added to those in the folder, instead of renewing them;
            called before anything is sent, when no other run can write there.
    """

    folder: Path
    journal: Path | None = attrs.field(default=None, kw_only=True)
    source: str | None = attrs.field(default=None, kw_only=True)
    overwrite: bool = attrs.field(default=False, kw_only=True)
    as_json: bool = attrs.field(default=False, kw_only=True)
    max_downloads: int = attrs.field(default=4, kw_only=True)
    media_key: Callable[[str], str] | None = attrs.field(default=None, kw_only=True)
    tags: bool = attrs.field(default=False, kw_only=True)
    name: Callable[[Line, Job], str] = attrs.field(default=video_name, kw_only=True)
    destination: Destination | None = attrs.field(default=None, kw_only=True)
    adds: Callable[[], None] | None = attrs.field(default=None, kw_only=True)


async def run_batch(
    session: SeedanceSession, lines: Sequence[Line], options: BatchOptions, screen: Screen
) -> Report:
    """Run lines through a session, keep their outcomes in the folder, show the summary."""
    destination = options.destination or LocalFolder(options.folder)
    beside = Beside(
        session,
        tags=options.tags,
        bucket=destination if isinstance(destination, Bucket) else None,
    )
    record = BatchRecord(lines, options, screen)
    record.prepare()
    run = Run(
        session,
        lines,
        record.take,
        target=lambda line, job: destination.place(options.name(line, job)),
        next_steps=record.next_steps,
        found=destination.found,
        begin=record.begin,
        stream=partial(submit_lines, named=named_by(lines)),
        # Names are checked beforehand, and a journal's own video may be downloaded again.
        overwrite=options.overwrite or options.journal is not None,
        max_downloads=options.max_downloads,
        beside=beside.write,
    )
    record.stop = run.stop
    started = time.monotonic()
    try:
        await run_in_foreground(run, record.report, screen)
    finally:
        if run.has_begun:
            beside.show(screen)
            record.end(time.monotonic() - started)
    return record.report


class BatchRecord:
    """The files of one batch in its folder, and its report.

    Args:
        lines: the batch's.
        options: where its outcomes go.
        screen: where it is shown.
        next_steps: what outcomes suggest to the user; by default what a folder's journal allows.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        options: BatchOptions,
        screen: Screen,
        next_steps: NextSteps | None = None,
    ) -> None:
        self._lines, self._options, self._screen = lines, options, screen
        self._columns = {line.number: line.columns for line in lines}
        self._folder, self._journal = options.folder, options.journal
        self._results: ResultsFile | None = None
        self._reworded = Reworded({}, lines, options.journal)
        self.next_steps = next_steps or NextSteps(options.folder, options.journal)
        self.report = Report(self.next_steps, source=options.source)
        self.stop: Callable[[StoppedRunError], None] = lambda reason: None

    def prepare(self) -> None:
        """Refuse, before anything is opened, to pay for an earlier run's lines again."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._options.overwrite:
                for old, new in move_record(self._journal or self._folder / JOURNAL):
                    self._say_moved(old, new)
                return  # the results are moved once the journal is this run's
            record = earlier_record(self._folder, self._journal)
        except OSError as error:
            raise cannot_write(self._folder, error) from None
        if record is not None:
            raise click.UsageError(
                f"{record} exists: the record of an earlier run"
                f"{'' if self._journal is None else ' without a journal'}. This run would submit, "
                "and pay for, every line of FILE again. Choose another folder, or pass --overwrite "
                "to do so (the record is kept under another name)."
            )

    def begin(self) -> Mapping[Place, JournalEntry]:
        """Open the results, now that no other run writes here; what was sent before, by place."""
        try:
            if self._options.adds is not None:
                self._add_to_results(self._options.adds)
            else:
                self._renew_results()
        except OSError as error:
            raise cannot_write(self._folder, error) from None
        if self._journal is None:
            return {}
        return self._resumed(
            KnownJobs.read(self._journal, self._options.media_key), str(self._journal)
        )

    def _resumed(self, known: KnownJobs, journal: str) -> Mapping[Place, JournalEntry]:
        """What a journal knows of the lines; it is said how many these are."""
        sent = known.sent_before(self._lines)
        self._reworded = Reworded(reworded(known, self._lines), self._lines, self._journal)
        self.report.charged_earlier = credits_charged(sent.values())
        if sent:
            self._screen.say(
                f"Resuming: {len(sent):,} of {counted_lines([e.place for e in self._lines])} "
                f"{'was' if len(sent) == 1 else 'were'} sent in earlier runs, according to "
                f"{journal}."
            )
        return sent

    def _renew_results(self) -> None:
        if self._journal is not None or self._options.overwrite:
            self._move_results()
        self._results = ResultsFile(self._folder, self._screen)
        if self._journal is not None:
            write_lines(self._folder, self._lines)

    def _move_results(self) -> None:
        for old, new in move_results(self._folder):
            self._say_moved(old, new)

    def _add_to_results(self, record_first: Callable[[], None]) -> None:
        record_first()
        drop_outcomes(self._folder, {line.key for line in self._lines})
        self._results = ResultsFile(self._folder, self._screen, mode="a")

    def take(self, outcome: Outcome) -> None:
        """Keep one outcome."""
        assert self._results is not None
        if outcome.line is not None:
            columns = self._columns[outcome.line]
            outcome = attrs.evolve(outcome, columns=columns, prompt=self._reworded.prompt(outcome))
        self._results.write(outcome)
        self.report.add(outcome)
        if self._options.as_json:
            self._screen.record(outcome.as_record())
        if self._results.broken is not None:
            self.stop(StoppedRunError(f"{self._results.path} cannot be written"))

    def end(self, seconds: float) -> None:
        """Close the files and show the summary."""
        assert self._results is not None
        self._results.close()
        self.report.show_details(self._screen)
        if text := self._reworded.text():
            self._screen.say(text, style="yellow")
        if self._results.broken is not None:
            self.report.also(ExitCode.NOT_SAVED)
        self._end_record()
        self._screen.say(f"Results: {self._results.path}")
        self.report.show_headline(self._screen, seconds)

    def _end_record(self) -> None:
        """See to it that the next run finds what it needs."""
        if self._journal is None:
            self._write_remaining()
        else:
            self._check_recorded(self._journal)

    def _write_remaining(self) -> None:
        """Without a journal, the next run needs an input of its own; with one, it is the same."""
        try:
            remaining = write_remaining(self._folder, self.report.outcomes)
        except OSError as error:
            self._screen.say(f"the remaining lines could not be written: {error}")
            return
        if remaining is not None:
            self._screen.say(f"Lines that can be submitted again as they are: {remaining}")

    def _check_recorded(self, journal: Path) -> None:
        """Compare the outcomes with the journal on disk: an id that is missing there is shown."""
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
            "report these jobs as uncertain.",
            style="bold red",
        )

    def _say_moved(self, old: Path, new: Path) -> None:
        self._screen.say(f"{old} of an earlier run is now {new}")
