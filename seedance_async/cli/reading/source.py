"""Where an input comes from: a file, or standard input, read whole."""

from __future__ import annotations

import sys
from io import BufferedReader
from pathlib import Path
from typing import cast

import attrs
import click


@attrs.frozen
class Input:
    """A file by its name, and its content.

    Attributes:
        folder: where paths in it begin.
    """

    name: str
    data: bytes = attrs.field(repr=False)
    folder: Path


def read_input(_context: object, _parameter: object, name: str) -> Input:
    """A click callback: the file of that name, or standard input for `-`.

    Before the event loop runs, which would keep Ctrl-C from ending a wait for stdin.
    """
    try:
        data = standard_input() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name} cannot be read: {error.strerror}") from None
    if name == "-":
        return Input("standard input", data, Path())
    return Input(name, data, Path(name).parent)


def standard_input() -> bytes:
    """All of it, in pieces: one read can miss a Ctrl-C that comes between two of them."""
    source = cast(BufferedReader, sys.stdin.buffer)
    return b"".join(iter(lambda: source.read1(1 << 16), b""))
