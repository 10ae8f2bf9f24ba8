"""When the answers that are waited for have to be there: one timer for all of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Protocol


class Endable(Protocol):
    """What can be told that it will not be answered."""

    def end(self, error: Exception) -> None:
        """Take in why."""


class Deadlines:
    """What is out, in the order in which its time is up: all have the same.

    Nearly all are answered long before, and a timer each would cost more than what it watches.

    Args:
        seconds: from when something goes out until it is told that its time is up.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: OrderedDict[Endable, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Endable) -> None:
        """Something goes out now."""
        loop = asyncio.get_running_loop()
        self._due[item] = at = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(at, self._pass)

    def discard(self, item: Endable) -> None:
        """It is no longer out, if it was."""
        self._due.pop(item, None)

    def end_all(self, error: Exception) -> None:
        """Nothing of what is out will be answered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._due:
            self._due.popitem(last=False)[0].end(error)

    def _pass(self) -> None:
        """End what has had its time, and come again for the next."""
        loop, self._timer = asyncio.get_running_loop(), None
        now = loop.time()
        while self._due:
            item, at = next(iter(self._due.items()))
            if at > now:
                self._timer = loop.call_at(at, self._pass)
                return
            del self._due[item]
            item.end(TimeoutError("there was no whole answer in time"))
