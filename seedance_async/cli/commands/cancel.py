"""`seedance cancel`: cancel jobs, by their ids or as lines of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import click

from seedance_async import Generation, JobError, JobState, JobTimeoutError, SeedanceSession
from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.commands.job_queries import final_outcome, query_each
from seedance_async.cli.completions import jobs_or_folder
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.runs.journal_entries import state_of, state_text
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.takes.folder_jobs import (
    FolderJob,
    check_are_ids,
    check_is_place,
    is_place,
    jobs_of_folder,
)
from seedance_async.cli.takes.folder_lines import folder_journal

#: Seconds within which the server must show that a job has ended.
TIMEOUT = 30.0


@click.command()
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="REQUEST_ID… | DIR [LINE…]",
    shell_complete=jobs_or_folder(running=True),
)
@click.option("--all", "everything", is_flag=True, help="All jobs of DIR that have not ended.")
@click.option(
    "--state",
    type=click.Choice([str(JobState.QUEUED), str(JobState.PROCESSING)]),
    help="Only jobs of DIR that are in this state at the server.",
)
@folder_journal
@options.as_json
@api_command
async def cancel(
    connection: Connection,
    words: Sequence[str],
    everything: bool,
    state: str | None,
    journal: Path | None,
    as_json: bool,
) -> ExitCode:
    """Cancel jobs that are queued or processing, and print their final states.

    They are named by their ids; or by the folder of a batch, with the numbers of lines or ranges
    such as 7-9, with --state, or with --all. A batch that is still running goes on submitting: stop
    it first, with Ctrl-C.

    The vendor does not document whether a cancelled job is refunded.

    \b
    Examples:
      seedance cancel req_1234567890
      seedance cancel videos 3 7-9
      seedance cancel videos --state queued
      seedance cancel --all videos
    """
    if not (everything or state or journal or is_place(words[0])):
        check_are_ids(words)
        return await _cancel_ids(connection, words, as_json)
    check_is_place(words, "--all" if everything else "--state" if state else "--journal")
    folder, lines = Path(words[0]), words[1:]
    if not (everything or state or lines):
        raise click.UsageError(f"name lines of {folder}, or a --state, or --all; nothing was done")
    jobs = jobs_of_folder(folder, lines, journal)
    return await _cancel_jobs(connection, jobs, state, as_json)


async def _cancel_ids(connection: Connection, ids: Sequence[str], as_json: bool) -> ExitCode:
    async def query(session: SeedanceSession, generation: Generation) -> Outcome:
        return await _cancelled(session, generation)

    outcomes = await query_each(connection, ids, query, as_json, TIMEOUT)
    return worst(_code(outcome) for outcome in outcomes)


async def _cancel_jobs(
    connection: Connection, jobs: Sequence[FolderJob], state: str | None, as_json: bool
) -> ExitCode:
    """Cancel those that have not ended; for what has, there is nothing to do."""
    running = {job.entry.request_id: job for job in jobs if _may_run(job)}
    _show_rest([job for job in jobs if not _may_run(job)], connection.screen, len(running))

    async def query(session: SeedanceSession, generation: Generation) -> Outcome:
        job = running[generation.request_id]
        if state is None or generation.status == state:
            outcome = await _cancelled(session, generation)
        else:
            outcome = Outcome(state=str(generation.status), request_id=generation.request_id)
        line, take = job.place or (None, 1)
        return attrs.evolve(outcome, line=line, take=take, key=job.entry.key)

    ids = [each for each in running if each is not None]
    outcomes = await query_each(connection, ids, query, as_json, TIMEOUT) if ids else []
    return worst(ExitCode.SUCCESS if _has_end(each) else code_of(each.error) for each in outcomes)


async def _cancelled(session: SeedanceSession, generation: Generation) -> Outcome:
    job = await session.attach(generation.request_id)
    if not generation.status.is_terminal:
        await job.cancel()
    return await final_outcome(job, None)


def _may_run(job: FolderJob) -> bool:
    return state_of(job.entry).is_resumable and job.entry.request_id is not None


def _show_rest(jobs: Sequence[FolderJob], screen: Screen, running: int) -> None:
    """What cannot be cancelled."""
    in_doubt = [job for job in jobs if state_of(job.entry).is_unanswered]
    for job in in_doubt:
        screen.say(f"{job.name} is {state_text(job.entry.state)}: without an id, nobody can cancel")
    ended = len(jobs) - len(in_doubt)
    if ended and not running:
        screen.say(f"Nothing to cancel: {counted(ended, 'job')} ended before.")


def _has_end(outcome: Outcome) -> bool:
    """Whether the job is known to have ended, or was left alone."""
    is_known = outcome.error is None or isinstance(outcome.error, JobError)
    return is_known and not isinstance(outcome.error, JobTimeoutError)


def _code(outcome: Outcome) -> ExitCode:
    if outcome.state == JobState.CANCELLED:
        return ExitCode.SUCCESS
    return ExitCode.FAILED if _has_end(outcome) else code_of(outcome.error)
