"""New, open, closed: what a journal's life has in common wherever the entries are kept."""

from __future__ import annotations

import asyncio
import os

from seedance_async.api.errors import JournalError

_Place = tuple[int, asyncio.AbstractEventLoop | None]


class Lifecycle:
    """The state of a journal, and the one process and event loop that it belongs to."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self.state = "new"
        self._home: _Place | None = None

    def start(self) -> None:
        """It is being opened, here. Raises JournalError if that was done before."""
        if self.state != "new":
            raise JournalError(f"it is {self.state} and can't be opened again", path=self.path)
        self._home = _here()
        self.state = "opening"

    def ready(self) -> None:
        """It is open. Raises JournalError if it was closed meanwhile."""
        if self.state != "opening":
            raise JournalError(f"it is {self.state}, not open", path=self.path)
        self.state = "open"

    def end(self) -> None:
        """It is closed for good."""
        self.state = "closed"

    def check(self) -> None:
        """Raises JournalError unless it is open, and open here."""
        if self.state != "open":
            raise JournalError(f"it is {self.state}, not open", path=self.path)
        if self._home != _here():
            reason = "it belongs to the process and event loop in which it was opened"
            raise JournalError(reason, path=self.path)


def _here() -> _Place:
    try:
        return os.getpid(), asyncio.get_running_loop()
    except RuntimeError:  # in a thread without one; in a forked child, where none runs any more
        return os.getpid(), None
