"""The screen: the one place where the command writes to stdout and stderr.

Results go to stdout, messages to stderr; `outlets` sees to it that no write to them raises. The API
key is redacted in both, and no text of a server or a file can send control codes to the terminal.
"""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console

from seedance_async import Event
from seedance_async.cli.outlets import stdout_has_failed

#: A shorter key is a placeholder; redacting it would garble ordinary words.
_SHORTEST_SECRET = 8


class Screen:
    """Where the command's messages and results go."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, markup=False, highlight=False)
        self._key = os.environ.get("SEEDANCE_API_KEY", "")
        self.has_answers = True  # else stdout belongs to something else
        self.listeners: list[Callable[[Event], None]] = []

    @property
    def is_live(self) -> bool:
        """Whether what was shown can be drawn over."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def hear(self, event: Event) -> None:
        """Pass on what happens in a session to all that listen."""
        for listener in tuple(self.listeners):
            listener(event)

    def tell(self, text: str, style: str | None = None) -> None:
        """Write a message about what happens now to stderr; in a log, with the time."""
        self.say(text if self.is_live else f"{datetime.now():%H:%M:%S} {text}", style)

    def say(self, text: str, style: str | None = None, *, whole: bool = False) -> None:
        """Write a message to stderr; a `whole` line, made to be copied, is not wrapped."""
        soft = whole or not self.console.is_terminal
        self.console.print(printable(self.without_key(text)), style=style, soft_wrap=soft)

    def answer(self, text: str) -> None:
        """Write a line of the command's result to stdout, at once; to stderr if that fails."""
        if self.has_answers:
            print(printable(self.without_key(text)), flush=True)
        if not self.has_answers or stdout_has_failed():
            self.say(text, whole=True)

    def record(self, record: Mapping[str, Any]) -> None:
        """Write a result as one line of JSON to stdout, at once; to stderr if that fails."""
        self.stream(record)
        if stdout_has_failed():
            self.say(json.dumps(record), whole=True)

    def stream(self, record: Mapping[str, Any]) -> None:
        """Write something as one line of JSON to stdout, at once; nowhere if that fails."""
        print(self.without_key(json.dumps(record)), flush=True)

    def without_key(self, text: str) -> str:
        """The text with the API key redacted, should a server have echoed it."""
        if len(self._key) < _SHORTEST_SECRET:
            return text
        return text.replace(self._key, "***")

    @contextmanager
    def logging(self, verbose: bool) -> Iterator[None]:
        """Show the SDK's log on stderr if `verbose`, else only what would be lost for ever.

        And what is waited for, if that takes long.
        """
        logger, handler = logging.getLogger("seedance_async"), _ScreenHandler(self, verbose)
        waits = logging.getLogger("seedance_async.api.long_waits")
        before = logger.level, logger.propagate, waits.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO if verbose else logging.CRITICAL)
        waits.setLevel(logging.INFO if verbose else logging.WARNING)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])  # the method also clears what loggers have cached
            logger.propagate = before[1]
            waits.setLevel(before[2])


class _ScreenHandler(logging.Handler):
    def __init__(self, screen: Screen, verbose: bool) -> None:
        super().__init__()
        self._screen = screen
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(self.format(record), style="dim")


def printable(text: str) -> str:
    """The text with control characters, except line breaks, as escapes."""
    return "".join(ascii(c)[1:-1] if _is_control(c) and c != "\n" else c for c in text)


def _is_control(character: str) -> bool:
    """Controls, direction marks, lone surrogates, unusual line breaks."""
    category = unicodedata.category(character)
    return category.startswith("C") or category in ("Zl", "Zp")
