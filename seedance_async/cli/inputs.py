"""Input files: lines of JSON, CSV or plain text become requests, or problems by their place.

Reading the bytes is the work of `reading`. A bad line is neither printed nor raised, but returned
as a problem beside the good lines. Whether a request keeps the API's rules is its own check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs

from seedance_async import GenerationRequest, InvalidRequestError, Violation, load_request
from seedance_async.api.local_media import is_local
from seedance_async.api.models import ModelInfo
from seedance_async.cli.extra_option import with_defaults
from seedance_async.cli.reading.formats import InputFormat, read_records
from seedance_async.cli.reading.names import KEY, Names
from seedance_async.cli.reading.record import Record, UnreadableError
from seedance_async.cli.text import shorten

#: A line's number and the number of the take: what tells the jobs of one run apart.
Place = tuple[int, int]


@attrs.frozen
class Line:
    """One request of a file.

    Attributes:
        number: where it stands in the file, counted from 1: by lines, or in a table by the rows
            under the header.
        request: what it asks for.
        key: its own name, if it gives one.
        columns: what else the file says of it, by the names of the columns; not sent.
        take: which take of the line this is, counted from 1; each is a job of its own.
        fit: how its pictures from this machine are fitted to its aspect ratio.
        where: how a message about it says where it is.
    """

    number: int
    request: GenerationRequest
    key: str | None = None
    columns: Mapping[str, Any] = attrs.field(factory=dict, hash=False)
    take: int = attrs.field(default=1, kw_only=True)
    fit: Literal["crop", "pad"] | None = attrs.field(default=None, kw_only=True)
    where: str = attrs.field(default="", kw_only=True, eq=False)

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
    """What is wrong with one line, or with the file: every rule that it breaks."""

    where: str
    violations: tuple[Violation, ...]

    def __str__(self) -> str:
        rules = (f"{v.field}: {_shown(v.value)} {v.rule}" for v in self.violations)
        return f"{self.where}: " + "; ".join(rules)


def read_lines(
    data: bytes,
    form: InputFormat | None,
    *,
    name: str = "",
    names: Mapping[str, str] | None = None,
    defaults: Mapping[str, Any] | None = None,
    allow_local: bool = False,
    folder: Path | None = None,
    uploads: bool = False,
    strict: bool = True,
    models: Sequence[ModelInfo] = (),
    was_sent: Callable[[Line], bool] | None = None,
) -> tuple[list[Line], list[Problem]]:
    """All lines of a file as requests that can be sent, and the problems of the others.

    Args:
        data: the file's bytes.
        form: its format; by default what its name and its content show.
        name: the file's name.
        names: what names in the file stand for, if not what they say.
        defaults: fields for the lines that do not give them.
        allow_local, uploads, strict, models: as in `GenerationRequest.violations`.
        folder: where paths of media begin, if they are not absolute.
        was_sent: whether a line was submitted by an earlier run: its job may be running, whatever
            its model takes by now.
    """
    lines: list[Line] = []
    problems: list[Problem] = []
    keys: set[str] = set()
    known = Names(names)
    try:
        for record in read_records(data, form, name=name, names=known):
            found = _line(record, known, keys, defaults or {}, folder)
            if isinstance(found, Line):
                request = found.request
                broken = request.violations(
                    allow_local=allow_local, uploads=uploads, strict=strict, models=models
                )
                of_model = was_sent is not None and all(each.of_model for each in broken)
                if broken and not (of_model and was_sent and was_sent(found)):
                    found = tuple(broken)
            if isinstance(found, Line):
                lines.append(found)
            else:
                problems.append(Problem(record.where, found))
    except UnreadableError as error:
        problems.append(Problem(error.where, (error.violation,)))
    unused = known.unused()
    if unused is not None and not problems:
        problems.append(Problem("options", (unused,)))
    return lines, problems


def _line(
    record: Record,
    names: Names,
    keys: set[str],
    defaults: Mapping[str, Any],
    folder: Path | None,
) -> Line | tuple[Violation, ...]:
    """The line that a record gives, or the rules that it breaks."""
    if isinstance(record.given, Violation):
        return (record.given,)
    found = names.split(record.given)
    if not isinstance(found[0], dict) or not isinstance(found[1], dict):
        return found
    fields, columns = found
    key = _key_of(fields, keys)
    if isinstance(key, Violation):
        return (key,)
    try:
        request = load_request(with_defaults(fields, defaults))
    except InvalidRequestError as error:
        return error.violations
    return Line(record.number, _in_folder(request, folder), key, columns, where=record.where)


def _key_of(fields: dict[str, Any], known: set[str]) -> str | Violation | None:
    """Take the key out of a line's fields, if it gives one. Keys are unique in a file."""
    if KEY not in fields:
        return None
    key = fields.pop(KEY)
    if not isinstance(key, str) or not key.strip():
        return Violation(KEY, key, "must be text that is not blank")
    if key in known:
        return Violation(KEY, key, "must not be that of another line")
    known.add(key)
    return key


def _in_folder(request: GenerationRequest, folder: Path | None) -> GenerationRequest:
    """The request with paths of media as they are seen from here."""
    media = request.media_urls
    if folder is None or not isinstance(media, tuple) or not any(map(is_local, media)):
        return request
    return attrs.evolve(request, media_urls=[_from(folder, each) for each in media])


def _from(folder: Path, medium: Any) -> Any:
    is_path = isinstance(medium, str) and is_local(medium)
    return folder / str(medium) if is_path else medium


def _shown(value: object) -> str:
    return shorten(ascii(value) if isinstance(value, bytes) else repr(value), 80)
