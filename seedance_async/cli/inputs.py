"""Input files: lines of JSON, CSV or plain text become requests, or problems by line number.

A bad line is neither printed nor raised, but returned as a problem beside the good lines. Whether
a request keeps the API's rules is the request's own check.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path, PurePath
from typing import Any

import attrs

from seedance_async import GenerationRequest, InvalidRequestError, Violation, load_request
from seedance_async.api.local_media import is_local
from seedance_async.cli.text import shorten


class InputFormat(StrEnum):
    """How requests are written in a file."""

    JSONL = "jsonl"
    CSV = "csv"
    PLAIN = "plain"

    @classmethod
    def of_name(cls, name: str) -> InputFormat:
        """By the extension; standard input and all else is plain text."""
        suffix = PurePath(name).suffix.lower()
        return {".jsonl": cls.JSONL, ".ndjson": cls.JSONL, ".csv": cls.CSV}.get(suffix, cls.PLAIN)


#: A line's number and the number of the take: what tells the jobs of one run apart.
Place = tuple[int, int]


@attrs.frozen
class Line:
    """One request, and the line of the file where it begins, counted from 1.

    Attributes:
        take: which take of the line this is, counted from 1; each is a job of its own.
    """

    number: int
    request: GenerationRequest
    key: str | None = None
    take: int = attrs.field(default=1, kw_only=True)

    @property
    def place(self) -> Place:
        """The number of the line, and of the take."""
        return self.number, self.take

    @property
    def item(self) -> GenerationRequest | tuple[str, GenerationRequest]:
        """The request as a stream takes it, with its key if the line gives one."""
        return self.request if self.key is None else (self.key, self.request)


@attrs.frozen
class Problem:
    """What is wrong with one line: every rule that it breaks."""

    number: int
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        rules = (f"{v.field}: {_shown(v.value)} {v.rule}" for v in self.violations)
        return f"line {self.number}: " + "; ".join(rules)


#: A line number with the fields of the line, or with the reason why it has none.
Entry = tuple[int, Mapping[str, Any] | Violation]

#: Names of fields in Python, and what the API calls them.
_WIRE_NAMES = {
    "media_urls": "mediaUrls",
    "aspect_ratio": "aspectRatio",
    "webhook_url": "webhookUrl",
}
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)


def read_lines(
    data: bytes,
    form: InputFormat,
    *,
    defaults: Mapping[str, Any] | None = None,
    allow_local: bool = False,
    folder: Path | None = None,
    uploads: bool = False,
) -> tuple[list[Line], list[Problem]]:
    """All lines of a file as requests that can be sent, and the problems of the others.

    Args:
        data: the file's bytes, which must be UTF-8.
        form: its format.
        defaults: fields for the lines that do not give them.
        allow_local, uploads: as in `GenerationRequest.violations`.
        folder: where paths of media begin, if they are not absolute.
    """
    text, problem = _decoded(data)
    if problem is not None:
        return [], [problem]
    lines: list[Line] = []
    problems: list[Problem] = []
    keys: set[str] = set()
    for number, given in _READERS[form](text):
        key, fields = _without_key(given, keys)
        found = _checked(fields, defaults or {})
        if isinstance(found, GenerationRequest):
            found = _in_folder(found, folder)
            found = tuple(found.violations(allow_local=allow_local, uploads=uploads)) or found
        if isinstance(found, GenerationRequest):
            lines.append(Line(number, found, key))
        else:
            problems.append(Problem(number, found))
    return lines, problems


def _without_key(
    fields: Mapping[str, Any] | Violation, known: set[str]
) -> tuple[str | None, Mapping[str, Any] | Violation]:
    """The key of a line, if it gives one, and its other fields. Keys are unique in a file."""
    if isinstance(fields, Violation) or "key" not in fields:
        return None, fields
    key, others = fields["key"], {name: fields[name] for name in fields if name != "key"}
    if not isinstance(key, str) or not key.strip():
        return None, Violation("key", key, "must be text that is not blank")
    if key in known:
        return None, Violation("key", key, "must not be that of another line")
    known.add(key)
    return key, others


def _decoded(data: bytes) -> tuple[str, Problem | None]:
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        bad = data[error.start : error.start + 1]
        return "", Problem(number, (Violation("text", bad, "must be UTF-8"),))


def _checked(
    fields: Mapping[str, Any] | Violation, defaults: Mapping[str, Any]
) -> GenerationRequest | tuple[Violation, ...]:
    if isinstance(fields, Violation):
        return (fields,)
    absent = {
        name: value
        for name, value in defaults.items()
        if name not in fields and _WIRE_NAMES.get(name) not in fields
    }
    try:
        return load_request({**fields, **absent})
    except InvalidRequestError as error:
        return error.violations


def _in_folder(request: GenerationRequest, folder: Path | None) -> GenerationRequest:
    """The request with paths of media as they are seen from here."""
    media = request.media_urls
    if folder is None or not isinstance(media, tuple) or not any(map(is_local, media)):
        return request
    return attrs.evolve(request, media_urls=[_from(folder, each) for each in media])


def _from(folder: Path, medium: Any) -> Any:
    is_path = isinstance(medium, str) and is_local(medium)
    return folder / str(medium) if is_path else medium


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank. Only a line feed ends a line: prompts may have other breaks."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def _plain_lines(text: str) -> Iterator[Entry]:
    for number, line in _numbered(text):
        if not line.startswith("#"):
            yield number, {"prompt": line}


def _json_lines(text: str) -> Iterator[Entry]:
    for number, line in _numbered(text):
        yield number, _json_object("line", line)


def _json_object(field: str, text: str) -> Mapping[str, Any] | Violation:
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        return Violation(field, text, "is nested too deeply")
    except ValueError as error:
        return Violation(field, text, f"must be a JSON object ({error})")
    return value if isinstance(value, dict) else Violation(field, text, "must be a JSON object")


def _without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique: of two prompts, one would be silently dropped."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


def _csv_lines(text: str) -> Iterator[Entry]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    begins_at = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield begins_at, Violation("row", "", f"must be readable CSV ({error})")
            return
        if row is None:
            return
        if any(cell.strip() for cell in row):
            if header is not None:
                yield begins_at, _csv_fields(header, row)
            else:
                header = [name.strip() for name in row]
                problem = _header_problem(header)
                if problem is not None:
                    yield begins_at, problem
                    return
        begins_at = reader.line_num + 1


def _header_problem(header: list[str]) -> Violation | None:
    """A bad header is one problem, not one for each row."""
    try:
        load_request({"prompt": "", **dict.fromkeys(name for name in header if name != "key")})
    except InvalidRequestError as error:
        return error.violations[0]
    if len(set(header)) < len(header):
        return Violation("header", header, "must name each field once")
    return None if "prompt" in header else Violation("header", header, "must name the prompt")


def _csv_fields(header: list[str], row: list[str]) -> Mapping[str, Any] | Violation:
    if len(row) > len(header):
        return Violation("row", row, f"has {len(row)} cells, the header {len(header)}")
    fields: dict[str, Any] = {}
    for name, cell in zip(header, row, strict=False):
        if cell.strip():
            value = _csv_value(name, cell.strip())
            if isinstance(value, Violation):
                return value
            fields[name] = value
    return fields


def _csv_value(name: str, cell: str) -> Any:
    """The value of a cell; what does not fit stays text, so that the rules can name it."""
    match name:
        case "duration" if _WHOLE.fullmatch(cell):
            return int(cell)
        case "media_urls" | "mediaUrls":
            return _media_of(cell)
        case "metadata":
            return _json_object("metadata", cell)
    return cell


def _media_of(cell: str) -> list[str]:
    """URLs and paths, with bars between them; between URLs alone, spaces will do."""
    pieces = [piece.strip() for piece in cell.split("|")]
    if not any(map(is_local, pieces)):
        pieces = cell.replace("|", " ").split()
    return [piece for piece in pieces if piece]


_READERS = {
    InputFormat.JSONL: _json_lines,
    InputFormat.CSV: _csv_lines,
    InputFormat.PLAIN: _plain_lines,
}


def _shown(value: object) -> str:
    return shorten(ascii(value) if isinstance(value, bytes) else repr(value), 80)
