"""The jobs of a folder: what its journal has of each line and take. It is only read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
import click

from seedance_async.cli.inputs import Place
from seedance_async.cli.options import journal_path
from seedance_async.cli.takes.folder_lines import LINES, chosen_lines, is_range, read_folder_lines
from seedance_async.cli.takes.keys import split_key
from seedance_async.journal import JournalEntry, read_entries

#: Characters from which a word may be any server's request id.
_LONG = 16


@attrs.frozen
class FolderJob:
    """One job of a folder.

    Attributes:
        entry: what the journal has of it.
        place: its line and take; None if no line of the last run is it.
    """

    entry: JournalEntry
    place: Place | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        if self.place is None:
            return f"job {self.entry.key}"
        line, take = self.place
        return f"line {line}" if take == 1 else f"line {line} take {take}"


def jobs_of_folder(
    folder: Path, words: Sequence[str], journal: Path | None = None
) -> list[FolderJob]:
    """The jobs of a folder in the order of its lines; those of no line come last.

    Args:
        folder: the folder of a batch, or its journal file.
        words: the lines to choose, such as 3 and 7-9; none for all jobs.
        journal: the journal, if it is not in the folder.

    Raises:
        UsageError: words were given, and the folder has no such line.
        JournalError: the journal cannot be read.
    """
    entries = read_entries(journal or journal_path(folder))
    if folder.is_file():
        folder = folder.parent
    lines = read_folder_lines(folder) if words or (folder / LINES).exists() else {}
    numbers = {line.key: line.number for line in lines.values()}
    jobs = [FolderJob(entry, _place(entry, numbers)) for entry in entries]
    if words:
        chosen = {line.number for line in chosen_lines(lines, words)}
        jobs = [job for job in jobs if job.place is not None and job.place[0] in chosen]
    return sorted(jobs, key=lambda job: (job.place is None, job.place or (0, 0)))


def is_place(word: str) -> bool:
    """Whether a word is a journal, or a folder with one, and so no request id."""
    return journal_path(Path(word)).is_file()


def check_are_ids(words: Sequence[str]) -> None:
    """Raise UsageError if words are the lines of a folder that is not there, and no request ids.

    The server decides what an id looks like: a first word that is long, or a number itself, may be
    one.
    """
    first, *rest = words
    may_be_id = first.startswith("req_") or len(first) >= _LONG or is_range(first)
    if not may_be_id and any(map(is_range, rest)):
        missing = "has no journal" if Path(first).is_dir() else "is no folder"
        raise click.UsageError(f"{first} {missing}, so it has no line {' '.join(rest)}")


def check_is_place(words: Sequence[str], option: str) -> None:
    """Raise UsageError unless the first word is a folder, as an option needs it."""
    if not Path(words[0]).exists():
        raise click.UsageError(f"{option} needs the folder of a batch, and {words[0]} is none")


def _place(entry: JournalEntry, numbers: dict[str | None, int]) -> Place | None:
    if entry.key in numbers:
        return numbers[entry.key], 1
    line_key, take = split_key(entry.key)
    return (numbers[line_key], take) if line_key in numbers else None
