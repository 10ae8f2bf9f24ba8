"""`lines.jsonl`: the lines of a batch in its folder, as the last run of it had them.

It is there before anything is sent, so that a line can be named by its number while its job runs,
and after the run was killed. The journal has what was bought; this file only says which line it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from seedance_async import load_request
from seedance_async._utils.whole_file import write_whole
from seedance_async.cli.chains import named_by
from seedance_async.cli.inputs import Line
from seedance_async.cli.options import DEFAULT_FOLDER
from seedance_async.cli.runs.results import line_of_request

LINES = "lines.jsonl"


folder_journal = click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The folder's journal, if the batch had --journal.  [default: run.db in the folder]",
)


def split_folder(words: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder that comes first, if it does, and the other words."""
    if words and not is_range(words[0]):
        return Path(words[0]), list(words[1:])
    return DEFAULT_FOLDER, list(words)


def write_lines(folder: Path, lines: Iterable[Line]) -> None:
    """Write the lines, without their further takes. Raises OSError if that fails."""
    rows = (_as_row(line) for line in lines if line.take == 1)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_whole(folder / LINES, text.encode("utf-8", "backslashreplace"), on_disk=True)


def read_folder_lines(folder: Path) -> dict[int, Line]:
    """The lines of a folder by number, each with its key and its first take's request.

    Raises:
        UsageError: the folder has no such file, or it cannot be read.
    """
    path = folder / LINES
    try:
        rows = [json.loads(row) for row in path.read_bytes().splitlines()]
        lines = [_as_line(row) for row in rows]
    except FileNotFoundError:
        raise click.UsageError(
            f"{folder} has no {LINES}: run its batch again first, which writes it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from None
    return {line.number: line for line in lines}


def is_range(word: str) -> bool:
    """Whether a word is a line number, or a range of them such as 7-9."""
    first, dash, last = word.partition("-")
    return all(part.isascii() and part.isdecimal() for part in ([first, last] if dash else [first]))


def chosen_lines(lines: Mapping[int, Line], words: Iterable[str]) -> list[Line]:
    """The lines of a folder that words such as 3 and 7-9 name.

    Raises:
        UsageError: a word is no number or range, or no line has one.
    """
    found: set[int] = set()
    for word in words:
        if not is_range(word):
            raise click.UsageError(f"{word!r} is no line: give numbers and ranges, such as 3 7-9")
        first, _, last = word.partition("-")
        if last and int(last) < int(first):
            raise click.UsageError(f"the range {word} is backwards")
        within = {number for number in lines if int(first) <= number <= int(last or first)}
        if not within:
            raise click.UsageError(f"the batch of this folder has no line {word}")
        found |= within
    return [line for number, line in lines.items() if number in found]


def with_dependants(chosen: Iterable[Line], lines: Mapping[int, Line]) -> list[Line]:
    """Lines of a folder, and all that are made from them, in an order in which they can be made."""
    found = {line.number for line in chosen}
    keys = {lines[number].key for number in found}
    for number, line in lines.items():  # each comes after those that it is made from
        if named_by([line]) & keys:
            found.add(number)
            keys.add(line.key)
    return [line for number, line in lines.items() if number in found]


def _as_row(line: Line) -> dict[str, Any]:
    return {
        "line": line.number,
        "key": line.key,
        "request": line_of_request(line.request),
        "columns": dict(line.columns),
        **({} if line.fit is None else {"fit": line.fit}),
    }


def _as_line(row: Mapping[str, Any]) -> Line:
    request = load_request(row["request"])
    return Line(
        int(row["line"]),
        request,
        str(row["key"]),
        columns=row.get("columns") or {},
        fit=row.get("fit"),
    )
