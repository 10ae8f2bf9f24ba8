"""`seedance queue adopt` and `resubmit`: what a person has found out about an uncertain submit."""

from __future__ import annotations

from collections.abc import Sequence

import click

from seedance_async._utils.plural import counted
from seedance_async.cli.commands.journal_edit import chosen_entry, found_at_server
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.queues.place import QueuePlace, queue_option
from seedance_async.cli.runs.journal_entries import request_of
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry

_queue = queue_option("The queue:", required=True)


@click.command()
@_queue
@click.argument("key")
@click.argument("request_id")
@click.option("--any-prompt", is_flag=True, help="Adopt it though the server shows another prompt.")
@api_command
async def adopt(
    connection: Connection, place: QueuePlace, key: str, request_id: str, any_prompt: bool
) -> ExitCode:
    """Give an uncertain job the request id that it has in the vendor's dashboard.

    The server is queried first, as by `seedance journal adopt`. Workers then wait for the job, and
    save its video.

    \b
    Example:
      seedance queue adopt --queue sqlite:///fleet.db shot-1 req_1234567890
    """
    entry = await _uncertain(place, key)
    learned = await found_at_server(connection, entry, request_id, any_prompt=any_prompt)
    async with place.opened_journal() as journal:
        await journal.record(entry.attempt, **learned)
    connection.screen.say(f"{entry.key} is job {request_id}, {learned['state']}.")
    await _hand_out(place, [entry.key], connection)
    return ExitCode.SUCCESS


@click.command()
@_queue
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@api_command
async def resubmit(
    connection: Connection, place: QueuePlace, keys: Sequence[str], yes: bool
) -> ExitCode:
    """Submit uncertain jobs again that certainly are not in the vendor's dashboard.

    What they may have cost still counts for --max-credits.

    \b
    Example:
      seedance queue resubmit --queue sqlite:///fleet.db shot-1
    """
    entries = [await _uncertain(place, key) for key in dict.fromkeys(keys)]
    for entry in entries:
        connection.screen.say(f"  {entry.key} “{shorten(request_of(entry).prompt, 40)}”")
    jobs = counted(len(entries), "job")
    question = f"Submit {jobs} again? What was accepted after all is then paid for twice."
    if not (yes or click.confirm(question, err=True)):
        connection.screen.say("Nothing was submitted.")
        return ExitCode.FAILED
    async with place.opened_journal() as journal:
        await journal.forget([entry.key for entry in entries])
    await _hand_out(place, [entry.key for entry in entries], connection)
    return ExitCode.SUCCESS


async def _uncertain(place: QueuePlace, key: str) -> JournalEntry:
    place.check_exists()
    known = {entry.key: entry for entry in await place.entries()}
    entry = chosen_entry(known, key, place.shown)
    if entry.is_held or not entry.is_uncertain:
        state = "being submitted" if entry.is_held else entry.state
        raise click.UsageError(f"{entry.key} is {state}, not uncertain; nothing was changed")
    return entry


async def _hand_out(place: QueuePlace, keys: Sequence[str], connection: Connection) -> None:
    """Have workers go on with keys, in every run that has them."""
    handed = 0
    async with place.queue() as queue:
        for run in await queue.runs():
            handed += await queue.again(run=run, keys=keys)
    connection.screen.say(f"{counted(handed, 'task')} handed out again.")
