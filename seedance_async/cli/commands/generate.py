"""`seedance generate`: one prompt in, one video out."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from seedance_async import InvalidRequestError, Job, load_request
from seedance_async.cli import connection
from seedance_async.cli.connection import POSITIVE, Connection, only_given
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.advice import Advice
from seedance_async.cli.runs.keeping import complete, tell_leave, tell_stop
from seedance_async.cli.runs.outcomes import Outcome
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.run import Run, Target


@click.command()
@click.argument("prompt")
@click.option("--media", "media_urls", multiple=True, metavar="URL", help="Reference; up to five.")
@click.option("--webhook-url", help="Called by the server with the final result.")
@click.option("--metadata", callback=connection.json_object, help="A JSON object kept with the job")
@click.option("-o", "--output", metavar="FILE_OR_DIR", help="Where to save.  [default: here]")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@click.option("--no-download", is_flag=True, help="Print the video's URL and save nothing.")
@click.option(
    "--timeout", type=POSITIVE, default=3600.0, show_default=True, help="Seconds to wait for it."
)
@click.option("--json", "as_json", is_flag=True, help="The outcome as a line of JSON on stdout.")
@connection.request_options
@connection.command
async def generate(
    connection: Connection,
    prompt: str,
    output: str | None,
    overwrite: bool,
    no_download: bool,
    timeout: float,
    as_json: bool,
    media_urls: tuple[str, ...],
    **fields: Any,
) -> ExitCode:
    """Make one video from PROMPT, wait for it, save it, and print where it is."""
    session = connection.session(job_timeout=timeout)
    given = only_given(prompt=prompt, media_urls=media_urls or None, **fields)
    request = load_request(given)
    violations = request.violations(allow_local=session.client.allow_local)
    if violations:
        raise InvalidRequestError(violations)
    folder, target = (None, None) if no_download else _target(output, overwrite)
    advice = Advice(folder)
    screen, report = connection.screen, Report(advice)
    run = Run(
        session,
        [Line(1, request)],
        report.add,
        target=target,
        advice=advice,
        overwrite=overwrite,
        savers=1,
        on_stop=lambda running: tell_stop(screen, running, advice),
        on_leave=lambda running: tell_leave(screen, running, advice),
    )
    await complete(run, 1, report, screen)
    for outcome in report.outcomes:
        _tell(outcome, screen, as_json)
    return report.code()


def _target(output: str | None, overwrite: bool) -> tuple[Path, Target]:
    """The folder and the file to save to. A file in the way is told before anything is paid."""
    path = Path(output or ".")
    try:
        # To `Path.exists` of Python 3.14 a name that is too long is merely not there.
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
        wants_folder = output is None or output.endswith(("/", os.sep)) or path.is_dir()
        folder = path if wants_folder else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        in_the_way = not wants_folder and not overwrite and path.exists()
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from None
    if in_the_way:
        raise click.UsageError(f"{path} is there already; --overwrite replaces it")
    if not os.access(folder, os.W_OK):
        raise click.UsageError(f"{folder} cannot be written")

    def target(_number: int, _job: Job) -> Path:
        return path

    return folder, target


def _tell(outcome: Outcome, screen: Screen, as_json: bool) -> None:
    """The record, or the place; and in words what went wrong, and what to do about it."""
    if as_json:
        screen.record(outcome.as_record())
    elif outcome.file is not None:
        screen.answer(str(outcome.file))
    elif outcome.output_url is not None and outcome.error is None:
        screen.answer(outcome.output_url)
    if outcome.error is not None:
        screen.say(f"seedance: {outcome.error}", style="red")
        if outcome.next_step:
            screen.say(f"What to do: {outcome.next_step}", whole=True)
