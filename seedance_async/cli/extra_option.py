"""Extra fields on the command line and in input files: `--extra seed=7`, a column `extra.seed`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import click

from seedance_async import GenerationRequest
from seedance_async.cli.reading.json_records import load_json

#: What begins the name of a column that is an extra field.
PREFIX = "extra."


def json_or_text(text: str) -> Any:
    """The JSON of a cell or an option; what is none, and does not look like it, is text.

    Raises:
        ValueError: it begins as an object, a list or quoted text does, and is none.
    """
    try:
        return load_json(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith(("{", "[", '"')):
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise ValueError(f"is not JSON: {reason}") from None
        return text


def _fields(_context: object, _option: object, given: Sequence[str]) -> dict[str, Any] | None:
    """A click callback: the fields by their names; None if none is given."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE, such as seed=7")
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice")
        try:
            found[name] = json_or_text(value)
        except ValueError as error:
            raise click.BadParameter(f"the value of {name!r} {error}") from None
    return found or None


extra = click.option(
    "--extra",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_fields,
    help="A field that the API takes besides the documented ones, sent as it is. VALUE is JSON, or"
    " text. May be repeated: --extra seed=7 --extra style=noir",
)


def gathered(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a line with those under `extra.NAME` in one object, `extra`.

    Raises:
        ValueError: one of them is in both; the text is its name.
    """
    own = fields.get("extra")
    named = {
        name.removeprefix(PREFIX): value
        for name, value in fields.items()
        if name.startswith(PREFIX)
    }
    if not named or not (own is None or isinstance(own, Mapping)):
        return dict(fields)
    twice = next((name for name in named if own and name in own), None)
    if twice is not None:
        raise ValueError(twice)
    others = {name: value for name, value in fields.items() if not name.startswith(PREFIX)}
    return {**others, "extra": {**(own or {}), **named}}


def with_defaults(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A line's fields, and for what it does not give, the defaults: each extra field alone."""
    found = {**defaults, **fields}
    own, usual = fields.get("extra"), defaults.get("extra")
    if isinstance(own, Mapping) and isinstance(usual, Mapping):
        found["extra"] = {**usual, **own}
    return found


def changed(request: GenerationRequest, changes: Mapping[str, Any]) -> GenerationRequest:
    """The request with some fields changed, and of its extra fields those that are named."""
    given = changes.get("extra")
    if isinstance(given, Mapping) and isinstance(request.extra, Mapping):
        changes = {**changes, "extra": {**request.extra, **given}}
    return attrs.evolve(request, **changes)


def option_words(name: str, value: Any) -> Iterator[str]:
    """The words of a command that give a field of a request this value."""
    if name != "extra":
        yield from (f"--{name.replace('_', '-')}", str(value))
        return
    for field, each in value.items():
        yield from ("--extra", f"{field}={json.dumps(each, ensure_ascii=False)}")
