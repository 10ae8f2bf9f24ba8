"""`seedance cancel`: cancel jobs by their ids."""

from __future__ import annotations

import click

from seedance_async import Generation, JobError, JobState, JobTimeoutError, SeedanceSession
from seedance_async.cli import options
from seedance_async.cli.commands.job_queries import final_outcome, query_each
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.runs.outcome import Outcome

#: Seconds within which the server must show that a job has ended.
TIMEOUT = 30.0


@click.command()
@click.argument("request_ids", nargs=-1, required=True, metavar="REQUEST_ID…")
@options.as_json
@api_command
async def cancel(connection: Connection, request_ids: tuple[str, ...], as_json: bool) -> ExitCode:
    """Cancel jobs that are queued or processing, and print their final states.

    The vendor does not document whether a cancelled job is refunded.

    \b
    Example:
      seedance cancel req_1234567890
    """

    async def query(session: SeedanceSession, generation: Generation) -> Outcome:
        job = await session.attach(generation.request_id)
        if not generation.status.is_terminal:
            await job.cancel()
        return await final_outcome(job, None)

    outcomes = await query_each(connection, request_ids, query, as_json, TIMEOUT)
    return worst(_code(outcome) for outcome in outcomes)


def _code(outcome: Outcome) -> ExitCode:
    if outcome.state == JobState.CANCELLED:
        return ExitCode.SUCCESS
    is_known = outcome.error is None or isinstance(outcome.error, JobError)
    may_run = isinstance(outcome.error, JobTimeoutError)
    return ExitCode.FAILED if is_known and not may_run else code_of(outcome.error)
