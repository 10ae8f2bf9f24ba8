"""`--events`: everything that happens in a session as JSON, one object a line.

The fields are those of the events, by their names; `event` is the class and `time` the wall clock.
The API key is redacted wherever a server or an error may have put it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, TypeVar

import attrs
import click

from seedance_async import APIError, ErrorDetail, Event, GenerationRequest, JobMedium, dump_request
from seedance_async.cli.connection import Connection
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.options import cannot_write

Work = Callable[..., Awaitable[ExitCode]]
Made = TypeVar("Made")


class EventLog:
    """Writes events to a file, or to stdout.

    Args:
        screen: redacts the key, writes to stdout, and says what goes wrong.
        file: where to; None for stdout.
    """

    def __init__(self, screen: Screen, file: TextIO | None) -> None:
        self._screen, self._file = screen, file
        self._broken = False

    def hear(self, event: Event) -> None:
        """Write an event, at once. A file that cannot be written ends nothing but the writing."""
        if self._file is None:
            self._screen.stream(as_record(event))
        elif not self._broken:
            try:
                self._file.write(self._screen.without_key(json.dumps(as_record(event))) + "\n")
                self._file.flush()
            except OSError as error:
                self._broken = True
                self._screen.say(f"events are no longer written: {error}", style="red")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self._broken = True


def as_record(event: Event) -> dict[str, Any]:
    """An event as plain JSON data."""
    fields = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    known = {name: _plain(value) for name, value in fields.items()}
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"event": type(event).__name__, "time": now, **known}


def _plain(value: object) -> Any:
    if isinstance(value, GenerationRequest):
        media = [_medium(each) for each in value.media_urls]
        asked = dump_request(attrs.evolve(value, media_urls=()))
        return {**asked, "mediaUrls": media} if media else asked
    if isinstance(value, BaseException):
        return _error(value)
    if isinstance(value, ErrorDetail):
        return {"code": value.code, "message": value.message}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # there is no JSON for a hold without an end
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _error(error: BaseException) -> dict[str, Any]:
    told: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, APIError):
        told |= {"status": error.status, "code": error.code, "retry_after": error.retry_after}
    return told


def _medium(medium: object) -> Any:
    """A medium as it was given; of content on this machine, its size alone."""
    if isinstance(medium, JobMedium):
        return medium.as_data()
    return f"{len(medium):,} bytes" if isinstance(medium, bytes) else str(medium)


def with_events(work: Work) -> Work:
    """Give a command that runs jobs the option `--events`."""

    @click.option(
        "--events",
        metavar="FILE",
        help="Append everything that happens to FILE as JSON, one object a line; - is stdout.",
    )
    @functools.wraps(work)
    async def run(connection: Connection, *, events: str | None, **rest: Any) -> ExitCode:
        if events is None:
            return await work(connection, **rest)
        if events == "-" and rest.get("as_json"):
            raise click.UsageError("--json and --events - both write to stdout: name a file")
        connection.screen.has_answers = events != "-"
        log = EventLog(connection.screen, _opened(events))
        connection.screen.listeners.append(log.hear)
        try:
            return await work(connection, **rest)
        finally:
            log.close()

    return run


def _opened(events: str) -> TextIO | None:
    if events == "-":
        return None
    try:
        return open(events, "a", encoding="utf-8")  # noqa: PTH123 - closed by the log
    except OSError as error:
        raise cannot_write(Path(events), error) from None
