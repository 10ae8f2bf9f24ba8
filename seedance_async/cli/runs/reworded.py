"""Lines whose key is that of a job with another request: they are that job, not bought again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from seedance_async import GenerationRequest, JournalError, dump_request
from seedance_async.api.prepared_request import changed_fields
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.runs.journal_entries import KnownJobs, data_of
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import ranges
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry, read_entries

#: How many differences are told one by one.
_SHOWN = 5

_IN_WORDS = {"prompt": "another prompt", "mediaUrls": "other media", "aspectRatio": "aspect ratio"}


class Reworded:
    """The lines of a run whose jobs were bought with another request than they have now.

    Args:
        entries: these jobs, as they were when the run began; see `reworded`.
        lines: the run's.
        journal: the run's.
    """

    def __init__(
        self, entries: Mapping[Place, JournalEntry], lines: Sequence[Line], journal: Path | None
    ) -> None:
        self._entries, self._journal = dict(entries), journal
        self._requests = {line.place: line.request for line in lines}
        self._kept: dict[int, str] = {}

    def prompt(self, outcome: Outcome) -> str | None:
        """The prompt that the job of an outcome was bought with."""
        place = (outcome.line or 0, outcome.take)
        entry = self._entries.get(place)
        if entry is None:
            return outcome.prompt
        bought = entry if entry.request_id else self._as_it_is_now(entry)
        if text := difference(bought, self._requests[place]):
            self._kept[place[0]] = text
        return prompt_of(bought)

    def add(self, place: Place, entry: JournalEntry) -> None:
        """A job turns out to have been bought with another request."""
        self._entries[place] = entry

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
    """By line and take, the jobs that were bought with another request than the line has now."""
    requests = {line.place: line.request for line in lines}
    sent = known.sent_before(lines)
    return {place: entry for place, entry in sent.items() if difference(entry, requests[place])}


def prompt_of(entry: JournalEntry) -> str | None:
    """The prompt that a job was bought with; None if its request cannot be read."""
    prompt = data_of(entry).get("prompt")
    return None if prompt is None else str(prompt)


def difference(entry: JournalEntry, request: GenerationRequest) -> str:
    """What a job was bought with instead of what a request asks for, in words; "" if nothing."""
    before = data_of(entry)
    if "prompt" not in before:  # the job was attached by its id alone
        return ""
    try:
        now = dump_request(request)
    except ValueError:  # a file has just gone; the outcome of the line says so
        return ""
    return " and ".join(_words(changed_fields(_flat(before), _flat(now))))


def reworded_text(differences: Mapping[int, str]) -> str | None:
    """What a person has to know of lines; None if there are none.

    Args:
        differences: by the number of the line, what it was bought with.
    """
    if not differences:
        return None
    alike: dict[str, list[int]] = {}
    for number, text in sorted(differences.items()):
        is_shown = text in alike or len(alike) < _SHOWN
        alike.setdefault(text if is_shown else "another prompt or other options", []).append(number)
    bought = (f"{_were(numbers)} bought with {text}" for text, numbers in alike.items())
    these = " and" if len(alike) == 1 else "; all of these"
    are, them = ("is", "it") if len(differences) == 1 else ("are", "them")
    return (
        f"{', '.join(bought)}{these} {are} not bought again; give {them} another key to buy {them}"
    )


def _were(numbers: Sequence[int]) -> str:
    lines, were = ("line", "was") if len(numbers) == 1 else ("lines", "were")
    return f"{lines} {', '.join(ranges(numbers))} {were}"


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """A request with each of its extra fields as a field of its own."""
    extra = {f"extra.{name}": value for name, value in data.get("extra", {}).items()}
    return {name: data[name] for name in data if name != "extra"} | extra


def _words(changes: Mapping[str, Any]) -> Iterator[str]:
    for name, value in changes.items():
        words = _IN_WORDS.get(name, name)
        if name in ("prompt", "mediaUrls"):
            yield words
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"no {words}" if value is None else f"{words} {shorten(text, 30)}"
