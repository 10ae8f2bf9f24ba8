"""Records in tables: CSV with commas, semicolons or tabs, under a header.

A record is numbered as people count: the first one under the header is 1, and in a spreadsheet it
is row 2. Blank rows count, as they do there.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import Any

from seedance_async import Violation
from seedance_async.cli.reading.names import Names
from seedance_async.cli.reading.record import Record, UnreadableError

DELIMITERS = ",;\t"

#: A first line by which spreadsheets tell each other how cells are separated.
_SEPARATOR = re.compile(r"\"?sep=(.)\"?[ ]*(?:\r\n|\r|\n)", re.IGNORECASE)


def table(text: str, names: Names, delimiter: str | None = None) -> Iterator[Record]:
    """The records of a table.

    Args:
        text: all of it.
        names: what the header's names stand for.
        delimiter: what separates cells; by default what the header shows.
    """
    if hint := _SEPARATOR.match(text):
        text, delimiter = text[hint.end() :], hint[1]
    rows = _rows(text, delimiter or delimiter_of(text, names))
    header: list[str] | None = None
    begin = 0
    for row, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            begin, header = row, _header(row, cells, names)
        else:
            number = row - begin
            yield Record(number, f"line {number} (row {row})", _given(header, cells, names))


def delimiter_of(text: str, names: Names) -> str:
    """What separates the cells of the header: where it then names the prompt, or most cells."""

    def score(delimiter: str) -> tuple[bool, int]:
        cells = first_row(text, delimiter)
        return names.has_prompt(cells), len(cells)

    return max(DELIMITERS, key=score)


def first_row(text: str, delimiter: str) -> list[str]:
    """The cells of the first row that is not blank; none if it cannot be read."""
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        found = next((row for row in rows if any(cell.strip() for cell in row)), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in found]


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    except (TypeError, ValueError):
        rule = "cannot separate cells"
        raise UnreadableError("row 1", Violation("sep", delimiter, rule)) from None
    row = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UnreadableError(f"row {row}", Violation("row", row, _rule(error))) from None
        if cells is None:
            return
        yield row, cells
        row += 1


def _rule(error: csv.Error) -> str:
    """What to see to in a row that cannot be read, given what the reader says of it."""
    if "field limit" in str(error):
        return f"has a cell of more than {csv.field_size_limit():,} characters: is a quote missing?"
    if "end of data" in str(error):
        return "has a quote that is opened and never closed"
    return f"must be readable CSV ({error})"


def _header(row: int, cells: Sequence[str], names: Names) -> list[str]:
    """The header's names. A bad header is one problem, not one for each row."""
    header = [cell.strip() for cell in cells]
    problem = names.header_problem(header)
    if problem is not None:
        raise UnreadableError(f"row {row}", problem)
    return header


def _given(header: Sequence[str], cells: Sequence[str], names: Names) -> dict[str, Any] | Violation:
    if any(cell.strip() for cell in cells[len(header) :]):
        rule = (
            f"has {len(cells)} cells, the header {len(header)}: a cell with a separator in it "
            "must be in quotes"
        )
        return Violation("row", list(cells), rule)
    given: dict[str, Any] = {}
    for name, cell in zip(header, [*cells, *[""] * len(header)], strict=False):
        value = names.cell(name, cell.strip())
        if isinstance(value, Violation):
            return value
        if value is not None:
            given[name] = value
    return given
