"""`seedance batch`: a file of prompts in, a folder of videos and results out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import attrs
import click

from seedance_async import Job, SeedanceSession
from seedance_async.cli import connection, progress
from seedance_async.cli.connection import COUNT, POSITIVE, Connection
from seedance_async.cli.exits import ExitCode, StoppedRunError
from seedance_async.cli.inputs import InputFormat, Line, read_lines
from seedance_async.cli.outcomes import Outcome, fetch_command, file_name
from seedance_async.cli.report import Report
from seedance_async.cli.results import ResultsFile, move_aside, write_remaining
from seedance_async.cli.run import Run, Running
from seedance_async.cli.screen import Screen

#: How many bad lines are told one by one.
_TOLD_PROBLEMS = 100


@attrs.frozen
class Input:
    """A file by its name, and what was in it."""

    name: str
    data: bytes = attrs.field(repr=False)


def _read(_context: object, _parameter: object, name: str) -> Input:
    """Before the event loop runs, which would keep Ctrl-C from ending a wait for stdin."""
    try:
        data = _standard_input() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name} cannot be read: {error.strerror}") from None
    return Input(name, data)


def _standard_input() -> bytes:
    """In pieces: reading all at once can miss a Ctrl-C that comes between two of them."""
    source = cast(BufferedReader, sys.stdin.buffer)
    return b"".join(iter(lambda: source.read1(1 << 16), b""))


@click.command()
@click.argument("file", callback=_read)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("videos"),
    show_default=True,
    help="The folder for videos and results.jsonl; made if it is not there.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([str(each) for each in InputFormat]),
    help="How FILE is written; else its extension tells (.jsonl, .ndjson, .csv, else plain).",
)
@click.option("--max-in-flight", type=COUNT, default=20, show_default=True, help="Jobs at once.")
@click.option("--max-downloads", type=COUNT, default=4, show_default=True, help="Downloads at once")
@click.option(
    "--timeout", type=POSITIVE, default=3600.0, show_default=True, help="Seconds for one job."
)
@click.option("--dry-run", is_flag=True, help="Check the whole file and send nothing.")
@click.option("--overwrite", is_flag=True, help="Start anew where results.jsonl is there already.")
@click.option("--json", "as_json", is_flag=True, help="Outcomes as JSON lines on stdout.")
@connection.request_options
@connection.command
async def batch(
    connection: Connection,
    file: Input,
    folder: Path,
    form: str | None,
    max_in_flight: int,
    max_downloads: int,
    timeout: float,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
    **defaults: Any,
) -> ExitCode:
    """Make one video for each line of FILE; `-` is standard input.

    Every line is checked before anything is sent: with one bad line, nothing is submitted.
    MODEL, ratio, duration and resolution given here count for the lines that do not name them.
    """
    session = (
        connection.offline_session()
        if dry_run
        else connection.session(
            max_in_flight=max_in_flight, max_downloads=max_downloads, job_timeout=timeout
        )
    )
    screen = connection.screen
    lines = _good_lines(file, form, defaults, session, screen)
    if lines is None:
        return ExitCode.USAGE
    if dry_run:
        screen.answer(f"{len(lines)} jobs would be submitted; nothing was sent")
        return ExitCode.SUCCESS
    options = Options(folder, overwrite=overwrite, as_json=as_json, savers=max_downloads)
    report = await run_lines(session, lines, options, screen)
    return report.code()


def _good_lines(
    file: Input,
    form: str | None,
    defaults: dict[str, Any],
    session: SeedanceSession,
    screen: Screen,
) -> list[Line] | None:
    """The requests of the file; None, with every bad line told, where one is bad."""
    lines, problems = read_lines(
        file.data,
        InputFormat(form) if form else InputFormat.of_name(file.name),
        defaults=connection.only_given(**defaults),
        allow_local=session.client.allow_local,
    )
    for problem in problems[:_TOLD_PROBLEMS]:
        screen.say(f"{file.name}, {problem}")
    if len(problems) > _TOLD_PROBLEMS:
        screen.say(f"… and {len(problems) - _TOLD_PROBLEMS} more bad lines")
    if problems:
        screen.say(f"{len(problems)} of the lines are bad; nothing was sent", style="red")
        return None
    if not lines:
        raise click.UsageError(f"{file.name} holds no request")
    return lines


def _name(number: int, job: Job) -> str:
    return file_name(number, job.request_id)


@attrs.frozen
class Options:
    """How the outcomes of a batch are kept; `name` gives a line's video its file name."""

    folder: Path
    overwrite: bool = attrs.field(default=False, kw_only=True)
    as_json: bool = attrs.field(default=False, kw_only=True)
    savers: int = attrs.field(default=4, kw_only=True)
    name: Callable[[int, Job], str] = attrs.field(default=_name, kw_only=True)


async def run_lines(
    session: SeedanceSession, lines: Sequence[Line], options: Options, screen: Screen
) -> Report:
    """Run lines through a session, keep their outcomes in the folder, tell the summary."""
    folder, report = options.folder, Report(options.folder)
    results = _open_results(options, screen)

    def take(outcome: Outcome) -> None:
        results.write(outcome)
        report.add(outcome)
        if options.as_json:
            screen.record(outcome.as_record())
        if results.broken is not None:
            run.stop(StoppedRunError(f"{results.path} cannot be written"))

    def target(number: int, job: Job) -> Path:
        return folder / options.name(number, job)

    run = Run(
        session,
        lines,
        take,
        target=target,
        folder=folder,
        overwrite=options.overwrite,
        savers=options.savers,
        on_stop=lambda running: tell_stop(screen, running, folder),
        on_leave=lambda running: tell_leave(screen, running, folder),
    )
    begun = time.monotonic()
    try:
        async with progress.shown(run, len(lines), screen):
            await run.complete()
    finally:
        results.close()
        if run.interrupts.stopping:
            report.also(ExitCode.INTERRUPTED)
        report.tell(screen, time.monotonic() - begun)
        _tell_files(report, results, folder, screen)
    return report


def _open_results(options: Options, screen: Screen) -> ResultsFile:
    """The results file, before anything is sent: what cannot be recorded is not bought."""
    folder = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if options.overwrite:
            for old, new in move_aside(folder):
                screen.say(f"{old} of an earlier run is now {new}")
        return ResultsFile(folder, screen)
    except FileExistsError as error:
        raise click.UsageError(
            f"{error.filename} is there already: the record of an earlier run. Choose another "
            "folder, or pass --overwrite to start anew (the record is kept under another name). "
            "All lines of FILE would be submitted, and paid, again."
        ) from None
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be written: {error.strerror}") from None


def _tell_files(report: Report, results: ResultsFile, folder: Path, screen: Screen) -> None:
    if results.broken is not None:
        report.also(ExitCode.NOT_SAVED)
    try:
        remaining = write_remaining(folder, report.outcomes)
    except OSError as error:
        screen.say(f"the remaining lines could not be written: {error}")
        remaining = None
    if remaining is not None:
        screen.say(f"What can be submitted again as it is: {remaining}")
    screen.say(f"Results: {results.path}")


def tell_stop(screen: Screen, running: Running, folder: Path | None) -> None:
    """What the first Ctrl-C does."""
    screen.say("Interrupted: nothing more is submitted.", style="yellow")
    if running.ids or running.submits:
        screen.say(f"Waiting for {running}. Ctrl-C again leaves them.")
    _tell_how_to_go_on(screen, running, folder)


def tell_leave(screen: Screen, running: Running, folder: Path | None) -> None:
    """What the second Ctrl-C does."""
    screen.say(f"Leaving {running}; they go on without this command.", style="yellow")
    _tell_how_to_go_on(screen, running, folder)


def _tell_how_to_go_on(screen: Screen, running: Running, folder: Path | None) -> None:
    if running.ids:
        again = fetch_command(running.ids, folder, wait=True)
        screen.say(f"To take them up again: {again}", whole=True)
