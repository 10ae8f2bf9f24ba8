"""`seedance status`: the state of jobs by their ids; waits for them and saves their videos."""

from __future__ import annotations

from pathlib import Path

import click

from seedance_async import Generation, SeedanceSession
from seedance_async.cli import options
from seedance_async.cli.commands.job_queries import final_outcome, query_each
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.history import own_journal
from seedance_async.cli.runs.outcome import Outcome


@click.command()
@click.argument("request_ids", nargs=-1, required=True, metavar="REQUEST_ID…")
@click.option("--wait", is_flag=True, help="Wait for jobs that have not ended.")
@options.output_folder("Save the videos of succeeded jobs in this folder.")
@options.timeout
@options.as_json
@api_command
async def status(
    connection: Connection,
    request_ids: tuple[str, ...],
    wait: bool,
    folder: Path | None,
    timeout: float,
    as_json: bool,
) -> ExitCode:
    """Print the state of jobs; with --wait and -o, wait for them and save their videos.

    \b
    Example:
      seedance status req_1234567890 --wait -o videos
    """
    if folder is not None:
        options.make_folder(folder)

    async def query(session: SeedanceSession, generation: Generation) -> Outcome:
        if generation.status.is_terminal or wait:
            return await final_outcome(await session.attach(generation.request_id), folder)
        return Outcome(
            state=str(generation.status),
            request_id=generation.request_id,
            prompt=generation.prompt,
        )

    journal = own_journal(connection.screen) if wait or folder is not None else None
    outcomes = await query_each(connection, request_ids, query, as_json, timeout, journal)
    return worst(code_of(outcome.error) for outcome in outcomes)
