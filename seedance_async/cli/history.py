"""What the user has bought with the command line, kept in the user's own state folder.

`generate` and `status` write a journal there, which all commands that run at the same time share.
A batch has a journal of its own, in its folder, of which only the place is kept here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import platformdirs

from seedance_async import JournalError
from seedance_async.cli.console import Screen
from seedance_async.journal import JournalEntry, SQLiteJournal, read_charges, read_entries

#: The journal of single jobs; and where the journals of batches are, a JSON string a line.
_JOURNAL, _BATCHES = "bought.db", "batches.jsonl"


def state_folder() -> Path:
    """Where it is kept: SEEDANCE_STATE_DIR, or what the system provides for that."""
    named = os.environ.get("SEEDANCE_STATE_DIR")
    return Path(named) if named else platformdirs.user_state_path("seedance", appauthor=False)


def own_journal(screen: Screen) -> SQLiteJournal | None:
    """The journal of single jobs; None, with a message, if there is no place for it."""
    folder = state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        screen.say(
            f"{folder} cannot be written ({error.strerror}): this job will be in no history. "
            "SEEDANCE_STATE_DIR names another folder.",
            style="yellow",
        )
        return None
    return SQLiteJournal(folder / _JOURNAL, shared=True)


def remember_batch(journal: Path, screen: Screen) -> None:
    """Keep the place of a batch's journal."""
    place = str(journal.resolve())
    if place in _batches():
        return
    try:
        state_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        with (state_folder() / _BATCHES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(place) + "\n")
    except OSError as error:
        screen.say(f"`seedance history` will not show {journal}: {error}", style="yellow")


def bought(screen: Screen) -> Iterator[tuple[Path, JournalEntry]]:
    """Every job of the user's journals, with its journal; one that cannot be read is named."""
    for place in journals():
        try:
            for entry in read_entries(place):
                yield place, entry
        except JournalError as error:
            screen.say(f"{error}", style="yellow")


def charged(origin: str) -> Iterator[dict[str, int]]:
    """What an API charged, by the user's journals, as `read_charges` gives it."""
    for place in journals():
        with suppress(JournalError):  # of a folder that is gone: `bought` tells
            yield read_charges(place, origin)


def journals(*, own: bool = True) -> list[Path]:
    """Where the user's journals are: that of single jobs, if `own`, and those of all batches."""
    single = state_folder() / _JOURNAL
    return [*([single] if own and single.exists() else []), *map(Path, _batches())]


def _batches() -> list[str]:
    places: dict[str, None] = {}
    try:
        lines = (state_folder() / _BATCHES).read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        with suppress(ValueError):  # a damaged line hides no other
            places[str(json.loads(line))] = None
    return list(places)
