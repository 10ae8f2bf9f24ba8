"""Deadlines of many items, watched by one timer: an item costs an entry in a heap and no timer."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Generic, Protocol, TypeVar


class HasDeadline(Protocol):
    """An item that knows its deadline; of two items the one with the earlier deadline is less."""

    deadline: float

    def __lt__(self, other: Any, /) -> bool: ...


_T = TypeVar("_T", bound=HasDeadline)


class Deadlines(Generic[_T]):
    """Calls back with each item once its deadline has passed, in the order of the deadlines.

    A deadline, in seconds of the event loop's clock, must not change while its item is in here. An
    item that no longer counts stays in the heap until its deadline, or until `tidy` drops it.

    Args:
        passed: called with an item; may add it again with another deadline.
        counts: whether an item still counts; `passed` is not called with others.
        at_once: items to call back with before other callbacks of the event loop have a turn.
    """

    def __init__(
        self,
        passed: Callable[[_T], None],
        counts: Callable[[_T], bool],
        *,
        at_once: int = 100,
    ) -> None:
        self._passed, self._counts, self._at_once = passed, counts, at_once
        self._heap: list[_T] = []
        self._stopped = False
        self._context = copy_context()  # not that of whoever adds an item
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf  # uvloop's handles do not show it

    def __repr__(self) -> str:
        return f"<Deadlines {len(self._heap)} in the heap>"

    def add(self, item: _T) -> None:
        """Watch an item's deadline."""
        heapq.heappush(self._heap, item)
        self._set_timer()

    def tidy(self, counting: int) -> None:
        """Drop the items that no longer count, if they outnumber the `counting` ones."""
        if len(self._heap) > 64 and len(self._heap) > 2 * counting:
            self._heap = list(filter(self._counts, self._heap))
            heapq.heapify(self._heap)

    def stop(self) -> None:
        """Call back no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer_at = -math.inf  # an item that is added meanwhile sets no timer
        try:
            for _ in range(self._at_once):
                if not self._has_next() or self._heap[0].deadline > now:
                    break
                self._passed(heapq.heappop(self._heap))
        finally:
            self._timer, self._timer_at = None, math.inf
            if self._has_next():
                self._set_timer()

    def _has_next(self) -> bool:
        while self._heap and not self._counts(self._heap[0]):
            heapq.heappop(self._heap)
        return bool(self._heap)

    def _set_timer(self) -> None:
        at = self._heap[0].deadline
        if self._stopped or self._timer_at <= at:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer, self._timer_at = loop.call_at(at, self._pass, context=self._context), at
