"""What a shell offers for a word: ids and keys from the user's journals, lines and folders.

Nothing here may fail or write: the user is in the middle of a command.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from seedance_async import ConfigurationError, JournalError
from seedance_async.cli.history import journals
from seedance_async.cli.options import journal_path
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.cli.runs.journal_entries import request_of, state_of, state_text
from seedance_async.cli.takes.folder_lines import read_folder_lines
from seedance_async.cli.text import shorten
from seedance_async.journal import JournalEntry, read_entries

#: How many ids or keys are offered, the latest ones.
_MOST = 100

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def jobs_or_folder(*, running: bool = False) -> _Complete:
    """For the words of `status` and `cancel`: ids of the user's jobs; or a folder and its lines.

    Args:
        running: offer only jobs that may not have ended.
    """

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        words = _words(context)
        if words and journal_path(Path(words[0])).is_file():
            return _lines(Path(words[0]), incomplete)
        entries = _latest(entry for place in journals() for entry in _entries(place))
        offered = [e for e in entries if not running or state_of(e).is_resumable]
        ids = [_item(e.request_id, e) for e in offered if e.request_id is not None]
        return ([] if words else _folders(incomplete)) + _fitting(incomplete, ids)

    return complete


def folder_and_lines(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """For the words of `reroll`: a folder, then its lines."""
    words = _words(context)
    return _lines(Path(words[0]), incomplete) if words else _folders(incomplete)


def keys_of_folder(*, uncertain: bool = False) -> _Complete:
    """For the words of `journal forget` and `adopt`: a folder, then keys of its jobs.

    Args:
        uncertain: offer only jobs that may have been charged without an answer, and one of them.
    """

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        words, named = _words(context), context.params.get("named_journal")
        folder = None if named is None else Path(named)
        if words and folder is None and Path(words[0]).exists():
            folder, words = Path(words[0]), words[1:]
        if words and uncertain:
            return []  # the id from the dashboard
        entries = _latest(_entries(journal_path(folder)))
        offered = [e for e in entries if not uncertain or state_of(e).is_unanswered]
        keys = [_item(e.key, e) for e in offered if e.key not in words]
        return ([] if folder or words else _folders(incomplete)) + _fitting(incomplete, keys)

    return complete


def keys_of_queue(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """For the words of `queue adopt` and `resubmit`: keys of uncertain jobs of a queue in a file.

    No database on another machine is asked while somebody types.
    """
    place: QueuePlace | None = context.params.get("place")
    if place is None or not place.url.startswith("sqlite"):
        return []
    with suppress(ConfigurationError):
        entries = _latest(_entries(Path(place.journal)))
        offered = [e for e in entries if e.is_uncertain and e.key not in _keys(context)]
        return _fitting(incomplete, [_item(entry.key, entry) for entry in offered])
    return []


def _keys(context: click.Context) -> Sequence[str]:
    return tuple(context.params.get("keys") or ())


def _words(context: click.Context) -> Sequence[str]:
    return tuple(context.params.get("words") or ())


def _entries(place: Path) -> list[JournalEntry]:
    with suppress(JournalError, OSError):
        return read_entries(place)
    return []


def _latest(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    return sorted(entries, key=lambda entry: -entry.created_at)


def _item(value: str | None, entry: JournalEntry) -> CompletionItem:
    prompt = ""
    with suppress(JournalError):
        prompt = shorten(request_of(entry).prompt, 40)
    return CompletionItem(value, help=f"{state_text(entry.state)} {prompt}")


def _fitting(incomplete: str, items: Iterable[CompletionItem]) -> list[CompletionItem]:
    return [item for item in items if item.value.startswith(incomplete)][:_MOST]


def _lines(folder: Path, incomplete: str) -> list[CompletionItem]:
    with suppress(click.UsageError):
        lines = read_folder_lines(folder).values()
        items = [
            CompletionItem(str(line.number), help=shorten(line.request.prompt)) for line in lines
        ]
        return _fitting(incomplete, items)
    return []


def _folders(incomplete: str) -> list[CompletionItem]:
    """The folders of batches, as a user in the current folder writes them; else all folders.

    The item that stands for all comes first: a shell that meets it forgets what came before.
    """
    known = sorted(set(map(_from_here, _places())))
    every = CompletionItem(incomplete, type="dir")
    return [every, *_fitting(incomplete, map(CompletionItem, known))]


def _places() -> Iterator[Path]:
    return (place.parent for place in journals(own=False) if place.exists())


def _from_here(folder: Path) -> str:
    here = Path.cwd()
    return os.path.relpath(folder, here) if folder.is_relative_to(here) else str(folder)
