"""The option `--map`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from seedance_async.cli.reading.names import folded


def _pairs(_context: object, _option: object, given: Sequence[str]) -> dict[str, str]:
    """A click callback: what each name stands for."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, to = (piece.strip() for piece in text.rpartition("="))
        if not (name and equals and to):
            raise click.BadParameter(f'{text!r} is not of the form "NAME=FIELD"')
        if folded(name) in map(folded, found):
            raise click.BadParameter(f"{name!r} is given twice")
        found[name] = to
    return found


names = click.option(
    "--map",
    "names",
    multiple=True,
    metavar="NAME=FIELD",
    callback=_pairs,
    help="What a column of FILE, or a name in its JSON, stands for: a field of a request, or"
    ' another name for the column. May be repeated: --map "Prompt EN=prompt" --map "Secs=duration"',
)
