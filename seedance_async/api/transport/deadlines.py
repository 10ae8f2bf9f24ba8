"""Deadlines of the calls in progress: one timer for all of them."""

from __future__ import annotations

import asyncio
import copy
from collections import OrderedDict
from contextvars import Context
from typing import Protocol


class Endable(Protocol):
    """A call that can be ended before it is answered."""

    def end(self, error: Exception) -> None:
        """End it for this reason."""


class Deadlines:
    """The calls in progress, in the order of their deadlines: all have the same time.

    Nearly all are answered long before, and a timer each would cost more than what it watches. They
    belong to the event loop that is running when this is made.

    Args:
        seconds: from when a call is added until it is ended.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: OrderedDict[Endable, float] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._context = Context()  # not the caller's
        self._loop = asyncio.get_running_loop()

    def add(self, item: Endable) -> None:
        """A call begins now."""
        self._due[item] = self._loop.time() + self._seconds
        self._set_timer()

    def discard(self, item: Endable) -> None:
        """A call is over, if it was in progress."""
        self._due.pop(item, None)

    def end_all(self, error: Exception) -> None:
        """End all calls; each is given a copy of the error."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._due:
            self._due.popitem(last=False)[0].end(copy.copy(error))

    def _look_first(self) -> None:
        """Let the loop take what lies in the sockets, and end what is left after that.

        A process that was stopped wakes up with the timer alone: `epoll_wait`, which the signal
        has interrupted, returns without a look at the sockets once its time is over.
        """
        self._timer = self._loop.call_later(0, self._expire, context=self._context)

    def _expire(self) -> None:
        """End the calls whose deadline has passed."""
        self._timer = None
        now = self._loop.time()
        try:
            while self._due and next(iter(self._due.values())) <= now:
                item, _ = self._due.popitem(last=False)
                item.end(TimeoutError("there was no whole answer in time"))
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and self._due:
            at = next(iter(self._due.values()))
            self._timer = self._loop.call_at(at, self._look_first, context=self._context)
