"""`seedance resume`: a journal in, the videos of its jobs out; nothing is submitted.

It takes up what runs at the server, fetches what was made and not saved, and names what is
uncertain. The input file is not needed: the journal has the requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import attrs
import click

from seedance_async import Job, SeedanceError, SeedanceSession
from seedance_async.cli import connection
from seedance_async.cli.connection import COUNT, POSITIVE, Connection
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, StoppedRunError
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.advice import Advice
from seedance_async.cli.runs.keeping import complete, tell_leave, tell_stop
from seedance_async.cli.runs.outcomes import Outcome
from seedance_async.cli.runs.recorded import (
    RUNNING,
    UNKNOWN,
    file_there,
    job_of,
    journal_in,
    request_of,
)
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.run import Run
from seedance_async.journal import JournalEntry, read_entries


@click.command()
@click.argument(
    "place", type=click.Path(path_type=Path), default=Path("videos"), metavar="[DIR or JOURNAL]"
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for the videos; else the journal's.",
)
@click.option("--max-in-flight", type=COUNT, default=20, show_default=True, help="Jobs at once.")
@click.option("--max-downloads", type=COUNT, default=4, show_default=True, help="Downloads at once")
@click.option(
    "--timeout", type=POSITIVE, default=3600.0, show_default=True, help="Seconds for one job."
)
@click.option("--json", "as_json", is_flag=True, help="Outcomes as JSON lines on stdout.")
@connection.command
async def resume(
    connection: Connection,
    place: Path,
    folder: Path | None,
    max_in_flight: int,
    max_downloads: int,
    timeout: float,
    as_json: bool,
) -> ExitCode:
    """Take up the jobs of a journal and save their videos, without the input and submitting none.

    The journal is that of DIR, or the file itself; `videos` if none is named.
    """
    journal = journal_in(place)
    folder = journal.parent if folder is None else folder
    left = _unfinished(journal, folder)
    if not left:
        connection.screen.say(f"Nothing of {journal} is left to be waited for or saved.")
        return ExitCode.SUCCESS
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be written: {error.strerror}") from None
    session = connection.session(
        journal=journal,
        max_in_flight=max_in_flight,
        max_downloads=max_downloads,
        job_timeout=timeout,
    )
    advice = Advice(folder, journal)
    return await _run(session, left, advice, connection.screen, as_json, max_downloads)


async def _run(
    session: SeedanceSession,
    left: Mapping[int, JournalEntry],
    advice: Advice,
    screen: Screen,
    as_json: bool,
    savers: int,
) -> ExitCode:
    report = Report(advice, noun="job")

    def take(outcome: Outcome) -> None:
        outcome = attrs.evolve(outcome, line=None)
        report.add(outcome)
        if as_json:
            screen.record(outcome.as_record())

    folder = advice.folder
    assert folder is not None
    run = Run(
        session,
        [Line(number, request_of(entry)) for number, entry in left.items()],
        take,
        target=lambda number, job: folder,  # the file is named by the job's id
        advice=advice,
        begin=lambda: left,
        stream=lambda session, lines: _taken_up(session, lines, left),
        overwrite=True,
        savers=savers,
        on_stop=lambda running: tell_stop(screen, running, advice),
        on_leave=lambda running: tell_leave(screen, running, advice),
    )
    begun = time.monotonic()
    try:
        await complete(run, len(left), report, screen)
    finally:
        report.charged_earlier = sum(each.credits_charged or 0 for each in report.outcomes)
        report.tell(screen, time.monotonic() - begun)
    return report.code()


def _unfinished(journal: Path, folder: Path) -> dict[int, JournalEntry]:
    """What is left to be done, by the entries' numbers."""
    entries = enumerate(read_entries(journal), 1)
    return {number: entry for number, entry in entries if _is_unfinished(entry, folder)}


def _is_unfinished(entry: JournalEntry, folder: Path) -> bool:
    if entry.state == "succeeded":
        return file_there(entry.path, entry.size, folder) is None
    return entry.state in RUNNING | UNKNOWN


async def _taken_up(
    session: SeedanceSession, lines: Iterator[Line], entries: Mapping[int, JournalEntry]
) -> AsyncGenerator[Job]:
    """The jobs of the entries as they end."""
    session.stop_submitting(StoppedRunError("this command submits nothing"))
    waiting: set[asyncio.Task[Job]] = set()
    try:
        for line in lines:
            entry = entries[line.number]
            waiting.add(asyncio.create_task(_ended(await _known(session, entry, line))))
            ended = {task for task in waiting if task.done()}
            waiting -= ended
            for task in ended:
                yield task.result()
        while waiting:
            ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                yield task.result()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _known(session: SeedanceSession, entry: JournalEntry, line: Line) -> Job:
    """The job of an entry, in one of the session's slots while it runs."""
    reason: SeedanceError = StoppedRunError("nobody knows its id")
    if entry.request_id is not None:
        try:
            return await session.submit(line.request, key=entry.key)  # a known key: it is taken up
        except SeedanceError as error:
            reason = error
            entry = attrs.evolve(entry, state="abandoned")
    return job_of(entry, line.request, reason)


async def _ended(job: Job) -> Job:
    with suppress(SeedanceError):  # the job tells how it ended
        await job.wait()
    return job
