"""`seedance journal forget` and `adopt`: what only a person can settle in a journal.

Nothing is changed that has changed since it was shown, and nothing while a run writes the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ParamSpec

import click

from seedance_async import Generation, JournalError
from seedance_async.cli import connection
from seedance_async.cli.connection import Connection
from seedance_async.cli.console import Screen, short
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.recorded import RUNNING, UNKNOWN, journal_in, request_of
from seedance_async.journal import JournalEntry, SQLiteJournal, read_entries

P = ParamSpec("P")


def _where(command: Callable[P, ExitCode]) -> Callable[P, ExitCode]:
    return click.option(
        "--journal",
        "place",
        type=click.Path(path_type=Path),
        default=Path("videos"),
        show_default=True,
        help="The journal, or the folder that has it.",
    )(command)


@click.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY…")
@_where
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also those that are running or uncertain.")
def forget(keys: tuple[str, ...], place: Path, yes: bool, force: bool) -> ExitCode:
    """Remove entries. The same batch will submit, and pay for, their requests again."""
    screen, path = Screen(), journal_in(place)
    known = {entry.key: entry for entry in read_entries(path)}
    chosen = [_chosen(known, key, path) for key in dict.fromkeys(keys)]
    at_stake = [entry for entry in chosen if entry.state in RUNNING | UNKNOWN]
    if at_stake and not force:
        told = ", ".join(f"{entry.key} is {entry.state}" for entry in at_stake)
        raise click.UsageError(
            f"{told}: its job may be running and paid for, and forgotten it would be submitted and "
            "paid for again. Nothing was forgotten; --force forgets it all the same."
        )
    for entry in chosen:
        prompt = short(request_of(entry).prompt, 40)
        screen.say(f"  {entry.key} {entry.state} {entry.request_id or ''} “{prompt}”")
    screen.say("Forgotten, they are submitted and paid for again by the same batch.")
    if not (yes or click.confirm("Forget them?", err=True)):
        screen.say("Nothing was forgotten.")
        return ExitCode.FAILED
    states = {entry.key: entry.state for entry in chosen}
    count = asyncio.run(_forget(path, states))
    screen.say(f"{count} forgotten.")
    return ExitCode.SUCCESS


@click.command()
@click.argument("key")
@click.argument("request_id")
@_where
@connection.command
async def adopt(connection: Connection, key: str, request_id: str, place: Path) -> ExitCode:
    """Settle an uncertain entry with the id that the vendor's dashboard has for its job.

    The server is asked for the job first, and its prompt must be the entry's. The same batch, or
    `seedance resume`, then goes on with it.
    """
    path = journal_in(place)
    entry = _chosen({entry.key: entry for entry in read_entries(path)}, key, path)
    if entry.state not in UNKNOWN:
        raise click.UsageError(f"{key} is {entry.state}, not uncertain; nothing was changed")
    generation = await _asked(connection, request_id)
    prompt = request_of(entry).prompt
    if generation.prompt != prompt:
        raise click.UsageError(
            f"the prompt of {request_id} is “{short(generation.prompt or '')}”, that of the entry "
            f"“{short(prompt)}”; nothing was changed"
        )
    status = generation.status
    state = str(status) if status.is_known else "queued"
    error = generation.error.message if generation.error is not None else None
    async with _unchanged(path, {key: entry.state}) as opened:
        await opened.update(key, state=state, request_id=generation.request_id, error=error)
    connection.screen.say(f"{key} is job {request_id}, {state}.")
    return ExitCode.SUCCESS


def _chosen(known: dict[str, JournalEntry], key: str, path: Path) -> JournalEntry:
    if key not in known:
        raise click.UsageError(f"{path} has no entry {key}; nothing was changed")
    return known[key]


async def _asked(connection: Connection, request_id: str) -> Generation:
    async with connection.session() as session:
        try:
            return await session.client.get(request_id)
        except ValueError:
            raise click.UsageError(f"{request_id!r} cannot be a request id") from None


async def _forget(path: Path, states: Mapping[str, str]) -> int:
    async with _unchanged(path, states) as opened:
        return await opened.forget(states)


@asynccontextmanager
async def _unchanged(path: Path, states: Mapping[str, str]) -> AsyncIterator[SQLiteJournal]:
    """The journal, which nobody else writes now, with these entries as the user has seen them."""
    opened = SQLiteJournal(path)
    await opened.open()
    try:
        for key, state in states.items():
            entry = await opened.find(key)
            if entry is None or entry.state != state:
                raise JournalError(f"{key} has changed meanwhile; see again", path=str(path))
        yield opened
    finally:
        await opened.aclose()
