"""When the answers that are waited for have to be there: one timer for all of them."""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from contextvars import Context
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
        self._context = Context()  # not that of whoever sends

    def add(self, item: Endable) -> None:
        """Something goes out now."""
        self._due[item] = asyncio.get_running_loop().time() + self._seconds
        self._come_again()

    def discard(self, item: Endable) -> None:
        """It is no longer out, if it was."""
        self._due.pop(item, None)

    def end_all(self, error: Exception) -> None:
        """Nothing of what is out will be answered; each is given a copy of the error."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._due:
            self._due.popitem(last=False)[0].end(copy.copy(error))

    def _pass(self) -> None:
        """End what has had its time."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        try:
            while self._due and next(iter(self._due.values())) <= now:
                item, _ = self._due.popitem(last=False)
                item.end(TimeoutError("there was no whole answer in time"))
        finally:
            self._come_again()

    def _come_again(self) -> None:
        if self._timer is None and self._due:
            at, loop = next(iter(self._due.values())), asyncio.get_running_loop()
            self._timer = loop.call_at(at, self._pass, context=self._context)
