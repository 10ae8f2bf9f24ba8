"""Lines whose key is that of a job with another prompt: they are that job, and not bought again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from seedance_async import JournalError
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import ranges
from seedance_async.journal import JournalEntry, read_entries


class Reworded:
    """The lines of a run whose jobs were bought with another prompt than they have now.

    Args:
        entries: their jobs, as they were when the run began; see `reworded`.
        journal: the run's.
    """

    def __init__(self, entries: Mapping[Place, JournalEntry], journal: Path | None) -> None:
        self._entries, self._journal = entries, journal
        self._kept: set[int] = set()

    def prompt(self, outcome: Outcome) -> str | None:
        """The prompt that the job of an outcome was bought with."""
        entry = self._entries.get((outcome.line or 0, outcome.take))
        if entry is None:
            return outcome.prompt
        bought = prompt_of(entry if entry.request_id else self._as_it_is_now(entry))
        if bought != outcome.prompt and outcome.line is not None:
            self._kept.add(outcome.line)
        return bought

    def add(self, place: Place, entry: JournalEntry) -> None:
        """A job turns out to have been bought with another prompt."""
        self._entries = {**self._entries, place: entry}

    def text(self) -> str | None:
        """What a person has to know of those whose outcomes have come."""
        return reworded_text(self._kept)

    def _as_it_is_now(self, entry: JournalEntry) -> JournalEntry:
        """An entry of a job in doubt, which this run may have submitted again."""
        try:
            entries = read_entries(self._journal) if self._journal else ()
        except JournalError:
            return entry
        return next((each for each in entries if each.key == entry.key), entry)


def reworded(known: KnownJobs, lines: Sequence[Line]) -> dict[Place, JournalEntry]:
    """By line and take, the jobs that were bought with another prompt than the line has now."""
    prompts = {line.place: line.request.prompt for line in lines}
    sent = known.sent_before(lines)
    return {
        place: entry
        for place, entry in sent.items()
        if prompt_of(entry) not in (None, prompts[place])
    }


def prompt_of(entry: JournalEntry) -> str | None:
    """The prompt that a job was bought with; None if its request cannot be read."""
    try:
        return str(json.loads(entry.request)["prompt"])
    except (ValueError, KeyError, TypeError):
        return None


def reworded_text(numbers: Iterable[int]) -> str | None:
    """What a person has to know of the lines with these numbers; None if there are none."""
    found = ranges(numbers)
    if not found:
        return None
    is_one = found[0].isdecimal() and len(found) == 1
    lines, were, are, them = (
        ("line", "was", "is", "it") if is_one else ("lines", "were", "are", "them")
    )
    return (
        f"{lines} {', '.join(found)} {were} bought with another prompt and {are} not bought again; "
        f"give {them} another key to buy {them}"
    )
