"""One heap of due times, served by a fixed number of workers under one rate budget.

A waiting item is an entry in the heap, not a task. The most overdue item is served first, so
where the budget is short every interval stretches alike and none starves. What serving means is
the caller's business.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs

from seedance_async.pacing import RateBudget

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


@attrs.define(order=True)
class _Entry(Generic[_T]):
    due: float
    number: int
    item: _T | None = attrs.field(eq=False, order=False)


class Schedule(Generic[_T]):
    """Items that are served when they are due, again and again until they are done.

    Args:
        serve: awaited with a due item; the seconds until it is due again, or None when it is done.
        rate: how many items are served a second, over all.
        workers: how many are served at once.
    """

    def __init__(
        self, serve: Callable[[_T], Awaitable[float | None]], *, rate: float, workers: int
    ) -> None:
        self._serve = serve
        self._budget = RateBudget(rate)
        self._worker_count = workers
        self._workers: list[asyncio.Task[None]] = []
        self._heap: list[_Entry[_T]] = []
        self._entries: dict[_T, _Entry[_T]] = {}
        self._numbers = itertools.count()
        self._turn = asyncio.Lock()
        self._wake: asyncio.Future[None] | None = None
        self._wake_at = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def start(self) -> None:
        """Start the workers."""
        self._workers = [
            asyncio.create_task(self._work(), name=f"seedance-poll-{number}")
            for number in range(self._worker_count)
        ]

    async def stop(self) -> None:
        """Stop the workers; nothing is served after this."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers = []

    def put(self, item: _T, delay: float) -> None:
        """Make an item due in `delay` seconds, whenever it was due before."""
        self.drop(item)
        due = asyncio.get_running_loop().time() + delay
        entry = self._entries[item] = _Entry(due, next(self._numbers), item)
        heapq.heappush(self._heap, entry)
        if self._wake is not None and due < self._wake_at:
            self._rouse()

    def drop(self, item: _T) -> bool:
        """Take an item out; whether it was waiting. One that is being served is not waiting."""
        entry = self._entries.pop(item, None)
        if entry is None:
            return False
        entry.item = None
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._entries):
            self._heap = [kept for kept in self._heap if kept.item is not None]
            heapq.heapify(self._heap)
        return True

    async def _work(self) -> None:
        while True:
            async with self._turn:
                item = await self._next_due()
            try:
                delay = await self._serve(item)
            except Exception:
                _log.exception("serving %r failed; it is tried again in a minute", item)
                delay = 60.0
            if delay is not None and item not in self._entries:
                self.put(item, delay)

    async def _next_due(self) -> _T:
        loop = asyncio.get_running_loop()
        while True:
            while self._heap and self._heap[0].item is None:
                heapq.heappop(self._heap)
            now = loop.time()
            if not self._heap:
                await self._sleep_until(float("inf"))
                continue
            at = max(self._heap[0].due, now + self._budget.wait(now))
            if at > now:
                await self._sleep_until(at)
                continue
            item = heapq.heappop(self._heap).item
            assert item is not None
            del self._entries[item]
            self._budget.spend(now)
            return item

    async def _sleep_until(self, at: float) -> None:
        """Sleep until `at`, or until an item is put that is due before."""
        loop = asyncio.get_running_loop()
        self._wake, self._wake_at = loop.create_future(), at
        timer = loop.call_at(at, self._rouse) if at < float("inf") else None
        try:
            await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
