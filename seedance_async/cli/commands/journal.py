"""`seedance journal`: what a journal holds, as a table and as data. It changes nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from seedance_async import JobState
from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.commands.journal_copy import copy
from seedance_async.cli.commands.journal_edit import adopt, forget
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.journal_entries import (
    credits_charged,
    request_of,
    state_of,
    state_text,
)
from seedance_async.cli.tables import table, terminal_width
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry, read_entries

_HEADINGS = {"credits_charged": "credits"}

#: A job that was not sent yet is in no journal.
_STATES = [str(state) for state in JobState if state is not JobState.PENDING]


@click.group()
def journal() -> None:
    """Show the journal of a batch, and settle uncertain submits.

    DIR is the folder of the batch, or its journal file; by default `videos`.

    \b
    Example:
      seedance journal show videos
    """


@journal.command()
@options.journal
@click.option("--state", type=click.Choice(_STATES), help="Only jobs in this state.")
@options.as_json
def show(journal: Path, state: str | None, as_json: bool) -> ExitCode:
    """List the jobs of a journal, with totals. A run may be writing it.

    Running jobs are shown as `queued/processing`: the journal does not record which.

    \b
    Example:
      seedance journal show videos --state uncertain
    """
    screen = Screen()
    wanted = None if state is None else state_text(state)
    entries = read_entries(journal)
    entries = [each for each in entries if wanted in (None, state_text(each.state))]
    rows = [_row(entry) for entry in entries]
    if as_json:
        for row in rows:
            screen.record(row)
        return ExitCode.SUCCESS
    for line in table([_cells(row) for row in rows], terminal_width()):
        screen.answer(line)
    screen.say(_totals(entries))
    return ExitCode.SUCCESS


@journal.command()
@options.journal
def export(journal: Path) -> ExitCode:
    """Write all fields of all jobs to stdout, as JSON lines.

    \b
    Example:
      seedance journal export videos
    """
    screen = Screen()
    for entry in read_entries(journal):
        screen.record(attrs.asdict(entry))
    return ExitCode.SUCCESS


for _command in (forget, adopt, copy):
    journal.add_command(_command)


def _row(entry: JournalEntry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "state": entry.state,
        "request_id": entry.request_id,
        "credits_charged": entry.credits_charged,
        "file": entry.path,
        "prompt": request_of(entry).prompt,
    }


def _cells(row: dict[str, Any]) -> dict[str, str]:
    return {_HEADINGS.get(name, name): _cell(name, value) for name, value in row.items()}


def _cell(name: str, value: object) -> str:
    match name:
        case _ if value is None:
            return "-"
        case "state":
            return state_text(str(value))
        case "prompt":
            return shorten(str(value), 40)
    return str(value)


def _totals(entries: Sequence[JournalEntry]) -> str:
    states = Counter(state_text(entry.state) for entry in entries)
    order = dict.fromkeys(map(state_text, _STATES))
    counts = ", ".join(f"{states[state]:,} {state}" for state in order if states[state])
    saved = sum(entry.path is not None for entry in entries)
    unanswered = sum(state_of(entry).is_unanswered for entry in entries)
    return "; ".join(
        [
            f"{counted(len(entries), 'job')}{f': {counts}' if counts else ''}",
            f"{counted(saved, 'video')} saved",
            f"{counted(credits_charged(entries), 'credit')} charged",
            *(
                [f"{counted(unanswered, 'job')} may have been charged as well"]
                if unanswered
                else []
            ),
        ]
    )
