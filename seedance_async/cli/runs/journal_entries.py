"""What the command line reads from a journal. Resuming its jobs is the session's work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

from seedance_async import GenerationRequest, JobState, JournalError, load_request
from seedance_async.api.local_media import STAND_IN
from seedance_async.cli.inputs import Line, Place
from seedance_async.journal import JournalEntry, match_entries
from seedance_async.journal.database import Database
from seedance_async.journal.reading import read_journal
from seedance_async.media.tags import read_tags


def state_of(entry: JournalEntry) -> JobState:
    """The state of an entry's job when the entry was last written."""
    return JobState(entry.state)


def state_text(state: str) -> str:
    """A recorded state for people. When the server begins a job is not recorded."""
    if JobState(state).is_running:
        return f"{JobState.QUEUED}/{JobState.PROCESSING}"
    return state


def request_of(entry: JournalEntry) -> GenerationRequest:
    """The request of an entry. Raises JournalError if it cannot be read."""
    try:
        return load_request(json.loads(entry.request))
    except ValueError as error:
        raise JournalError(f"the request of {entry.key} cannot be read: {error}") from None


def data_of(entry: JournalEntry) -> dict[str, Any]:
    """The request of an entry as plain data; none if it cannot be read."""
    try:
        data = json.loads(entry.request)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def sent_request(entry: JournalEntry) -> GenerationRequest:
    """The request of an entry whose job is only resumed, without media that nobody has at hand.

    A file is known there by its content alone, and another job's video need not be fetched again.
    """
    request = request_of(entry)
    urls = [each for each in request.media_urls if isinstance(each, str) and _is_url(each)]
    return (
        request if len(urls) == len(request.media_urls) else attrs.evolve(request, media_urls=urls)
    )


def _is_url(medium: str) -> bool:
    return not medium.startswith(STAND_IN)


def credits_charged(entries: Iterable[JournalEntry]) -> int:
    """What the jobs of entries were charged in all, as far as it is known."""
    return sum(entry.credits_charged or 0 for entry in entries)


@attrs.frozen
class KnownJobs:
    """What a journal knows of an input's lines.

    Attributes:
        entries: the journal's.
        media_key: see `SessionOptions`.
    """

    entries: Sequence[JournalEntry]
    media_key: Callable[[str], str] | None

    @classmethod
    def read(cls, journal: Path | str | None, media_key: Callable[[str], str] | None) -> KnownJobs:
        """From a journal, wherever it is; without one, nothing is known."""
        found = None if journal is None else read_journal(journal, Database.entries)
        return cls(found or [], media_key)

    def sent_before(self, lines: Sequence[Line]) -> dict[Place, JournalEntry]:
        """By line and take, the entries of the lines that an earlier run sent or may have sent."""
        pairs = zip(lines, self._match(lines), strict=True)
        return {
            line.place: entry
            for line, entry in pairs
            if entry and state_of(entry) is not JobState.REJECTED
        }

    @property
    def sent_keys(self) -> frozenset[str]:
        """The keys of what an earlier run sent, or may have sent."""
        sent = (each for each in self.entries if state_of(each) is not JobState.REJECTED)
        return frozenset(entry.key for entry in sent)

    def unmatched(self, lines: Sequence[Line]) -> list[JournalEntry]:
        """The entries whose jobs are running or in doubt, and that no line matches."""
        return [
            entry
            for entry in self._others(lines)
            if state_of(entry).is_resumable or state_of(entry).is_unanswered
        ]

    def replaced(self, lines: Sequence[Line]) -> list[JournalEntry]:
        """The entries whose jobs have succeeded, and that no line matches."""
        return [entry for entry in self._others(lines) if state_of(entry) is JobState.SUCCEEDED]

    def _others(self, lines: Sequence[Line]) -> list[JournalEntry]:
        matched = {entry.key for entry in self._match(lines) if entry is not None}
        return [entry for entry in self.entries if entry.key not in matched]

    def _match(self, lines: Sequence[Line]) -> list[JournalEntry | None]:
        items = [line.item for line in lines]
        return match_entries(self.entries, items, media_key=self.media_key)


def saved_file(path: Path | str | None, size: int | None, folder: Path) -> Path | None:
    """Where a saved video still is: under its name in the folder, or at its recorded path.

    Its size must be the recorded one. Its hash is not computed: that would read every video at
    each run, and a file gets its name only once it is complete. That holds for one with tags, too,
    which is larger: it says itself what size it had.
    """
    if path is None or size is None:
        return None
    places = (folder / Path(path).name, _from_here(Path(path)))
    is_it = (place for place in places if _size(place) == size or _is_tagged(place, size))
    return next(is_it, None)


def _is_tagged(path: Path, size: int) -> bool:
    try:
        tags = read_tags(path) if path.is_file() else None
    except OSError:
        return False
    return tags is not None and tags.size == size


def _from_here(path: Path) -> Path:
    """A path as a user in the current folder would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
