"""`seedance status`: the state of jobs; waits for those named by ids, and saves their videos."""

from __future__ import annotations

from pathlib import Path

import click

from seedance_async import Generation, SeedanceSession
from seedance_async.cli import options
from seedance_async.cli.commands.folder_status import show_folder
from seedance_async.cli.commands.job_queries import final_outcome, query_each
from seedance_async.cli.completions import jobs_or_folder
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.history import own_journal
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.takes.folder_jobs import (
    check_are_ids,
    check_is_place,
    is_place,
    jobs_of_folder,
)
from seedance_async.cli.takes.folder_lines import folder_journal


@click.command()
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="REQUEST_ID… | DIR [LINE…]",
    shell_complete=jobs_or_folder(),
)
@click.option("--wait", is_flag=True, help="Wait for jobs that have not ended.")
@options.output_folder("Save the videos of succeeded jobs in this folder.")
@options.timeout
@folder_journal
@options.as_json
@api_command
async def status(
    connection: Connection,
    words: tuple[str, ...],
    wait: bool,
    folder: Path | None,
    timeout: float,
    journal: Path | None,
    as_json: bool,
) -> ExitCode:
    """Print the state of jobs; with --wait and -o, wait for them and save their videos.

    With the folder of a batch, list its jobs, or those of lines such as 3 and 7-9: by the journal,
    and for jobs that have not ended as the server tells it now.

    \b
    Examples:
      seedance status req_1234567890 --wait -o videos
      seedance status videos
      seedance status videos 3 7-9
    """
    if journal is not None or is_place(words[0]):
        check_is_place(words, "--journal")
        return await _show_jobs(connection, words, journal, wait or folder is not None, as_json)
    check_are_ids(words)
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

    own = own_journal(connection.screen) if wait or folder is not None else None
    outcomes = await query_each(connection, words, query, as_json, timeout, own)
    return worst(code_of(outcome.error) for outcome in outcomes)


async def _show_jobs(
    connection: Connection, words: tuple[str, ...], journal: Path | None, waits: bool, as_json: bool
) -> ExitCode:
    folder = Path(words[0])
    if waits:
        raise click.UsageError(
            f"--wait and -o go with ids; for the jobs of a batch: seedance resume {folder}"
        )
    jobs = jobs_of_folder(folder, words[1:], journal)
    return await show_folder(connection, folder, jobs, as_json=as_json)
