"""Records in JSON: one object a line, or an array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from seedance_async import Violation
from seedance_async.cli.reading.record import Record, UnreadableError


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank. Only a line feed ends a line: prompts may have other breaks."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def json_lines(text: str) -> Iterator[Record]:
    """An object a line."""
    for number, line in numbered(text):
        yield Record(number, f"line {number}", json_object("line", line))


def json_array(text: str) -> Iterator[Record]:
    """The objects of an array, numbered from 1, or a single object."""
    try:
        found = load_json(text)
    except RecursionError:
        raise UnreadableError("line 1", Violation("file", text, "is nested too deeply")) from None
    except json.JSONDecodeError as error:
        rule = f"must be a JSON array of objects ({error.msg})"
        raise UnreadableError(f"line {error.lineno}", Violation("file", text, rule)) from None
    except ValueError as error:
        raise UnreadableError("file", Violation("object", text, str(error))) from None
    if not isinstance(found, list):
        found = [found]
    for number, each in enumerate(found, 1):
        where = f"element {number}"
        fault = Violation("element", each, "must be a JSON object")
        yield Record(number, where, each if isinstance(each, dict) else fault)


def json_object(field: str, text: str) -> Mapping[str, Any] | Violation:
    """The text as an object, or what is wrong with it."""
    try:
        value = load_json(text)
    except RecursionError:
        return Violation(field, text, "is nested too deeply")
    except ValueError as error:
        return Violation(field, text, f"must be a JSON object ({error})")
    return value if isinstance(value, dict) else Violation(field, text, "must be a JSON object")


def load_json(text: str) -> Any:
    """The value. Raises ValueError, also for a name given twice, or RecursionError."""
    return json.loads(text, object_pairs_hook=_without_repeats)


def _without_repeats(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique: of two prompts, one would be silently dropped."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found
