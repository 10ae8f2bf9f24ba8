"""`seedance generate`: one prompt in, one video out."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from seedance_async import Event, InvalidRequestError, Job, JobAccepted, load_request
from seedance_async._utils.plural import counted
from seedance_async.api.local_media import NO_UPLOADER
from seedance_async.cli import options
from seedance_async.cli.buying.consent import Consent, consent, may_buy
from seedance_async.cli.buying.prices import priced
from seedance_async.cli.capability_check import NO_STRICT, by_the_servers_list
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.fitting import Fit, fit_option, fitted_request
from seedance_async.cli.history import own_journal
from seedance_async.cli.inputs import Line
from seedance_async.cli.live.event_log import with_events
from seedance_async.cli.reading.prompt import one_prompt
from seedance_async.cli.runs.foreground import run_in_foreground
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.reasons import remedy_for
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.run import Run, Target


def _json_object(_context: object, _parameter: object, text: str | None) -> Any:
    """A click callback: the option's text as a JSON object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.BadParameter("not a JSON object")
    return value


@click.command()
@click.argument("prompt", callback=one_prompt)
@click.option(
    "--media",
    "media_urls",
    multiple=True,
    metavar="URL_OR_FILE",
    help="Reference media. Up to five.",
)
@click.option("--webhook-url", help="URL that the server calls with the result.")
@click.option("--metadata", callback=_json_object, help="A JSON object to store with the job.")
@click.option(
    "-o",
    "--output",
    metavar="FILE_OR_DIR",
    callback=options.no_url,
    help="Where to save.  [default: .]",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option("--no-download", is_flag=True, help="Print the video's URL instead of saving it.")
@options.upload
@fit_option
@options.timeout
@options.queue_timeout
@consent
@options.as_json
@options.strict
@options.request_fields
@api_command
@with_events
async def generate(
    connection: Connection,
    prompt: str,
    output: str | None,
    overwrite: bool,
    no_download: bool,
    upload: str | None,
    fit: Fit | None,
    timeout: float,
    queue_timeout: float,
    as_json: bool,
    consent: Consent,
    media_urls: tuple[str, ...],
    strict: bool,
    **fields: Any,
) -> ExitCode:
    """Make one video from PROMPT, wait for it, save it, and print its path.

    \b
    Examples:
      seedance generate "A river in autumn" --duration 4 -o river.mp4
      seedance generate "The river rises" --media images/river.jpg
      echo "A fox in snow" | seedance generate - --yes
      seedance generate "It rises" --media river.jpg --aspect-ratio 9:16 --fit crop
      seedance generate "A river" --extra seed=7 --extra 'camera={"fixed": true}'
    """
    screen, uploader = connection.screen, connection.uploader(upload)
    session = connection.session(
        uploader=uploader,
        strict=strict,
        job_timeout=timeout,
        queue_timeout=queue_timeout,
        journal=own_journal(screen),
    )
    screen.listeners.append(partial(_show_accepted, screen))
    fields |= {"prompt": prompt, "media_urls": media_urls or None}
    request = load_request({name: value for name, value in fields.items() if value is not None})
    judge = partial(
        request.violations,
        allow_local=session.client.allow_local,
        uploads=uploader is not None,
        strict=strict,
    )
    violations = await by_the_servers_list(
        session, lambda models: (found := judge(models=models), found), screen
    )
    if any(broken.rule == NO_UPLOADER for broken in violations):
        screen.say(options.NO_BUCKET)
    if any(broken.of_model for broken in violations):
        screen.say(NO_STRICT)
    if violations:
        raise InvalidRequestError(violations)
    request = await fitted_request(request, fit)
    folder, target = (None, None) if no_download else _target(output, overwrite)
    line = Line(1, request, key=f"generate-{secrets.token_hex(8)}")
    if not may_buy(await priced(connection, [line]), consent, screen):
        return ExitCode.USAGE
    report = Report(NextSteps(folder))
    run = Run(
        session,
        [line],
        report.add,
        target=target,
        next_steps=NextSteps(folder),
        overwrite=overwrite,
        max_downloads=1,
    )
    await run_in_foreground(run, report, screen, tells=False)
    for outcome in report.outcomes:
        _show(outcome, screen, as_json)
    return report.code()


def _target(output: str | None, overwrite: bool) -> tuple[Path, Target]:
    """The folder and the file to save to. An existing file is an error before anything is paid."""
    path = Path(output or ".")
    try:
        # To `Path.exists` of Python 3.14 a name that is too long is merely not there.
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
        wants_folder = output is None or output.endswith(("/", os.sep)) or path.is_dir()
        folder = path if wants_folder else path.parent
        folder.mkdir(parents=True, exist_ok=True)
        is_taken = not wants_folder and not overwrite and path.exists()
    except OSError as error:
        raise options.cannot_write(path, error) from None
    if is_taken:
        raise click.UsageError(f"{path} exists; --overwrite replaces it")
    if not os.access(folder, os.W_OK):
        raise click.UsageError(f"{folder} cannot be written")

    def target(_line: Line, _job: Job) -> Path:
        return path

    return folder, target


def _show_accepted(screen: Screen, event: Event) -> None:
    """From now on, the id is all that is needed to find the video."""
    if isinstance(event, JobAccepted):
        charged = event.credits_charged
        credits = "an unknown number of credits" if charged is None else counted(charged, "credit")
        screen.say(f"job {event.request_id} is accepted, charged {credits}")


def _show(outcome: Outcome, screen: Screen, as_json: bool) -> None:
    """The outcome as JSON or as a path; what went wrong, and what to do about it."""
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
        elif remedy := remedy_for(outcome):
            screen.say(f"What to do: {remedy}")
