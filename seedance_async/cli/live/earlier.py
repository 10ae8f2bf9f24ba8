"""How long jobs took in the user's earlier runs, for what is expected before any has ended in this.

A journal has the times of its first and its last record of a job, so this includes the saving.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path

from seedance_async import JobState, JournalError
from seedance_async.cli.history import journals
from seedance_async.cli.runs.journal_entries import request_of
from seedance_async.journal import JournalEntry, read_entries

#: Journals that are read, of the latest runs, and the bytes above which one is left out.
_JOURNALS, _LARGEST = 4, 5_000_000

#: Jobs of each journal that count: the last ones.
_JOBS = 300

#: Seconds above which a job was resumed by a later run, rather than slow.
_DAY = 86400.0


def earlier_times(origin: str) -> list[tuple[Hashable, float]]:
    """The kinds and the seconds of jobs that have succeeded at this API. It blocks."""
    known = journals()
    return [
        found for place in [*known[:1], *known[1:][-_JOURNALS:]] for found in _in(place, origin)
    ]


def _in(place: Path, origin: str) -> Iterator[tuple[Hashable, float]]:
    try:
        if place.stat().st_size > _LARGEST:
            return
        entries = read_entries(place)
    except (OSError, JournalError):  # of an earlier run: it is no trouble of this one
        return
    ended = [each for each in entries if _counts(each, origin)]
    for entry in sorted(ended, key=lambda each: each.created_at)[-_JOBS:]:
        try:
            yield request_of(entry).kind, entry.updated_at - entry.created_at
        except JournalError:
            continue


def _counts(entry: JournalEntry, origin: str) -> bool:
    took = entry.updated_at - entry.created_at
    return entry.state == JobState.SUCCEEDED and entry.origin == origin and 0 < took < _DAY
