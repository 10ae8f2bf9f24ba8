"""Fields of a submit that the API's page does not name: sent as they are, compared as JSON.

Which names are documented is the request's affair; nothing here knows one.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from seedance_async._utils.json_values import (
    MAX_LEVELS,
    MAX_VALUES,
    is_json_object,
    is_unicode,
)

#: Characters of JSON up to which extra fields stand in the kind of a request as they are.
_LONGEST_KIND = 100
_LONGEST_NAME = 60
_NOT_JSON = (
    "must be JSON: dicts, lists, text, finite numbers, true, false or null, with text keys, "
    f"{MAX_LEVELS} levels and {MAX_VALUES:,} values at most"
)


@attrs.frozen(eq=False, repr=False, weakref_slot=False)
class ExtraFields(Mapping[str, Any]):
    """A JSON object that cannot be changed: what is taken out of it is a copy.

    Two are equal if their JSON is, so that 1, 1.0 and true are three values. The order of the
    names makes no difference.

    Attributes:
        text: the JSON, its names in order.
    """

    text: str

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ExtraFields:
        """These values, which must be JSON."""
        return cls(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False))

    def as_dict(self) -> dict[str, Any]:
        """The fields, as a dict of the caller's own."""
        fields: dict[str, Any] = json.loads(self.text)
        return fields

    @property
    def kind(self) -> str:
        """The JSON, or, where that is long, its beginning and a hash of it."""
        if len(self.text) <= _LONGEST_KIND:
            return self.text
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:32]
        return f"{self.text[: _LONGEST_KIND - 32]}…{digest}"

    def __getitem__(self, name: str) -> Any:
        return self.as_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ExtraFields):
            return self.text == other.text
        return self.as_dict() == other if isinstance(other, dict) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return repr(self.as_dict())


def frozen_fields(value: Any) -> Any:
    """The caller's extra fields, frozen; None if there are none.

    What is no JSON object is copied, as far as that is possible, and left for the rules to refuse.
    """
    if value is None or isinstance(value, ExtraFields):
        return value
    try:
        if not isinstance(value, Mapping):
            return copy.deepcopy(value)
        fields = dict(value)
        if not is_json_object(fields):
            return copy.deepcopy(fields)
        return ExtraFields.of(fields) if fields else None
    except Exception:  # methods of the caller's own classes can raise anything
        return value


def broken_rules(value: object, documented: Iterable[str]) -> Iterator[tuple[str, object, str]]:
    """The rules that extra fields break: the field, its value, and the rule in words.

    Args:
        value: as `frozen_fields` gives it, and not None.
        documented: the names of the fields that are none of these. Names that differ from them in
            case, or in what is neither letter nor digit, collide with them all the same.
    """
    if isinstance(value, ExtraFields):
        fields: dict[Any, Any] = value.as_dict()
    elif isinstance(value, dict):
        fields = value
    else:
        yield "extra", value, "must be a JSON object: fields by their names"
        return
    taken = {_folded(name): name for name in documented}
    broken = False
    for name, each in fields.items():
        for found in _broken_by(name, each, taken):
            broken = True
            yield found
    if not broken and not isinstance(value, ExtraFields):
        yield "extra", value, _NOT_JSON


def _broken_by(
    name: object, value: object, taken: Mapping[str, str]
) -> Iterator[tuple[str, object, str]]:
    if not isinstance(name, str) or not name.strip():
        yield "extra", name, "must have names that are text, and not blank"
        return
    if not is_unicode(name):
        yield "extra", name, "must have names that are valid Unicode, without lone surrogates"
        return
    field, documented = f"extra.{name:.{_LONGEST_NAME}}", taken.get(_folded(name))
    if documented is not None:
        yield field, value, f"must not have the name of a documented field: give {documented}"
    if not is_json_object({name: value}):
        yield field, value, _NOT_JSON


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
