"""`seedance resume`: a journal in, the videos of its jobs out; nothing is submitted.

It waits for the jobs that are running, saves videos that were not saved, and lists uncertain
submits. The input file is not needed: the journal has the requests.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import click

from seedance_async import JobState, SeedanceSession
from seedance_async.cli import options
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.runs.foreground import run_in_foreground
from seedance_async.cli.runs.journal_entries import saved_file, sent_request, state_of
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.run import Run
from seedance_async.cli.runs.streams import resume_entries
from seedance_async.journal import JournalEntry, read_entries


@click.command()
@options.journal
@options.output_folder("Folder for the videos.  [default: the journal's]")
@options.max_in_flight
@options.max_downloads
@options.timeout
@options.queue_timeout
@options.as_json
@api_command
async def resume(
    connection: Connection,
    journal: Path,
    folder: Path | None,
    max_in_flight: int,
    max_downloads: int,
    timeout: float,
    queue_timeout: float,
    as_json: bool,
) -> ExitCode:
    """Resume the jobs of a batch and save their videos, without its input; submit nothing.

    DIR is the folder of the batch, or its journal file; by default `videos`.

    \b
    Example:
      seedance resume videos
    """
    folder = journal.parent if folder is None else folder
    unfinished = _unfinished(journal, folder)
    if not unfinished:
        connection.screen.say(
            f"Nothing to resume in {journal}: no job is running, and every video is saved."
        )
        return ExitCode.SUCCESS
    options.make_folder(folder)
    session = connection.session(
        journal=journal,
        max_in_flight=max_in_flight,
        max_downloads=max_downloads,
        job_timeout=timeout,
        queue_timeout=queue_timeout,
    )
    return await _resume(
        session,
        unfinished,
        NextSteps(folder, journal),
        folder,
        connection.screen,
        as_json=as_json,
        max_downloads=max_downloads,
    )


def _unfinished(journal: Path, folder: Path) -> dict[Place, JournalEntry]:
    """The entries that something is left to do for, numbered."""
    entries = enumerate(read_entries(journal), 1)
    return {(number, 1): entry for number, entry in entries if _is_unfinished(entry, folder)}


def _is_unfinished(entry: JournalEntry, folder: Path) -> bool:
    state = state_of(entry)
    if state is JobState.SUCCEEDED:
        return saved_file(entry.path, entry.size, folder) is None
    return state.is_resumable or state.is_unanswered


async def _resume(
    session: SeedanceSession,
    unfinished: Mapping[Place, JournalEntry],
    next_steps: NextSteps,
    folder: Path,
    screen: Screen,
    *,
    as_json: bool,
    max_downloads: int,
) -> ExitCode:
    report = Report(next_steps)

    def take(outcome: Outcome) -> None:
        outcome = attrs.evolve(outcome, line=None)
        report.add(outcome)
        if as_json:
            screen.record(outcome.as_record())

    run = Run(
        session,
        [Line(number, sent_request(entry)) for (number, _), entry in unfinished.items()],
        take,
        target=lambda line, job: folder,  # the file is named by the job's id
        next_steps=next_steps,
        begin=lambda: unfinished,
        stream=resume_entries(unfinished),
        overwrite=True,
        max_downloads=max_downloads,
    )
    started = time.monotonic()
    try:
        await run_in_foreground(run, report, screen)
    finally:
        charged = (outcome.credits_charged or 0 for outcome in report.outcomes)
        report.charged_earlier = sum(charged)
        report.show(screen, time.monotonic() - started)
    return report.code()
