"""`seedance status`, `cancel` and `models`: what can be asked about jobs that exist already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import click

from seedance_async import (
    DownloadError,
    Generation,
    InvalidRequestError,
    Job,
    JobError,
    JobState,
    JobTimeoutError,
    ModelInfo,
    SeedanceError,
    SeedanceSession,
    Violation,
)
from seedance_async.cli import connection
from seedance_async.cli.connection import POSITIVE, Connection
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.runs.advice import Advice
from seedance_async.cli.runs.outcomes import Outcome

#: Seconds for which a cancellation may take to show.
_CANCEL_PATIENCE = 30.0

#: The state of a job that the server does not know, or could not be asked about.
_UNKNOWN = "unknown"

Look = Callable[[SeedanceSession, Generation], Awaitable[Outcome]]


@click.command()
@click.argument("request_ids", nargs=-1, required=True, metavar="REQUEST_ID…")
@click.option("--wait", is_flag=True, help="Wait for the end of those that are running.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Save the videos of those that have succeeded in this folder.",
)
@click.option(
    "--timeout", type=POSITIVE, default=3600.0, show_default=True, help="Seconds to wait for them."
)
@click.option("--json", "as_json", is_flag=True, help="Outcomes as JSON lines on stdout.")
@connection.command
async def status(
    connection: Connection,
    request_ids: tuple[str, ...],
    wait: bool,
    folder: Path | None,
    timeout: float,
    as_json: bool,
) -> ExitCode:
    """Tell the state of jobs; wait for them and fetch their videos if asked to."""
    if folder is not None:
        _make(folder)

    async def look(session: SeedanceSession, generation: Generation) -> Outcome:
        if not (generation.status.is_terminal or wait):
            return _as_it_is(generation)
        return await _seen_through(await session.attach(generation.request_id), folder)

    outcomes = await _each(connection, request_ids, look, as_json, timeout)
    return worst(code_of(outcome.error) for outcome in outcomes)


@click.command()
@click.argument("request_ids", nargs=-1, required=True, metavar="REQUEST_ID…")
@click.option("--json", "as_json", is_flag=True, help="Outcomes as JSON lines on stdout.")
@connection.command
async def cancel(connection: Connection, request_ids: tuple[str, ...], as_json: bool) -> ExitCode:
    """Cancel jobs that are queued or processing, and tell how they ended.

    Whether a cancelled job is refunded is not documented by the vendor.
    """

    async def look(session: SeedanceSession, generation: Generation) -> Outcome:
        job = await session.attach(generation.request_id)
        if not generation.status.is_terminal:
            await job.cancel()
        return await _seen_through(job, None)

    outcomes = await _each(connection, request_ids, look, as_json, _CANCEL_PATIENCE)
    return worst(_cancel_code(outcome) for outcome in outcomes)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The entries as they came, as JSON lines.")
@connection.command
async def models(connection: Connection, as_json: bool) -> ExitCode:
    """List the models on offer."""
    async with connection.session() as session:
        found = await session.client.models()
    for model in found:
        if as_json:
            connection.screen.record(model.raw)
        else:
            connection.screen.answer(_in_words(model))
    return ExitCode.SUCCESS


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be written: {error.strerror}") from None


async def _each(
    connection: Connection, request_ids: Sequence[str], look: Look, as_json: bool, timeout: float
) -> list[Outcome]:
    """Look at each job, all at once, and tell each outcome as it comes."""
    outcomes: list[Outcome] = []

    async def one(session: SeedanceSession, request_id: str) -> None:
        outcome = await _looked_at(session, request_id, look)
        outcomes.append(outcome)
        _tell(outcome, connection.screen, as_json)

    async with connection.session(job_timeout=timeout) as session, asyncio.TaskGroup() as tasks:
        for request_id in dict.fromkeys(request_ids):
            tasks.create_task(one(session, request_id))
    return outcomes


async def _looked_at(session: SeedanceSession, request_id: str, look: Look) -> Outcome:
    """The outcome of one id; a job that the server does not know is told at once."""
    error: SeedanceError
    try:
        return await look(session, await session.client.get(request_id))
    except SeedanceError as raised:
        error = raised
    except ValueError:
        error = InvalidRequestError([Violation("request_id", request_id, "cannot be one")])
    return Outcome(state=_UNKNOWN, request_id=request_id, error=error)


async def _seen_through(job: Job, folder: Path | None) -> Outcome:
    """Wait for a job's end, and save its video if there is a folder for it."""
    try:
        await job.wait()
        file = None if folder is None else await job.download(folder)
    except (JobError, DownloadError) as error:
        return Outcome.of_job(job, None, error=error, advice=Advice(folder))
    return Outcome.of_job(job, None, file=file, advice=Advice(folder))


def _as_it_is(generation: Generation) -> Outcome:
    return Outcome(
        state=str(generation.status), request_id=generation.request_id, prompt=generation.prompt
    )


def _cancel_code(outcome: Outcome) -> ExitCode:
    if outcome.state == JobState.CANCELLED:
        return ExitCode.SUCCESS
    is_known = outcome.error is None or isinstance(outcome.error, JobError)
    still_runs = isinstance(outcome.error, JobTimeoutError)
    return ExitCode.FAILED if is_known and not still_runs else code_of(outcome.error)


def _tell(outcome: Outcome, screen: Screen, as_json: bool) -> None:
    if as_json:
        screen.record(outcome.as_record())
        return
    place = outcome.file or outcome.output_url or ""
    screen.answer(f"{outcome.request_id} {outcome.state} {place}".rstrip())
    if outcome.error is not None:
        screen.say(f"  {outcome.error}")
    if outcome.next_step is not None:
        screen.say(f"  What to do: {outcome.next_step}", whole=True)


def _in_words(model: ModelInfo) -> str:
    durations = ", ".join(map(str, model.durations))
    told = [
        model.id or "(no id)",
        f"{durations} s" if durations else "",
        " ".join(model.aspect_ratios),
        " ".join(model.resolutions),
    ]
    return "  ".join(part for part in told if part)
