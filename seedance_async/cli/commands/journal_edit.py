"""`seedance journal forget` and `adopt`: what only a person can decide about a journal.

An entry that has changed since it was shown is left alone, and so is a journal that a run writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import click

from seedance_async import Generation, JournalError
from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.completions import keys_of_folder
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.journal_entries import request_of, state_of, state_text
from seedance_async.cli.text import shorten
from seedance_async.journal import Changes, JournalEntry, SQLiteJournal, read_entries


@click.command()
@options.journal_before("KEY…", fewest=1, complete=keys_of_folder())
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--force", is_flag=True, help="Also forget jobs that are running or uncertain.")
def forget(journal: Path, words: tuple[str, ...], yes: bool, force: bool) -> ExitCode:
    """Remove jobs from a journal. The same batch will submit, and pay for, them again.

    What they have cost still counts for --max-credits. DIR is the folder of the batch, or its
    journal file; by default `videos`.

    \b
    Example:
      seedance journal forget videos shot-1
    """
    screen = Screen()
    known = {entry.key: entry for entry in read_entries(journal)}
    chosen = [chosen_entry(known, key, journal) for key in dict.fromkeys(words)]
    at_stake = [e for e in chosen if state_of(e).is_resumable or state_of(e).is_unanswered]
    if at_stake and not force:
        states = ", ".join(f"{entry.key} is {state_text(entry.state)}" for entry in at_stake)
        raise click.UsageError(
            f"{states}: it may be running and paid for, and the same batch would submit and pay "
            "for it again. Nothing was forgotten; --force forgets it anyway."
        )
    for entry in chosen:
        state, prompt = state_text(entry.state), shorten(request_of(entry).prompt, 40)
        screen.say(f"  {entry.key} {state} {entry.request_id or ''} “{prompt}”")
    number = counted(len(chosen), "job")
    screen.say(f"The same batch will submit, and pay for, {number} again.")
    if not (yes or click.confirm(f"Forget {number}?", err=True)):
        screen.say("Nothing was forgotten.")
        return ExitCode.FAILED
    forgotten = asyncio.run(_forget(journal, chosen))
    screen.say(f"{counted(forgotten, 'job')} forgotten.")
    return ExitCode.SUCCESS


@click.command()
@options.journal_before("KEY REQUEST_ID", fewest=2, most=2, complete=keys_of_folder(uncertain=True))
@click.option("--any-prompt", is_flag=True, help="Adopt it though the server shows another prompt.")
@api_command
async def adopt(
    connection: Connection, journal: Path, words: tuple[str, ...], any_prompt: bool
) -> ExitCode:
    """Give an uncertain job the request id that it has in the vendor's dashboard.

    The server is queried first: the job's prompt must be that of the entry, which the server may
    have trimmed. After that the same batch, or `seedance resume`, resumes the job. DIR is the
    folder of the batch, or its journal file; by default `videos`.

    \b
    Example:
      seedance journal adopt videos shot-1 req_1234567890
    """
    key, request_id = words
    entry = chosen_entry({entry.key: entry for entry in read_entries(journal)}, key, journal)
    if not state_of(entry).is_unanswered:
        state = state_text(entry.state)
        raise click.UsageError(f"{key} is {state}, not uncertain; nothing was changed")
    prompt = request_of(entry).prompt
    learned = await found_at_server(connection, prompt, request_id, any_prompt=any_prompt)
    async with _unchanged(journal, [entry]) as opened:
        if not await opened.settle(entry.key, entry.attempt, learned):
            await opened.record(entry.attempt, **learned)  # an answer has named its id
    connection.screen.say(f"{key} is job {request_id}, {learned['state']}.")
    return ExitCode.SUCCESS


async def found_at_server(
    connection: Connection, prompt: str, request_id: str, *, any_prompt: bool
) -> Changes:
    """What the server says of an id that the job with a prompt is said to have.

    Raises:
        UsageError: it is the id of a job with another prompt.
    """
    generation = await _query(connection, request_id)
    if not (any_prompt or generation.has_prompt(prompt)):
        raise click.UsageError(
            f"the prompt of {request_id} is “{shorten(generation.prompt or '')}”, that of the "
            f"entry “{shorten(prompt)}”; nothing was changed. --any-prompt adopts it nevertheless."
        )
    status = generation.status
    state = str(status) if status.is_known else "queued"
    error = generation.error.message if generation.error is not None else None
    return Changes(state=state, request_id=generation.request_id, error=error)


def chosen_entry(known: Mapping[str, JournalEntry], key: str, path: Path | str) -> JournalEntry:
    """The entry with a key, which may be cut short as `journal show` does it."""
    start, dots, end = key.partition("…")
    if dots and key not in known:
        alike = [each for each in known if each.startswith(start) and each.endswith(end)]
        key = alike[0] if len(alike) == 1 else key
    if key not in known:
        raise click.UsageError(f"{path} has no job with the key {key}; nothing was changed")
    return known[key]


async def _query(connection: Connection, request_id: str) -> Generation:
    async with connection.session() as session:
        try:
            return await session.client.get(request_id)
        except ValueError:
            raise click.UsageError(f"{request_id!r} cannot be a request id") from None


async def _forget(path: Path, chosen: Sequence[JournalEntry]) -> int:
    async with _unchanged(path, chosen) as opened:
        return await opened.forget([entry.key for entry in chosen])


@asynccontextmanager
async def _unchanged(path: Path, entries: Sequence[JournalEntry]) -> AsyncIterator[SQLiteJournal]:
    """The journal, opened for writing, if its entries are still as they were shown to the user."""
    opened = SQLiteJournal(path)
    await opened.open()
    try:
        for shown in entries:
            entry = await opened.find(shown.key)
            if entry is None or (entry.state, entry.attempt) != (shown.state, shown.attempt):
                raise JournalError(
                    f"{shown.key} has changed since it was read; try again", path=str(path)
                )
        yield opened
    finally:
        await opened.aclose()
