"""`seedance queue`: the runs of a queue: how far they are, and what only a person can decide."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from seedance_async import JobState
from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.commands.queue_edit import adopt, resubmit
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.queues.place import QueuePlace, queue_option, run_option
from seedance_async.cli.queues.planned import may_go_on
from seedance_async.cli.queues.steps import settle
from seedance_async.cli.runs.journal_entries import request_of
from seedance_async.cli.tables import table, terminal_width
from seedance_async.cli.text import shorten
from seedance_async.engines import Outcome, Queue, RunStatus
from seedance_async.journal import JournalEntry

#: Seconds between two looks of `status --watch`.
LOOK = 2.0

_queue = queue_option("The queue:", required=True)
_needs_run = click.option(
    "--run",
    required=True,
    metavar="NAME",
    help="The run: what `batch --run` said, by default the name of the batch's folder.",
)


@click.group()
def queue() -> None:
    """Show the runs of a queue, end them, and settle uncertain submits.

    \b
    Example:
      seedance queue status --queue sqlite:///fleet.db
    """


@queue.command()
@_queue
@run_option
@click.option("--watch", is_flag=True, help="Look again until all tasks have their outcomes.")
@options.as_json
def status(place: QueuePlace, run: str | None, watch: bool, as_json: bool) -> ExitCode:
    """Show how far runs are: what waits, what workers have, and what has become of the rest.

    \b
    Examples:
      seedance queue status --queue sqlite:///fleet.db
      seedance queue status --queue postgresql://HOST/DATABASE --run videos --watch
    """
    return asyncio.run(_show_status(place, run, Screen(), watch=watch, as_json=as_json))


@queue.command()
@_queue
@_needs_run
@click.argument("keys", nargs=-1, metavar="[KEY…]")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def cancel(place: QueuePlace, run: str, keys: Sequence[str], yes: bool) -> ExitCode:
    """Cancel the tasks of a run that have no outcome, or those with these keys.

    What is not sent is never sent; what runs is cancelled at the server, by the workers. The vendor
    does not document whether a cancelled job is refunded.

    \b
    Example:
      seedance queue cancel --queue sqlite:///fleet.db --run videos
    """
    return asyncio.run(_cancel(place, run, keys, Screen(), yes=yes))


@queue.command()
@_queue
@_needs_run
@click.option("--rejected", is_flag=True, help="Also what was rejected, or cancelled unsent.")
@click.option("--yes", is_flag=True, help="Do not ask before buying what --rejected hands out.")
def resume(place: QueuePlace, run: str, rejected: bool, yes: bool) -> ExitCode:
    """Hand out again what was given up, was not saved, or is not uncertain any more.

    What a dead worker had needs no command: the others take it over by themselves, or the next one
    that starts. Nothing is bought, unless --rejected says so.

    \b
    Example:
      seedance queue resume --queue sqlite:///fleet.db --run videos
    """
    return asyncio.run(_resume(place, run, Screen(), rejected=rejected, yes=yes))


@queue.command()
@_queue
@run_option
@options.as_json
def uncertain(place: QueuePlace, run: str | None, as_json: bool) -> ExitCode:
    """List the submits that may have been charged and have no id, and what to do about each.

    The exit code is 5 if there is one.

    \b
    Example:
      seedance queue uncertain --queue sqlite:///fleet.db
    """
    return asyncio.run(show_uncertain(place, run, Screen(), as_json=as_json))


for _command in (adopt, resubmit):
    queue.add_command(_command)


# --- status ---------------------------------------------------------------------------------------


async def _show_status(
    place: QueuePlace, only: str | None, screen: Screen, *, watch: bool, as_json: bool
) -> ExitCode:
    shown: list[dict[str, Any]] = []
    place.check_exists()
    async with place.queue() as opened:
        while True:
            names = [run for run in await opened.runs() if only in (None, run)]
            if only is not None and not names:
                raise _no_run(only, place)
            found = {name: await opened.status(run=name) for name in names}
            rows = [_row(name, status) for name, status in found.items()]
            if rows != shown:
                shown = rows
                _show(rows, screen, as_json=as_json)
            if not watch or all(status.is_complete for status in found.values()):
                break
            await asyncio.sleep(LOOK)
    if not rows:
        screen.say(f"No runs in {place.shown}.")
    return ExitCode.SUCCESS


def _row(name: str, status: RunStatus) -> dict[str, Any]:
    return {
        "run": name,
        "waiting": status.waiting,
        "running": status.running,
        "ended": dict(status.ended),
        "workers": dict(status.workers),
    }


def _show(rows: Sequence[dict[str, Any]], screen: Screen, *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            screen.record(row)
        return
    for line in table([_cells(row) for row in rows], terminal_width()):
        screen.answer(line)


def _cells(row: dict[str, Any]) -> dict[str, str]:
    ended = ", ".join(f"{count:,} {state}" for state, count in sorted(row["ended"].items()))
    workers = ", ".join(f"{name}: {count:,}" for name, count in sorted(row["workers"].items()))
    numbers = {name: f"{row[name]:,}" for name in ("waiting", "running")}
    return {"run": row["run"], **numbers, "ended": ended or "-", "workers": workers or "-"}


# --- what a person decides ------------------------------------------------------------------------


async def _cancel(
    place: QueuePlace, run: str, keys: Sequence[str], screen: Screen, *, yes: bool
) -> ExitCode:
    place.check_exists()
    async with place.queue() as opened:
        tasks = await _tasks(opened, run, place)
        _check_keys(keys, tasks, run, place)
        chosen = [key for key in keys or tasks if tasks[key] is None]
        if not chosen:
            screen.say(f"Nothing to cancel: every task of {run} has its outcome.")
            return ExitCode.SUCCESS
        number = counted(len(chosen), "task")
        question = f"Cancel {number} of the run {run}? What is running may be charged nevertheless."
        if not (yes or click.confirm(question, err=True)):
            screen.say("Nothing was cancelled.")
            return ExitCode.FAILED
        cancelled = await opened.cancel(run=run, keys=chosen if keys else None)
    screen.say(
        f"{counted(cancelled, 'task')} cancelled. Workers cancel within seconds what is running at "
        f"the server: seedance queue status {place.option}"
    )
    return ExitCode.SUCCESS


async def _resume(
    place: QueuePlace, run: str, screen: Screen, *, rejected: bool, yes: bool
) -> ExitCode:
    place.check_exists()
    known = {entry.key: entry for entry in await place.entries()}
    async with place.queue() as opened:
        tasks = await _tasks(opened, run, place)
        again = [key for key, told in tasks.items() if may_go_on(told, known.get(key))]
        anew = [key for key in again if key not in known or known[key].state == JobState.REJECTED]
        if anew and rejected and not (yes or _may_buy(anew, screen)):
            return ExitCode.USAGE
        chosen = again if rejected else [key for key in again if key not in anew]
        if chosen:
            await opened.again(run=run, keys=chosen)
        status = await opened.status(run=run)
    screen.say(f"{counted(len(chosen), 'task')} of the run {run} handed out again.")
    if anew and not rejected:
        screen.say(f"{counted(len(anew), 'task')} rejected or cancelled unsent: see --rejected.")
    screen.say(
        f"{status.waiting:,} wait, and {counted(len(status.workers), 'worker')} "
        f"have {status.running:,}. What a dead worker had is taken over by the others."
    )
    return ExitCode.SUCCESS


def _may_buy(keys: Sequence[str], screen: Screen) -> bool:
    jobs = counted(len(keys), "job")
    return agrees(f"Buy {jobs}?", f"{jobs} would be bought. --yes buys without a question.", screen)


async def _tasks(queue: Queue, run: str, place: QueuePlace) -> dict[str, Outcome | None]:
    """The tasks of a run, which has some: there is no other sign of it."""
    tasks = await queue.tasks(run=run)
    if not tasks:
        raise _no_run(run, place)
    return tasks


def _no_run(run: str, place: QueuePlace) -> click.UsageError:
    return click.UsageError(
        f"{place.shown} has no run {run}. To see its runs: seedance queue status {place.option}"
    )


def _check_keys(keys: Sequence[str], known: Any, run: str, place: QueuePlace) -> None:
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise click.UsageError(f"the run {run} of {place.shown} has no task {', '.join(unknown)}")


# --- uncertain ------------------------------------------------------------------------------------


async def show_uncertain(
    place: QueuePlace, run: str | None, screen: Screen, *, as_json: bool
) -> ExitCode:
    """List the uncertain submits of a queue, or of one of its runs."""
    place.check_exists()
    entries = [each for each in await place.entries() if each.is_uncertain and not each.is_held]
    if run is not None:
        async with place.queue() as opened:
            keys = await _tasks(opened, run, place)
        entries = [entry for entry in entries if entry.key in keys]
    for entry in entries:
        if as_json:
            screen.record(_uncertain_row(entry))
            continue
        row = _uncertain_row(entry)
        prompt = shorten(row["prompt"], 40)
        screen.answer(f"{entry.key}  {row['submitted_at']}  “{prompt}”: {row['error']}")
        screen.say(f"    What to do: {settle(place.option, entry.key)}", whole=True)
    if not entries:
        screen.say("No submit is uncertain.")
        return ExitCode.SUCCESS
    screen.say(
        f"{counted(len(entries), 'submit')} uncertain: perhaps accepted and charged. "
        f"{'It was' if len(entries) == 1 else 'They were'} not sent again.",
        style="yellow",
    )
    return ExitCode.UNCERTAIN


def _uncertain_row(entry: JournalEntry) -> dict[str, Any]:
    reason = entry.error or "the process ended between the submit and its answer"
    return {
        "key": entry.key,
        "submitted_at": f"{datetime.fromtimestamp(entry.created_at):%Y-%m-%d %H:%M:%S}",
        "prompt": request_of(entry).prompt,
        "error": reason,
        "credits": entry.credits_reserved,
    }
