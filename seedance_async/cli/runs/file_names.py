"""`--name`: the file names of a batch's videos, by a template, checked before anything is sent.

A name is always safe: one component, of characters that every file system takes, and of a length
that leaves room for what is put beside it. No two lines have the same, on any file system.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

import attrs
import click

from seedance_async import Job
from seedance_async.api.local_media import is_local
from seedance_async.cli.inputs import Line, Place
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.jobs.downloads.part_file import is_reserved_name, safe_file_stem
from seedance_async.journal import JournalEntry

SUFFIX = ".mp4"

#: Bytes of a name without its suffix. File systems take 255, and other files are named after it.
_LONGEST = 120

_SLUG = 40

#: The widest that a field can be made. No file system takes a longer name.
_WIDEST = 255

#: Digits of a number in a format.
_DIGITS = 20

_NUMBER = re.compile(r"\d+")  # of any script, as `format` takes them

_REQUEST = ("prompt", "model", "duration", "resolution", "aspect_ratio", "mode")

#: What tells jobs apart whatever else is in the template; known once a job was submitted.
_OWN = ("id", "key")

_BAD = re.compile(r'[<>:"/\\|?*]')


@attrs.frozen
class NameTemplate:
    """A template such as `{line:03}-{slug}`, read and found to be one.

    Attributes:
        text: the template.
        fields: what it names.
    """

    text: str
    _parts: tuple[tuple[str, str | None, str], ...]

    @classmethod
    def parse(cls, text: str) -> NameTemplate:
        """Read a template. Raises UsageError if it is none."""
        text = text.removesuffix(SUFFIX)
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise click.UsageError(f"--name {text!r}: {error}") from None
        parts: list[tuple[str, str | None, str]] = []
        for literal, field, spec, conversion in parsed:
            if _BAD.search(literal) or not literal.isprintable():
                raise click.UsageError(
                    f"--name {text!r}: {literal!r} cannot be in a file name; a video has no folder "
                    "of its own"
                )
            if field == "" or conversion or "{" in (spec or ""):
                raise click.UsageError(
                    f"--name {text!r}: each field has a name, and after a colon its format: "
                    "{line:03}"
                )
            if any(map(_is_too_wide, _NUMBER.findall(spec or ""))):
                raise click.UsageError(
                    f"--name {text!r}: a width or a precision is at most {_WIDEST}"
                )
            parts.append((literal, field, spec or ""))
        return cls(text, tuple(parts))

    @property
    def fields(self) -> list[str]:
        """What it names."""
        return [field for _, field, _ in self._parts if field is not None]

    def name(self, values: Mapping[str, Any]) -> str:
        """The file name for the values of a line. Raises ValueError if one does not fit."""
        return safe_stem("".join(self._pieces(values))) + SUFFIX

    def _pieces(self, values: Mapping[str, Any]) -> Iterator[str]:
        for literal, field, spec in self._parts:
            yield literal
            if field is not None:
                yield _cleaned(_formatted(field, values.get(field, ""), spec))


@attrs.frozen
class FileNames:
    """The file names of a run's videos."""

    template: NameTemplate

    def __call__(self, line: Line, job: Job) -> str:
        """The name for the video of a line's job; one that was saved before keeps its name."""
        if job.saved is not None:
            return PurePath(job.saved.place).name
        own = {"id": safe_file_stem(job.request_id or ""), "key": line.key or job.key}
        return self.template.name(_values(line) | own)

    def with_id(self, line: Line, sign: str) -> str:
        """The name for a line's video with a sign in the place of the id, which is not known yet.

        Raises:
            UsageError: the id cannot be put there later.
        """
        try:
            name = self.template.name(_values(line) | {"id": sign, "key": line.key or ""})
        except ValueError as error:
            raise click.UsageError(f"--name: {_called(line)}: {error}") from None
        if ("id" in self.template.fields) != (sign in name):
            raise click.UsageError(
                "--name: with --queue, {id} has no format, and names are shorter"
            )
        return name

    def check(
        self,
        lines: Sequence[Line],
        sent: Mapping[Place, JournalEntry],
        entries: Iterable[JournalEntry],
        is_taken: Callable[[str], bool],
    ) -> None:
        """Refuse names that would mix up videos.

        Args:
            lines: the run's.
            sent: by place, what earlier runs sent.
            entries: the journal's.
            is_taken: whether something has a name where the videos go.

        Raises:
            UsageError: a field is unknown, a name cannot be made, or is that of another video.
        """
        _check_fields(self.template, lines)
        if not set(_OWN).isdisjoint(self.template.fields):
            list(map(self._name_before, lines))
            return
        owners = {PurePath(entry.path).name: entry.key for entry in entries if entry.path}
        named: dict[str, Line] = {}
        for line in lines:
            entry = sent.get(line.place)
            saved = entry is not None and entry.path
            name = PurePath(saved).name if saved else self._name_before(line)
            other = named.setdefault(name.casefold(), line)
            if other is not line:
                raise click.UsageError(
                    f"--name: {_called(other)} and {_called(line)} would both be {name!r}: add "
                    + ("{take}" if other.number == line.number else "{line}, {take} or {id}")
                )
            is_own = entry is not None and owners.get(name, entry.key) == entry.key
            if not is_own and is_taken(name):
                raise click.UsageError(
                    f"--name: {_called(line)} would be {name!r}, and there is another file of "
                    "that name: choose another template, or add {id}"
                )

    def _name_before(self, line: Line) -> str:
        """The name for a line that was not submitted; ids are still missing."""
        own = {"id": "id", "key": line.key or "key"}
        try:
            return self.template.name(_values(line) | own)
        except ValueError as error:
            raise click.UsageError(f"--name: {_called(line)}: {error}") from None


def chosen_names(
    template: NameTemplate | None,
    lines: Sequence[Line],
    known: KnownJobs,
    is_taken: Callable[[str], bool] = lambda name: False,
) -> FileNames | None:
    """The checked names of a run with `--name`; None without.

    Raises:
        UsageError: see `FileNames.check`.
    """
    if template is None:
        return None
    names = FileNames(template)
    names.check(lines, known.sent_before(lines), known.entries, is_taken)
    return names


name_option = click.option(
    "--name",
    metavar="TEMPLATE",
    callback=lambda _context, _option, given: None if given is None else NameTemplate.parse(given),
    help="File name of each video, such as '{line:03}-{slug}-{take}': the request's fields, columns"
    " of FILE, {slug} for the first words of the prompt, {media}, {key}, {id}.  [default: the line,"
    " the take and the id]",
)


def safe_stem(text: str) -> str:
    """A text as a file name without its suffix. Raises ValueError if nothing is left of it."""
    text = re.sub(r"-{2,}", "-", text).strip(" .-")
    if not text:
        raise ValueError("the name would be empty")
    if len(text.encode()) > _LONGEST:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        text = f"{text.encode()[: _LONGEST - 9].decode(errors='ignore').rstrip(' .-')}-{digest}"
    return f"_{text}" if is_reserved_name(text.partition(".")[0].rstrip()) else text


def slug(text: str) -> str:
    """The first words of a text in lower case, with dashes between them."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).casefold())
    found = ""
    for word in words:
        if found and len(found) + 1 + len(word) > _SLUG:
            break
        found = f"{found}-{word}" if found else word[:_SLUG]
    return found


def _values(line: Line) -> dict[str, Any]:
    """All that a template may name, but for what only a submitted job has."""
    request = line.request
    media = request.media_urls[0] if request.media_urls else None
    own = {
        "line": line.number,
        "take": line.take,
        "slug": slug(request.prompt),
        "media": _media_name(media),
    }
    known = {name: getattr(request, name) for name in _REQUEST}
    return {**line.columns, **(request.extra or {}), **known, **own}


def _media_name(media: object) -> str:
    if isinstance(media, str) and not is_local(media):
        media = urlsplit(media).path
    return PurePath(media).stem if isinstance(media, (str, PurePath)) else ""


def _check_fields(template: NameTemplate, lines: Sequence[Line]) -> None:
    known = dict.fromkeys([*(name for line in lines for name in _values(line)), *_OWN])
    for field in template.fields:
        if field not in known:
            close = difflib.get_close_matches(field, known, 1)
            hint = f"did you mean {{{close[0]}}}?" if close else f"there are {', '.join(known)}"
            raise click.UsageError(f"--name: nothing is called {{{field}}}: {hint}")


def _formatted(field: str, value: Any, spec: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and spec and re.fullmatch(r"-?[0-9]{1,18}", value):
        value = int(value)  # a cell of a table
    try:
        return format(value, spec)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"{{{field}:{spec}}} does not fit {value!r}") from None


def _cleaned(text: str) -> str:
    """A value as a part of a file name."""
    text = _BAD.sub("-", unicodedata.normalize("NFC", text))
    text = "".join("-" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    return " ".join(text.split())


def _is_too_wide(number: str) -> bool:
    """Whether a number in a format is more than is formatted. Very long ones are not even read."""
    return len(number) > _DIGITS or int(number) > _WIDEST


def _called(line: Line) -> str:
    return f"line {line.number}" + (f", take {line.take}" if line.take > 1 else "")
