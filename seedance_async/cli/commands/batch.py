"""`seedance batch`: a file of prompts in, a folder of videos and results out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

import attrs
import click

from seedance_async import SeedanceSession
from seedance_async.cli import connection
from seedance_async.cli.connection import COUNT, POSITIVE, Connection
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import InputFormat, Line, read_lines
from seedance_async.cli.runs.advice import JOURNAL
from seedance_async.cli.runs.keeping import Options, run_lines
from seedance_async.journal import read_entries
from seedance_async.session.estimate import Forecast, forecast

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
    help="The folder for videos, results.jsonl and the journal; made if it is not there.",
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The run's journal, from which the same command goes on.  [default: run.db in the folder]",
)
@click.option("--no-journal", is_flag=True, help="Keep none: a killed run cannot be gone on with.")
@click.option(
    "--max-credits",
    type=COUNT,
    help="Submit nothing that could take the credits, those of earlier runs included, over this.",
)
@click.option(
    "--resubmit-uncertain",
    is_flag=True,
    help="Submit again what the journal has as uncertain. It may be paid twice.",
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
@click.option(
    "--dry-run", is_flag=True, help="Check the whole file, tell what a run would do, send nothing."
)
@click.option("--overwrite", is_flag=True, help="Start anew: move what an earlier run left aside.")
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
    journal: Path | None,
    no_journal: bool,
    max_credits: int | None,
    resubmit_uncertain: bool,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
    **defaults: Any,
) -> ExitCode:
    """Make one video for each line of FILE; `-` is standard input.

    Every line is checked before anything is sent: with one bad line, nothing is submitted. The
    same command again goes on with what is running and submits only what was never sent.
    MODEL, ratio, duration and resolution given here count for the lines that do not name them.
    """
    if no_journal and (journal is not None or resubmit_uncertain):
        raise click.UsageError("--no-journal goes with neither --journal nor --resubmit-uncertain")
    record = None if no_journal else journal or folder / JOURNAL
    session = (
        connection.offline_session()
        if dry_run
        else connection.session(
            max_in_flight=max_in_flight,
            max_downloads=max_downloads,
            job_timeout=timeout,
            journal=record,
            max_credits=max_credits,
            resubmit_uncertain=resubmit_uncertain,
        )
    )
    screen = connection.screen
    lines = _good_lines(file, form, defaults, session, screen)
    if lines is None:
        return ExitCode.USAGE
    if dry_run:
        known = None if overwrite else record
        for told in _foretold(lines, known, resubmit_uncertain=resubmit_uncertain):
            screen.answer(told)
        return ExitCode.SUCCESS
    options = Options(
        folder, journal=record, overwrite=overwrite, as_json=as_json, savers=max_downloads
    )
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


def _foretold(
    lines: Sequence[Line], journal: Path | None, *, resubmit_uncertain: bool
) -> list[str]:
    """What a run of these lines would do, in words."""
    entries = read_entries(journal) if journal is not None and journal.exists() else []
    requests = [line.request for line in lines]
    found = forecast(entries, requests, resubmit_uncertain=resubmit_uncertain)
    told = [f"{found.to_submit} jobs would be submitted; nothing was sent"]
    if found.known:
        states = ", ".join(f"{count} {state}" for state, count in sorted(found.known.items()))
        told.append(f"{found.known.total()} lines are known to {journal}: {states}")
    return told + _costs(found)


def _costs(found: Forecast) -> list[str]:
    told = []
    if found.to_submit > found.unpriced:
        told.append(f"credits, an estimate by what jobs were charged so far: {found.credits}")
    if found.unpriced:
        told.append(
            f"what {found.unpriced} of them cost is not known: nothing like them was charged yet"
        )
    return told
