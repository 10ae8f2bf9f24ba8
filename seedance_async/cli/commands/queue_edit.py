"""`seedance queue adopt` and `resubmit`: what a person has found out about an uncertain submit."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from seedance_async import GenerationRequest, dump_request
from seedance_async._utils.plural import counted
from seedance_async.cli.commands.journal_edit import chosen_entry, found_at_server
from seedance_async.cli.completions import keys_of_queue
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.queues.place import QueuePlace, queue_option
from seedance_async.cli.runs.journal_entries import request_of
from seedance_async.cli.text import shorten
from seedance_async.journal import Intent, JournalEntry, fingerprint

_queue = queue_option("The queue:", required=True)


@click.command()
@_queue
@click.argument("key", shell_complete=keys_of_queue)
@click.argument("request_id")
@click.option("--any-prompt", is_flag=True, help="Adopt it though the server shows another prompt.")
@api_command
async def adopt(
    connection: Connection, place: QueuePlace, key: str, request_id: str, any_prompt: bool
) -> ExitCode:
    """Give an uncertain job the request id that it has in the vendor's dashboard.

    The server is queried first, as by `seedance journal adopt`. Workers then wait for the job, and
    save its video. A task that the journal does not know at all, as a database has forgotten it
    that was restored from a backup, is adopted, too.

    \b
    Example:
      seedance queue adopt --queue sqlite:///fleet.db shot-1 req_1234567890
    """
    entry = await _known(place, key)
    request = await _request(place, key) if entry is None else request_of(entry)
    learned = await found_at_server(connection, request.prompt, request_id, any_prompt=any_prompt)
    key = key if entry is None else entry.key
    async with place.opened_journal() as journal:
        if entry is None:
            attempt = await journal.adopt(_intent(connection, key, request), request_id)
            await journal.record(attempt, **learned)
        elif not await journal.settle(key, entry.attempt, learned):
            raise _changed(key, await journal.find(key))
    connection.screen.say(f"{key} is job {request_id}, {learned['state']}.")
    await _hand_out(place, [key], connection)
    return ExitCode.SUCCESS


def _intent(connection: Connection, key: str, request: GenerationRequest) -> Intent:
    origin = connection.offline_session().client.base_url
    return Intent(key, fingerprint(request), json.dumps(dump_request(request)), origin=origin)


@click.command()
@_queue
@click.argument("keys", nargs=-1, required=True, metavar="KEY…", shell_complete=keys_of_queue)
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
    entries = []
    for key in dict.fromkeys(keys):
        entry = await _known(place, key)
        if entry is None:
            raise _unknown(place, key)
        entries.append(entry)
    for entry in entries:
        connection.screen.say(f"  {entry.key} “{shorten(request_of(entry).prompt, 40)}”")
    jobs = counted(len(entries), "job")
    question = f"Submit {jobs} again? What was accepted after all is then paid for twice."
    if not (yes or click.confirm(question, err=True)):
        connection.screen.say("Nothing was submitted.")
        return ExitCode.FAILED
    freed, changed = [], []
    async with place.opened_journal() as journal:
        for entry in entries:
            if await journal.settle(entry.key, entry.attempt):
                freed.append(entry.key)
            else:
                changed.append(_changed(entry.key, await journal.find(entry.key)))
    if freed:
        await _hand_out(place, freed, connection)
    for error in changed:
        connection.screen.say(error.message)
    return ExitCode.USAGE if changed else ExitCode.SUCCESS


async def _known(place: QueuePlace, key: str) -> JournalEntry | None:
    """What the journal has under a key that is uncertain; None if it has nothing."""
    place.check_exists()
    known = {entry.key: entry for entry in await place.entries()}
    if key not in known and "…" not in key:
        return None
    entry = chosen_entry(known, key, place.shown)
    if entry.is_held or not entry.is_uncertain:
        raise _changed(entry.key, entry)
    return entry


def _changed(key: str, entry: JournalEntry | None) -> click.UsageError:
    """It is not, or no longer, the uncertain submit that was meant."""
    if entry is None:
        return click.UsageError(f"{key} is to be submitted again already; nothing was changed")
    if entry.is_uncertain and not entry.is_held:
        return click.UsageError(f"{key} was submitted again meanwhile; nothing was changed")
    state = "being submitted" if entry.is_held else entry.state
    return click.UsageError(f"{key} is {state}, not uncertain; nothing was changed")


async def _request(place: QueuePlace, key: str) -> GenerationRequest:
    async with place.queue() as queue:
        task = await queue.task(key)
    if task is None:
        raise _unknown(place, key)
    return task.request


def _unknown(place: QueuePlace, key: str) -> click.UsageError:
    return click.UsageError(f"{place.shown} has no job with the key {key}; nothing was changed")


async def _hand_out(place: QueuePlace, keys: Sequence[str], connection: Connection) -> None:
    """Have workers go on with keys, in every run that has them."""
    handed = 0
    async with place.queue() as queue:
        for run in await queue.runs():
            handed += await queue.again(run=run, keys=keys)
    connection.screen.say(f"{counted(handed, 'task')} handed out again.")
