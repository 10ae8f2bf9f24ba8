"""Tables for people: as wide as they need to be, or as the terminal is. Nothing is written here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence

from rich.cells import cell_len, set_cell_size

_GAP = 2

#: How narrow a column may get, if its table is too wide for the terminal; in this order.
_NARROW = {"prompt": 16, "key": 13}

#: What is left out if that is not enough; it is in the JSON.
_LEFT_OUT = ("file", "key")


def table(rows: Sequence[Mapping[str, str]], width: int | None) -> list[str]:
    """The rows under their names, in columns.

    Args:
        rows: each with the same names.
        width: of the terminal, in cells; None if no line is too long.
    """
    if not rows:
        return []
    names = list(rows[0])
    widths = {name: max(cell_len(row[name]) for row in [_heading(names), *rows]) for name in names}
    if width is not None:
        widths = _fitted(widths, width)
    lines = (_line(row, widths) for row in [_heading(names), *rows])
    return [line if width is None else _cut(line, width) for line in lines]


def terminal_width() -> int | None:
    """How many cells a line of stdout has; None if it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _heading(names: Sequence[str]) -> dict[str, str]:
    return {name: name.replace("_", " ") for name in names}


def _fitted(widths: Mapping[str, int], width: int) -> dict[str, int]:
    """The widths of the columns that fit: long ones are cut, and some are left out."""
    found = dict(widths)
    for left_out in (None, *_LEFT_OUT):
        if left_out is not None:
            found.pop(left_out, None)
        fitted = dict(found)
        for name, least in _NARROW.items():
            over = sum(fitted.values()) + _GAP * (len(fitted) - 1) - width
            if over <= 0:
                return fitted
            if name in fitted:
                fitted[name] = max(min(least, fitted[name]), fitted[name] - over)
        if sum(fitted.values()) + _GAP * (len(fitted) - 1) <= width:
            return fitted
    return fitted


def _line(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    cells = (
        set_cell_size(shortened(row[name], size, keep_end=name == "key"), size)
        for name, size in widths.items()
    )
    return (" " * _GAP).join(cells).rstrip()


def shortened(text: str, size: int, *, keep_end: bool = False) -> str:
    """Text in no more cells than this; of a key the end stays, too: it may tell the take."""
    if cell_len(text) <= size:
        return text
    end = text[-(size // 3) :] if keep_end else ""
    start = set_cell_size(text, max(0, size - 1 - cell_len(end))).rstrip()
    return f"{start}…{end}"


def _cut(line: str, width: int) -> str:
    return line if cell_len(line) <= width else shortened(line, width)
