"""The files that a batch writes beside its videos, and those that an earlier run wrote there.

An outcome is written as it happens. The files of an earlier run record the money that it spent,
so they are never overwritten or deleted: a run refuses to start, or moves them aside.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import attrs

from seedance_async import GenerationRequest, JobMedium, dump_request
from seedance_async._utils.whole_file import write_whole
from seedance_async.api.local_media import LocalMedium, is_local
from seedance_async.cli.console import Screen
from seedance_async.cli.runs.next_steps import JOURNAL
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.journal import move_journal

RESULTS = "results.jsonl"
REMAINING = "remaining.jsonl"


class ResultsFile:
    """`results.jsonl` of a run.

    Args:
        folder: where it goes; must exist.
        screen: redacts the key, and shows the outcomes that the file cannot take.
        mode: "x" for a new file, "a" to add to one.

    Raises:
        OSError: it exists (FileExistsError), or cannot be written.
    """

    def __init__(self, folder: Path, screen: Screen, mode: Literal["x", "a"] = "x") -> None:
        self.path = folder / RESULTS
        self._screen = screen
        # What UTF-8 cannot hold, a lone surrogate, becomes the JSON escape of it.
        self._file = self.path.open(mode, encoding="utf-8", errors="backslashreplace")
        self.broken: OSError | None = None

    def write(self, outcome: Outcome) -> None:
        """Write one outcome at once; to stderr if the file cannot take it."""
        text = self._screen.without_key(json.dumps(outcome.as_record(), ensure_ascii=False))
        if self.broken is None:
            try:
                self._file.write(text + "\n")
                self._file.flush()
                return
            except OSError as error:
                self.broken = error
                self._screen.say(f"{self.path} cannot be written ({error}); outcomes follow here")
        self._screen.say(text, whole=True)

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError as error:
            self.broken = self.broken or error


def earlier_record(folder: Path, journal: Path | None) -> Path | None:
    """A file of an earlier run that this one cannot resume, but would pay for again; else None.

    A run with a journal can be resumed, a run without one cannot.
    """
    if journal is not None and journal.exists():
        return None
    places = [folder / RESULTS] + ([folder / JOURNAL] if journal is None else [])
    return next((path for path in places if path.exists()), None)


def drop_outcomes(folder: Path, keys: Container[str | None]) -> None:
    """Take what the results say of jobs out of them: their outcomes are about to be written anew.

    A line that was cut short, by a process that was killed, goes as well.
    """
    path = folder / RESULTS
    if not path.exists():
        return
    before = path.read_bytes().splitlines(keepends=True)
    kept = [row for row in before if row.endswith(b"\n") and _key_in(row) not in keys]
    if kept != before:
        write_whole(path, b"".join(kept), on_disk=True)


def _key_in(row: bytes) -> str | None:
    try:
        return str(json.loads(row)["key"])
    except (ValueError, KeyError, TypeError):
        return None


def move_results(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Rename an earlier run's results; yields the old and the new path of each."""
    for path in (folder / RESULTS, folder / REMAINING):
        if path.exists():
            free = _free_name(path)
            path.rename(free)
            yield path, free


def move_record(path: Path) -> Iterator[tuple[Path, Path]]:
    """Rename an earlier run's journal; yields its old and its new path.

    Raises:
        JournalError: a run is writing it.
    """
    if path.exists():
        free = _free_name(path)
        move_journal(path, free)
        yield path, free


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return free


def write_remaining(folder: Path, outcomes: Iterable[Outcome]) -> Path | None:
    """Write the requests that certainly cost nothing to a file, an input for the next run."""
    found = [(o.request, o.columns) for o in outcomes if o.can_be_resubmitted and o.request]
    if not found:
        return None
    path = folder / REMAINING
    lines = (
        json.dumps({**columns, **line_of_request(each)}, ensure_ascii=False)
        for each, columns in found
    )
    text = "".join(f"{line}\n" for line in lines)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON writes it, too
    return path


def line_of_request(request: GenerationRequest) -> dict[str, Any]:
    """A request as a line of an input file, which finds its files from any folder."""
    line = dump_request(attrs.evolve(request, media_urls=()))
    media = [_from_anywhere(each) for each in request.media_urls]
    return {**line, "mediaUrls": media} if media else line


def _from_anywhere(medium: Any) -> Any:
    """A medium as an input file has it; of a picture that was fitted, what it was made from."""
    if isinstance(medium, JobMedium):
        return medium.as_data()
    path = medium.path if isinstance(medium, LocalMedium) else medium
    return str(medium if not is_local(medium) else Path(str(path)).absolute())
