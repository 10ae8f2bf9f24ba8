"""The lifecycle of a journal, wherever it keeps its entries: new, opening, open, closed."""

from __future__ import annotations

import asyncio
import os

from seedance_async.api.errors import JournalError

_Owner = tuple[int, asyncio.AbstractEventLoop | None]


class Lifecycle:
    """The state of a journal, and the one process and event loop that may use it.

    Args:
        journal: the journal's file, for errors.
    """

    def __init__(self, journal: str) -> None:
        self._journal = journal
        self.state = "new"
        self._owner: _Owner | None = None

    def start_opening(self) -> None:
        """Enter "opening", for the current event loop. Raises JournalError on a second call."""
        if self.state != "new":
            raise self._error(f"it is {self.state} and can't be opened again")
        self._owner = _current_owner()
        self.state = "opening"

    def finish_opening(self) -> None:
        """Enter "open". Raises JournalError if the journal was closed meanwhile."""
        if self.state != "opening":
            raise self._error(f"it is {self.state}, not open")
        self.state = "open"

    def close(self) -> None:
        """Enter "closed", the last state."""
        self.state = "closed"

    def check_open(self) -> None:
        """Raise JournalError unless the journal is open in this process and event loop."""
        if self.state != "open":
            raise self._error(f"it is {self.state}, not open")
        if self._owner != _current_owner():
            raise self._error("it belongs to the process and event loop in which it was opened")

    def _error(self, reason: str) -> JournalError:
        return JournalError(reason, path=self._journal)


def _current_owner() -> _Owner:
    try:
        return os.getpid(), asyncio.get_running_loop()
    except RuntimeError:  # a thread without an event loop, or a forked child, where none runs
        return os.getpid(), None
