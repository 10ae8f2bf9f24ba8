"""Watches over a connection whose server neither answers nor goes away, such as one that hangs."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Protocol

#: A server that has not answered for so many seconds is given up. It ends a statement before that.
SILENT_SECONDS = 45.0


class Busy(Protocol):
    """What is watched.

    Attributes:
        busy_since: when what is in progress began, on the monotonic clock; None if nothing is.
        socket: its socket; None where there is no way to cut it off.
    """

    busy_since: float | None
    socket: socket.socket | None


class Watch:
    """A thread that cuts a connection off once it was silent for too long.

    Args:
        watched: what uses the connection in another thread, where the cut raises an error.
        seconds: how long it may be silent.
    """

    def __init__(self, watched: Busy, seconds: float) -> None:
        self._watched, self._seconds = watched, seconds
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="journal watch", daemon=True).start()

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds / 10):
            since = self._watched.busy_since
            if since is not None and time.monotonic() - since > self._seconds:
                self._cut(self._watched.socket)

    def _cut(self, end: socket.socket | None) -> None:
        with suppress(OSError):
            if end is not None:
                end.shutdown(socket.SHUT_RDWR)
