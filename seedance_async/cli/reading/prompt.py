"""The one prompt of a command: an argument, or standard input; anything more is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import click

from seedance_async.cli.reading.encodings import decoded
from seedance_async.cli.reading.json_records import numbered
from seedance_async.cli.reading.looks import no_prompts
from seedance_async.cli.reading.names import Names
from seedance_async.cli.reading.record import UnreadableError
from seedance_async.cli.reading.source import standard_input
from seedance_async.cli.reading.tables import delimiter_of, first_row

_BATCH = "`seedance batch {}` makes a video of each line or record in it"


def one_prompt(_context: object, _parameter: object, text: str) -> str:
    """A click callback: the prompt. Before the event loop runs, so that Ctrl-C ends a wait."""
    if text == "-":
        return _only_line(standard_input())
    if _is_file(text):
        raise click.UsageError(f"{text} is a file, not a prompt: {_BATCH.format(text)}")
    if _is_json(text):
        raise click.UsageError(f"PROMPT is JSON, not a prompt: in a file, {_BATCH.format('FILE')}")
    return text


def _only_line(data: bytes) -> str:
    """The prompt in standard input. Raises UsageError if that has something else, or more."""
    try:
        text = decoded(data)
    except UnreadableError as error:
        raise click.UsageError(f"standard input {error.violation.rule}") from None
    lines = [line for _, line in numbered(text)]
    if not lines:
        raise click.UsageError("standard input has no prompt")
    names = Names()
    doubt = no_prompts(text)
    if doubt is not None or names.has_prompt(first_row(text, delimiter_of(text, names))):
        rule = "does not look like a prompt; as an argument, any text is one"
        raise click.UsageError(f"standard input {rule}: {_BATCH.format('-')}")
    if len(lines) > 1:
        raise click.UsageError(
            f"standard input has {len(lines)} lines: {_BATCH.format('-')}. A prompt of several "
            "lines can be given as an argument."
        )
    return lines[0]


def _is_file(text: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(text).is_file()
    return False


def _is_json(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(text), dict | list)
    return False
