"""Rerolls: which takes one call of `seedance reroll` buys, and whether it was called before.

A user who calls the command again may mean "go on" or "one more". What tells them apart is a file
in the folder `rerolls`: it is there, with the numbers of the takes, before anything is sent, and
goes once all of them have ended and are saved. Until then the same words resume the reroll; after
that they buy one more take. A take that the user numbers is bought once for good.

Each reroll has a file of its own, so that one which ends cannot undo one that begins.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from seedance_async import JobState
from seedance_async._utils.whole_file import make_folder, write_whole
from seedance_async.cli.extra_option import changed, option_words
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import request_of, state_of, state_text
from seedance_async.cli.takes.folder_lines import with_dependants
from seedance_async.cli.takes.keys import from_takes, sources, split_key, take_key
from seedance_async.journal import JournalEntry

REROLLS = "rerolls"


@attrs.frozen
class Reroll:
    """What one call of the command buys.

    Attributes:
        asked: the numbers of the lines that the user named.
        changes: the fields of their requests that are other than in the lines.
        keys: by the number of the line, the key of the take; also for the lines that are made from
            those that were named.
    """

    asked: Sequence[int]
    changes: Mapping[str, Any]
    keys: Mapping[int, str]

    @property
    def file_name(self) -> str:
        """The same for the same lines and changes, whatever numbers the lines have."""
        asked = sorted(split_key(self.keys[number])[0] for number in self.asked)
        of_lines = sorted(split_key(key)[0] for key in self.keys.values())
        words = json.dumps([asked, of_lines, sorted(self.changes.items())])
        return f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"

    def renumbered(self, numbers: Mapping[str | None, int]) -> Reroll:
        """The same with the numbers that its lines have now; those that are no more are left out.

        Args:
            numbers: those of the folder's lines, by their keys.
        """
        now = {
            number: numbers[line_key]
            for number, key in self.keys.items()
            if (line_key := split_key(key)[0]) in numbers
        }
        asked = sorted(now[number] for number in self.asked if number in now)
        keys = {now[number]: key for number, key in self.keys.items() if number in now}
        return Reroll(asked, self.changes, keys)

    def without(self, keys: Collection[str]) -> Reroll:
        """What else it buys than the takes with these keys."""
        rest = {number: key for number, key in self.keys.items() if key not in keys}
        return Reroll([number for number in self.asked if number in rest], self.changes, rest)

    def lines(self, lines: Iterable[Line]) -> list[Line]:
        """The lines as they are submitted: with the changes, and the take's key and number."""
        takes = {split_key(key)[0]: key for key in self.keys.values()}  # of each line
        return [self._take(line, takes) for line in lines]

    def _take(self, line: Line, takes: Mapping[str, str]) -> Line:
        changes = self.changes if line.number in self.asked else {}
        request = changed(from_takes(line.request, lambda key: takes.get(key, key)), changes)
        key = self.keys[line.number]
        return attrs.evolve(line, request=request, key=key, take=split_key(key)[1])

    def bought(self, entries: Iterable[JournalEntry]) -> list[JournalEntry]:
        """Those of its takes that may have been charged."""
        keys = set(self.keys.values())
        return [entry for entry in entries if entry.key in keys and is_bought(entry)]

    def is_done(self, entries: Iterable[JournalEntry]) -> bool:
        """Whether each take has ended and is saved, or nothing of it was bought."""
        bought = self.bought(entries)
        return not bought or (len(bought) == len(self.keys) and not any(map(is_pending, bought)))

    def command(self, folder: Path) -> str:
        """The words that resume it."""
        words = ["seedance", "reroll", str(folder), *_ranges(self.asked)]
        for name, value in self.changes.items():
            words += option_words(name, value)
        return shlex.join(words)


def is_bought(entry: JournalEntry) -> bool:
    """Whether a take may have been charged."""
    return state_of(entry) is not JobState.REJECTED


def is_pending(entry: JournalEntry) -> bool:
    """Whether a take may have been charged, and something is left to be waited for or saved."""
    state = state_of(entry)
    is_unsaved = state is JobState.SUCCEEDED and entry.path is None
    return is_bought(entry) and (is_unsaved or not state.has_ended)


@attrs.frozen
class Rerolls:
    """The rerolls of a folder: those that are not done, and how the next one is numbered.

    Attributes:
        folder: the folder.
        lines: all lines of the folder, by number.
        entries: the journal's.
        begun: the rerolls that are not done, with the numbers that their lines have now.
    """

    folder: Path
    lines: Mapping[int, Line]
    entries: Sequence[JournalEntry]
    begun: Sequence[Reroll]

    @classmethod
    def read(
        cls, folder: Path, lines: Mapping[int, Line], entries: Sequence[JournalEntry]
    ) -> Rerolls:
        """From the folder's files. Raises UsageError if one cannot be read."""
        numbers = _numbers_by_key(lines)
        begun = [_read(path).renumbered(numbers) for path in _paths(folder)]
        return cls(folder, lines, entries, [each for each in begun if each.asked])

    def plan(self, chosen: Sequence[Line], changes: Mapping[str, Any]) -> Reroll:
        """The reroll that these words mean: one that was begun, or the next take of each line.

        Raises:
            UsageError: another reroll of one of the lines is not done.
        """
        asked, chosen = _numbers(chosen), with_dependants(chosen, self.lines)
        taken = self._taken()
        keys = {each.number: take_key(each.key or "", 1 + taken[each.key]) for each in chosen}
        found = Reroll(asked, changes, keys)
        for each in self.begun:
            if each.file_name == found.file_name:
                return each
        self._check_free(chosen)
        return found

    def numbered(self, chosen: Sequence[Line], changes: Mapping[str, Any], take: int) -> Reroll:
        """The reroll that buys this take of each line, unless it was bought before.

        Raises:
            UsageError: it was bought with another request, or a line has its key.
        """
        asked, chosen = _numbers(chosen), with_dependants(chosen, self.lines)
        keys = {line.number: take_key(line.key or "", take) for line in chosen}
        found = Reroll(asked, changes, keys)
        by_key = {entry.key: entry for entry in self.entries}
        own = {line.key for line in self.lines.values()}
        for line in found.lines(chosen):
            entry = by_key.get(line.key or "")
            if line.key in own:
                raise click.UsageError(f"{_named(line)} has the key of another line")
            if entry is not None and is_bought(entry) and not _is_alike(entry, line):
                raise click.UsageError(
                    f"{_named(line)} was bought with another prompt, other options or from "
                    "another take; nothing was sent"
                )
        return found

    def begin(self, reroll: Reroll) -> None:
        """Have on disk that a reroll is begun. Raises OSError."""
        keys = {str(number): key for number, key in reroll.keys.items()}
        row = {"asked": reroll.asked, "changes": reroll.changes, "keys": keys}
        path = self.folder / REROLLS / reroll.file_name
        make_folder(path.parent)
        write_whole(path, f"{json.dumps(row)}\n".encode(), on_disk=True)

    def finish(self, reroll: Reroll) -> None:
        """Forget that a reroll was begun: it is done. Raises OSError.

        What it was to buy of lines that are no more stays on record: they may come back.
        """
        numbers = _numbers_by_key(self.lines)
        for path in _paths(self.folder):
            begun = _read(path)
            here = begun.renumbered(numbers)
            if here.asked and here.file_name == reroll.file_name:
                rest = begun.without(set(here.keys.values()))
                if rest.asked:
                    self.begin(rest)
                path.unlink(missing_ok=True)

    def _taken(self) -> defaultdict[str | None, int]:
        """The number of the last take of each line, by its key."""
        taken = {entry.key for entry in self.entries if is_bought(entry)}
        taken |= {key for each in self.begun for key in each.keys.values()}
        taken |= {each.key for each in self.lines.values() if each.key is not None}
        found = defaultdict[str | None, int](lambda: 1)
        for key, take in map(split_key, taken):
            found[key] = max(found[key], take)
        return found

    def _check_free(self, chosen: Sequence[Line]) -> None:
        pending = {entry.key: entry for entry in self.entries if is_pending(entry)}
        for line in chosen:
            for each in self.begun:
                entry = pending.get(each.keys.get(line.number, ""))
                if entry is not None and split_key(entry.key)[0] == line.key:
                    raise click.UsageError(
                        f"take {split_key(entry.key)[1]} of line {line.number} is "
                        f"{state_text(entry.state)}, and its reroll is not done: "
                        f"{each.command(self.folder)} resumes that. "
                        f"--take {1 + self._taken()[line.key]} buys another one nevertheless."
                    )


def _paths(folder: Path) -> list[Path]:
    return sorted((folder / REROLLS).glob("*.json"))


def _numbers_by_key(lines: Mapping[int, Line]) -> dict[str | None, int]:
    return {line.key: number for number, line in lines.items()}


def _numbers(lines: Iterable[Line]) -> list[int]:
    return sorted(line.number for line in lines)


def _named(line: Line) -> str:
    return f"take {line.take} of line {line.number}"


def _is_alike(entry: JournalEntry, line: Line) -> bool:
    """Whether a take was bought with this request, and made from the same takes.

    Its other media are those of its line.
    """
    bought, asked = request_of(entry), line.request
    is_same = attrs.evolve(bought, media_urls=()) == attrs.evolve(asked, media_urls=())
    return is_same and sources(bought) == sources(asked)


def _read(path: Path) -> Reroll:
    try:
        row = json.loads(path.read_bytes())
        keys = {int(number): str(key) for number, key in row["keys"].items()}
        return Reroll([int(number) for number in row["asked"]], dict(row["changes"]), keys)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}; nothing was sent") from None


def _ranges(numbers: Sequence[int]) -> Iterator[str]:
    """Numbers as a user writes them: 3 7-9."""
    rest = list(numbers)
    while rest:
        last = first = rest.pop(0)
        while rest and rest[0] == last + 1:
            last = rest.pop(0)
        yield str(first) if first == last else f"{first}-{last}"
