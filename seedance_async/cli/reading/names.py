"""The names in an input file: which are fields of a request, and which are columns of the user's.

Case, spaces, hyphens and underscores do not count. A name that is nearly a field's is refused: as
a column it would silently not be sent, and the video would be another than was wanted.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from seedance_async import GenerationRequest, Violation
from seedance_async.api.local_media import is_local
from seedance_async.cli.extra_option import PREFIX, gathered, json_or_text
from seedance_async.cli.reading.json_records import json_object

#: What a line may say besides the fields of a request.
KEY = "key"
FIELDS = (*(field.name for field in attrs.fields(GenerationRequest)), KEY)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_NEAR = 0.82


def folded(name: str) -> str:
    """A name without what does not count in it."""
    return re.sub(r"[\s_-]", "", name).casefold()


_BY_FOLDED = {folded(name): name for name in FIELDS}


#: Names that people give to what is a field.
_MEANT = {
    **dict.fromkeys(("media", "image", "picture", "photo", "imageurl", "url"), "media_urls"),
    **dict.fromkeys(("images", "pictures", "photos", "imageurls", "urls"), "media_urls"),
    **dict.fromkeys(("firstframe", "lastframe", "video", "audio"), "media_urls"),
    **dict.fromkeys(("seconds", "length", "duration(s)"), "duration"),
    **dict.fromkeys(("aspect", "ratio"), "aspect_ratio"),
    **dict.fromkeys(("webhook", "callback"), "webhook_url"),
    **dict.fromkeys(("text", "description"), "prompt"),
}


@attrs.frozen
class Name:
    """What a name in a file stands for: a field, or a column if `is_field` is false."""

    text: str
    is_field: bool


class Names:
    """What the names of one file stand for.

    Args:
        mapping: names in the file, in any case, and what each stands for: a field, or another
            name for the column.
    """

    def __init__(self, mapping: Mapping[str, str] | None = None) -> None:
        self._mapping = {folded(name): to.strip() for name, to in (mapping or {}).items()}
        self._unused = {folded(name): name for name in mapping or {}}
        self._seen: dict[str, Name] = {}
        self._header: frozenset[str] = frozenset()

    def of(self, name: str) -> Name:
        """What the name stands for."""
        to = self._mapping.get(folded(name), name)
        if to.casefold().startswith(PREFIX) and to[len(PREFIX) :].strip():
            return Name(PREFIX + to[len(PREFIX) :].strip(), is_field=True)
        field = _BY_FOLDED.get(folded(to))
        return Name(to, is_field=False) if field is None else Name(field, is_field=True)

    def has_prompt(self, names: Iterable[str]) -> bool:
        """Whether one of these names stands for the prompt."""
        return any(self.of(name) == Name("prompt", is_field=True) for name in names)

    def problems(self, names: Sequence[str]) -> list[Violation]:
        """What is wrong with the names of a record or of a table."""
        found = {name: self._taken(name) for name in names}
        fields = {name.text for name in found.values() if name.is_field}
        wrong = [self._near(name, found[name], fields) for name in names]
        twice = [
            Violation(name, list(names), f"is given twice as {found[name].text}")
            for index, name in enumerate(names)
            if found[name] in [found[other] for other in names[:index]]
        ]
        return [each for each in wrong if each is not None] + twice

    def header_problem(self, header: Sequence[str]) -> Violation | None:
        """What is wrong with a table's header; once it is good, its names are."""
        named = [name for name in header if name]
        if wrong := self.problems(named):
            return wrong[0]
        if not self.has_prompt(named):
            rule = 'must name the prompt; if it has another name, --map "NAME=prompt"'
            return Violation("header", list(header), rule)
        self._header = frozenset(named)
        return None

    def split(
        self, given: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]] | tuple[Violation, ...]:
        """The fields and the columns of a record, or what is wrong with its names."""
        if wrong := self.problems(list(given)):
            return tuple(wrong)
        named = [(self._taken(name), value) for name, value in given.items()]
        fields = {name.text: value for name, value in named if name.is_field}
        try:
            fields = gathered(fields)
        except ValueError as error:
            return (Violation(f"{PREFIX}{error}", dict(given), "is given twice"),)
        return fields, {name.text: value for name, value in named if not name.is_field}

    def unused(self) -> Violation | None:
        """A name of the mapping that the file does not have."""
        for name in self._unused.values():
            names = ", ".join(map(repr, self._seen)) or "none"
            return Violation("--map", name, f"is no name in the file, which has {names}")
        return None

    def cell(self, name: str, cell: str) -> Any:
        """The value of a table's cell under a name; None if it has none.

        What does not fit stays text, so that the rules can name it.
        """
        if not name:
            return Violation("row", cell, "is under no header") if cell else None
        found = self._taken(name)
        if not found.is_field:
            return cell
        return _value(found.text, cell) if cell else None

    def _taken(self, name: str) -> Name:
        """What a name stands for that is certainly one of the file's."""
        if name not in self._seen:
            self._seen[name] = self.of(name)
            self._unused.pop(folded(name), None)
        return self._seen[name]

    def _near(self, given: str, name: Name, fields: Collection[str]) -> Violation | None:
        """That a column seems to be a field, unless the record has that, or it is mapped to itself.

        As a column it would silently not be sent.
        """
        is_meant = given in self._header or self._mapping.get(folded(given)) == given
        near = None if name.is_field or is_meant else nearest_field(name.text)
        if near is None or near in fields:
            return None
        rule = (
            f'is no field: did you mean {near}, as by --map "{given}={near}"? '
            f'If it is a column of your own: --map "{given}={given}"'
        )
        return Violation("name", name.text, rule)


@functools.lru_cache(maxsize=1024)
def nearest_field(name: str) -> str | None:
    """The field that this name seems to mean."""
    short = folded(name)
    near = difflib.get_close_matches(short, _BY_FOLDED, 1, _NEAR)
    return _MEANT.get(short) or (_BY_FOLDED[near[0]] if near else None)


def _value(field: str, cell: str) -> Any:
    if field.startswith(PREFIX):
        try:
            return json_or_text(cell)
        except ValueError as error:
            return Violation(field, cell, str(error))
    match field:
        case "duration" if _WHOLE.fullmatch(cell):
            return int(cell)
        case "media_urls":
            return _media_of(cell)
        case "metadata" | "extra":
            return json_object(field, cell)
    return cell


def _media_of(cell: str) -> list[Any] | Violation:
    """URLs, paths and jobs, with bars between them; between URLs alone, spaces will do."""
    pieces = [piece.strip() for piece in cell.split("|")]
    if not any(map(is_local, pieces)):
        pieces = cell.replace("|", " ").split()
    found = [
        json_object("media_urls", piece) if piece.startswith("{") else piece
        for piece in pieces
        if piece
    ]
    return next((each for each in found if isinstance(each, Violation)), found)
