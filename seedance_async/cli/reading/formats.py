"""Which format a file has, by its name and by what is in it, and its records.

A line is taken for a prompt only if it looks like one: each would be bought. What looks like
another format than it is read as is refused, and `--format plain` overrules that.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePath

from seedance_async import Violation
from seedance_async.cli.reading.encodings import decoded
from seedance_async.cli.reading.json_records import json_array, json_lines, numbered
from seedance_async.cli.reading.looks import no_prompts
from seedance_async.cli.reading.names import Names
from seedance_async.cli.reading.record import Record, UnreadableError
from seedance_async.cli.reading.tables import delimiter_of, first_row, table


class InputFormat(StrEnum):
    """How requests are written in a file."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    TSV = "tsv"
    PLAIN = "plain"


_BY_SUFFIX = {
    ".jsonl": InputFormat.JSONL,
    ".ndjson": InputFormat.JSONL,
    ".json": InputFormat.JSON,
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.TSV,
    ".tab": InputFormat.TSV,
}


def read_records(
    data: bytes, form: InputFormat | None, *, name: str, names: Names
) -> Iterator[Record]:
    """The records of a file. Raises UnreadableError where it cannot be read.

    Args:
        data: its bytes.
        form: its format; by default what its name and its content show.
        name: its name.
        names: what the names in it stand for.
    """
    text = decoded(data)
    match form or _recognised(text, PurePath(name).suffix.lower(), names):
        case InputFormat.JSONL:
            return json_lines(text)
        case InputFormat.JSON:
            return json_array(text)
        case InputFormat.CSV:
            return table(text, names)
        case InputFormat.TSV:
            return table(text, names, "\t")
        case InputFormat.PLAIN:
            return _plain_lines(text)


def _plain_lines(text: str) -> Iterator[Record]:
    for number, line in numbered(text):
        if not line.startswith("#"):
            yield Record(number, f"line {number}", {"prompt": line})


def _recognised(text: str, suffix: str, names: Names) -> InputFormat:
    """The format of a file that is not named by the user."""
    named = _BY_SUFFIX.get(suffix)
    first = next((line for _, line in numbered(text)), "")
    if named is InputFormat.JSON and _is_json_lines(text):
        return InputFormat.JSONL
    if named is InputFormat.JSONL and first.startswith("[") and _is_json_array(text):
        return InputFormat.JSON
    if named is not None:
        return named
    if first.startswith(("{", "[")):
        if _is_json_lines(text):
            return InputFormat.JSONL
        if _is_json_array(text):
            return InputFormat.JSON
    if names.has_prompt(first_row(text, delimiter_of(text, names))):
        return InputFormat.CSV
    if (doubt := no_prompts(text, suffix)) is not None:
        line, why = doubt
        raise UnreadableError(f"line {line}", Violation("file", first, why))
    return InputFormat.PLAIN


def _is_json_lines(text: str) -> bool:
    """Whether the first line is a whole object and others follow."""
    records = json_lines(text)
    first, second = next(records, None), next(records, None)
    return all(
        each is not None and not isinstance(each.given, Violation) for each in (first, second)
    )


def _is_json_array(text: str) -> bool:
    try:
        found = list(json_array(text))
    except UnreadableError:
        return False
    return all(isinstance(each.given, dict) for each in found) and bool(found)
