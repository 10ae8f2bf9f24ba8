"""What certainly are no prompts, a line each: data, markup, tables and programs.

These are guesses, and the price of a wrong one is a sentence to read, while a table that is taken
for prompts is bought row by row.
"""

from __future__ import annotations

import csv
import io
import re

from seedance_async.cli.reading.json_records import numbered

#: What files with these extensions have, so that no line of theirs is a prompt.
_OTHERS = frozenset(
    {
        *(".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".xml", ".html", ".htm", ".svg"),
        *(".xls", ".xlsx", ".ods", ".numbers", ".doc", ".docx", ".odt", ".rtf", ".tex", ".pdf"),
        *(".db", ".sqlite", ".parquet", ".sql", ".log", ".zip", ".gz", ".srt", ".vtt", ".ipynb"),
        *(".py", ".js", ".ts", ".sh", ".ps1", ".bat"),
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".mov", ".mp3", ".wav"),
    }
)
_ANYWAY = "If each line is a prompt nevertheless: --format plain"
_JSON = re.compile(r"""[\[{]\s*(?:$|["'{\[\]}])|[\]}]\s*,?$|"[^"]*"\s*:|"[^"]*"\s*,?$""")
_PAIR = re.compile(r"""[-*\s]*["']?prompts?["']?\s*[:=]""", re.IGNORECASE)
_MARKUP = re.compile(r"```|\||<[?!/a-zA-Z][^>]*>?|---$|\[[\w.]+\]$|\{\\rtf|#!")
_NAME = re.compile(r"[^\s,;.!?][^,;!?]{0,30}")


def no_prompts(text: str, suffix: str = "") -> tuple[int, str] | None:
    """The number of a line that tells that the lines are no prompts, and why; None if none does."""
    if suffix in _OTHERS:
        return 1, f"is no list of prompts: {suffix} files are not read. {_ANYWAY}"
    lines = list(numbered(text))
    for number, line in lines:
        if (what := _no_prompt(line)) is not None:
            return number, f"looks like {what}, not like a prompt. {_ANYWAY}"
    if lines and _is_table(text, lines[0][1]):
        return lines[0][0], (
            "looks like the first row of a table without a prompt. For a table: --format csv, and "
            f'--map "NAME=prompt" says which column is the prompt. {_ANYWAY}'
        )
    return None


def _no_prompt(line: str) -> str | None:
    if _JSON.match(line):
        return "JSON, but cannot be read as such"
    if _PAIR.match(line):
        return "a name and its value"
    if _MARKUP.match(line):
        return "markup"
    return "a row of a table" if "\t" in line else None


def _is_table(text: str, first: str) -> bool:
    """Whether the text has rows of cells: all without a space after what separates them, as there
    is in a sentence; or numbered; or under a first one that has only names.
    """
    for delimiter in ",;":
        rows = _rows(text, delimiter)
        counts = {len(row) for row in rows}
        if rows and min(counts) > 1 and not any(cell[:1].isspace() for row in rows for cell in row):
            return True
        if len(rows) > 1 and all(len(row) > 1 and _is_number(row[0]) for row in rows[1:]):
            return True
        names = first.split(delimiter)
        is_header = len(names) > 1 and all(_NAME.fullmatch(name.strip('"')) for name in names)
        if is_header and min(counts, default=0) >= len(names):
            return True
    return False


def _is_number(cell: str) -> bool:
    return cell.strip().isdecimal()


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The rows that are not blank, if the text can be read as a table."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    return [row for row in rows if any(cell.strip() for cell in row)]
