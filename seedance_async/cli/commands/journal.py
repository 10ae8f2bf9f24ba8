"""`seedance journal`: what a journal holds, as a table and as data. It changes nothing itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from seedance_async.cli.commands.settle import adopt, forget
from seedance_async.cli.console import Screen, short
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.recorded import UNKNOWN, journal_in, request_of
from seedance_async.journal import JournalEntry, read_entries

PATH = click.Path(path_type=Path)
_STATES = (
    *("submitting", "queued", "processing", "succeeded", "failed", "cancelled"),
    *("rejected", "uncertain", "abandoned"),
)


@click.group()
def journal() -> None:
    """See what the journal of a batch holds, and settle what is uncertain."""


@journal.command()
@click.argument("place", type=PATH, default=Path("videos"), metavar="[DIR or JOURNAL]")
@click.option("--state", type=click.Choice(_STATES), help="Only the entries in this state.")
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON lines.")
def show(place: Path, state: str | None, as_json: bool) -> ExitCode:
    """List the jobs of a journal, and their totals; a run may be writing it meanwhile."""
    screen = Screen()
    entries = [e for e in read_entries(journal_in(place)) if state in (None, e.state)]
    if as_json:
        for entry in entries:
            screen.record(_row(entry))
        return ExitCode.SUCCESS
    for line in _table([_row(entry) for entry in entries]):
        screen.answer(line)
    screen.say(_totals(entries))
    return ExitCode.SUCCESS


@journal.command()
@click.argument("place", type=PATH, default=Path("videos"), metavar="[DIR or JOURNAL]")
def export(place: Path) -> ExitCode:
    """Write all fields of all entries to stdout, as JSON lines."""
    screen = Screen()
    for entry in read_entries(journal_in(place)):
        screen.record(attrs.asdict(entry))
    return ExitCode.SUCCESS


for _command in (forget, adopt):
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


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows in columns as wide as they need to be; the prompt, last, is shortened."""
    texts = [[_cell(name, value) for name, value in row.items()] for row in rows]
    table = [[name.replace("_", " ") for name in row] for row in rows[:1]] + texts
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    return short(str(value), 40) if name == "prompt" else str(value)


def _totals(entries: Sequence[JournalEntry]) -> str:
    states = Counter(entry.state for entry in entries)
    charged = sum(entry.credits_charged or 0 for entry in entries)
    saved = sum(entry.path is not None for entry in entries)
    counts = ", ".join(f"{states[state]} {state}" for state in _STATES if states[state])
    told = f"{len(entries)} entries: {counts or 'none'}; {saved} saved; {charged:,} credits charged"
    unknown = sum(states[state] for state in UNKNOWN)
    return told + (f"; {unknown} may have been charged as well" if unknown else "")
