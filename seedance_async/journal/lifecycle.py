"""New, open, closed: what a journal's life has in common wherever the entries are kept."""

from __future__ import annotations

import asyncio
import os

from seedance_async.errors import JournalError


class Lifecycle:
    """The state of a journal, and the one process and event loop that it belongs to."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self.state = "new"
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    def start(self) -> None:
        """It is being opened, here. Raises JournalError if that was done before."""
        if self.state != "new":
            raise JournalError(f"it is {self.state} and can't be opened again", path=self.path)
        self._home = (os.getpid(), asyncio.get_running_loop())
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
        if self._home != (os.getpid(), asyncio.get_running_loop()):
            reason = "it belongs to the process and event loop in which it was opened"
            raise JournalError(reason, path=self.path)
