"""`seedance history`: what was bought with the command line, by whichever command."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from seedance_async import JournalError
from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.history import bought
from seedance_async.cli.runs.journal_entries import credits_charged, request_of, state_text
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry


@click.command()
@click.option(
    "-n",
    "--last",
    type=options.COUNT,
    default=50,
    show_default=True,
    help="Show this many jobs, the latest ones.",
)
@options.as_json
def history(last: int, as_json: bool) -> ExitCode:
    """List the jobs that were submitted from this account of this machine, the latest last.

    They are read from the journal of `seedance generate` and from those of all batches. A refused
    job is not shown.

    \b
    Example:
      seedance history --last 10
    """
    screen = Screen()
    jobs = [job for job in bought(screen) if job[1].state != "rejected"]
    jobs.sort(key=lambda job: job[1].created_at)
    for place, entry in jobs[-last:]:
        if as_json:
            screen.record(_row(place, entry))
        else:
            screen.answer(_line(entry))
    if not as_json:
        screen.say(_totals([entry for _, entry in jobs], shown=min(last, len(jobs))))
    return ExitCode.SUCCESS


def _row(place: Path, entry: JournalEntry) -> dict[str, Any]:
    return {
        "at": _time(entry.created_at),
        "state": entry.state,
        "request_id": entry.request_id,
        "credits_charged": entry.credits_charged,
        "file": entry.path,
        "output_url": entry.output_url,
        "prompt": _prompt(entry, 1000),
        "key": entry.key,
        "journal": str(place),
    }


def _line(entry: JournalEntry) -> str:
    charged = "?" if entry.credits_charged is None else entry.credits_charged
    place = entry.path or entry.output_url or ""
    return (
        f"{_time(entry.created_at)}  {state_text(entry.state):<17}  {charged:>5}  "
        f"{entry.request_id or entry.key}  “{_prompt(entry, 40)}”  {place}"
    ).rstrip()


def _time(seconds: float) -> str:
    """A time as people read it, in the zone of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _prompt(entry: JournalEntry, width: int) -> str:
    try:
        return shorten(request_of(entry).prompt, width)
    except JournalError:
        return "?"


def _totals(entries: Sequence[JournalEntry], shown: int) -> str:
    credits = counted(credits_charged(entries), "credit")
    of = "" if shown == len(entries) else f"the latest {shown:,} of "
    return f"{of}{counted(len(entries), 'job')}; {credits} charged"
