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
from seedance_async.cli.live.event_log import with_events
from seedance_async.cli.runs import destinations
from seedance_async.cli.runs.beside import Beside
from seedance_async.cli.runs.destinations import Bucket, Destination
from seedance_async.cli.runs.foreground import run_in_foreground
from seedance_async.cli.runs.journal_entries import sent_request, state_of
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.run import Run
from seedance_async.cli.runs.streams import resume_entries
from seedance_async.jobs.downloads.part_file import safe_file_stem
from seedance_async.journal import JournalEntry, read_entries


@click.command()
@options.journal
@destinations.output_option(
    "Folder or bucket for the videos.  [default: the bucket of the batch, or the journal's folder]"
)
@options.max_in_flight
@options.max_downloads
@options.timeout
@options.queue_timeout
@options.as_json
@api_command
@with_events
async def resume(
    connection: Connection,
    journal: Path,
    output: Path | str | None,
    max_in_flight: int,
    max_downloads: int,
    timeout: float,
    queue_timeout: float,
    as_json: bool,
) -> ExitCode:
    """Resume the jobs of a batch and save their videos, without its input; submit nothing.

    DIR is the folder of the batch, or its journal file; by default `videos`. The videos go there,
    or to the bucket that those of the batch went to.

    \b
    Examples:
      seedance resume videos
      seedance resume videos -o s3://BUCKET/films/
    """
    output = journal.parent if output is None else output
    folder = output if isinstance(output, Path) else journal.parent
    if isinstance(output, Path):
        output = destinations.bucket_of(output) or output
    destination = await destinations.opened(output)
    unfinished = _unfinished(journal, destination)
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
        destination,
        connection.screen,
        as_json=as_json,
        max_downloads=max_downloads,
    )


def _unfinished(journal: Path, destination: Destination) -> dict[Place, JournalEntry]:
    """The entries that something is left to do for, numbered."""
    entries = enumerate(read_entries(journal), 1)
    return {(number, 1): entry for number, entry in entries if _is_unfinished(entry, destination)}


def _is_unfinished(entry: JournalEntry, destination: Destination) -> bool:
    state = state_of(entry)
    if state is JobState.SUCCEEDED:
        return destination.found(entry.path, entry.size) is None
    return state.is_resumable or state.is_unanswered


async def _resume(
    session: SeedanceSession,
    unfinished: Mapping[Place, JournalEntry],
    next_steps: NextSteps,
    destination: Destination,
    screen: Screen,
    *,
    as_json: bool,
    max_downloads: int,
) -> ExitCode:
    bucket = destination if isinstance(destination, Bucket) else None
    report, beside = Report(next_steps), Beside(session, numbered=False, bucket=bucket)

    def take(outcome: Outcome) -> None:
        outcome = attrs.evolve(outcome, line=None)
        report.add(outcome)
        if as_json:
            screen.record(outcome.as_record())

    run = Run(
        session,
        [Line(number, sent_request(entry)) for (number, _), entry in unfinished.items()],
        take,
        target=lambda line, job: destination.place(f"{safe_file_stem(job.request_id or '')}.mp4"),
        next_steps=next_steps,
        found=destination.found,
        begin=lambda: unfinished,
        stream=resume_entries(unfinished),
        overwrite=True,
        max_downloads=max_downloads,
        beside=beside.write,
    )
    started = time.monotonic()
    try:
        await run_in_foreground(run, report, screen)
    finally:
        charged = (outcome.credits_charged or 0 for outcome in report.outcomes)
        report.charged_earlier = sum(charged)
        beside.show(screen)
        report.show(screen, time.monotonic() - started)
    return report.code()
