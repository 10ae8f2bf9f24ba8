"""One heap of due times, served by a bounded number of workers under one rate budget.

A waiting item is an entry in the heap, not a task; workers are started for what is due and end when
nothing is. What is put with no delay comes first, then the most overdue. While the waiting items
ask for more than the budget allows, the clock that due times are told on goes slower: so every wait
stretches alike, shrinks again when there are fewer, and none starves. What serving means is the
caller's business.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from seedance_async.pacing import RateBudget

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

#: How much faster than the budget the slow clock lets items become due. So a twentieth of them is
#: overdue, and chance leaves no part of the budget unused.
_AHEAD = 1.05

#: Seconds that count as none: less is lost in rounding, and would be waited for again and again.
_TICK = 1e-9

#: A shorter delay than this many seconds asks for no more services a second than this one.
_SHORTEST = 0.001

#: Seconds after which a slow clock is looked at again: it may have become faster.
_GLANCE = 1.0


class Schedule(Generic[_T]):
    """Items that are served when they are due, again and again until they are done.

    Putting, dropping and serving one costs O(log n) where n wait.

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
        self._clock = _Clock(self._budget)
        self._most_workers = workers
        self._workers: set[asyncio.Task[None]] = set()
        # An entry is its due time, a number that decides between equal ones, the item, and how
        # many services a second it asks for. One that was dropped stays until it is on top.
        self._heap: list[tuple[float, int, _T, float]] = []
        self._entries: dict[_T, tuple[float, int, _T, float]] = {}
        self._numbers = itertools.count()
        self._started = False
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def stretch(self) -> float:
        """How many times longer than they ask for items wait now, so that the budget holds."""
        return 1 / self._clock.pace

    def start(self) -> None:
        """Start serving."""
        self._started = True
        self._attend()

    async def stop(self) -> None:
        """Stop serving; nothing is served after this."""
        self._started = False
        if self._timer is not None:
            self._timer.cancel()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def put(self, item: _T, delay: float) -> None:
        """Make an item due in `delay` seconds, whenever it was due before; with 0, before others.

        While more is asked for than the budget allows, the delay is stretched.
        """
        self.drop(item)
        now = asyncio.get_running_loop().time()
        asked = 1 / max(delay, _SHORTEST) if delay > 0 else 0.0
        due = self._clock.move_on(now, asked) + delay if asked else -math.inf
        entry = self._entries[item] = (due, next(self._numbers), item, asked)
        heapq.heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._attend()

    def drop(self, item: _T) -> bool:
        """Take an item out; whether it was waiting. One that is being served is not waiting."""
        entry = self._entries.pop(item, None)
        if entry is None:
            return False
        self._clock.move_on(asyncio.get_running_loop().time(), -entry[3])
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._entries):
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)
        return True

    def _attend(self) -> None:
        """Start workers for what is due, and come again when the next item is."""
        loop = asyncio.get_running_loop()
        while self._started and len(self._workers) < self._most_workers:
            now = loop.time()
            wait = self._wait(now)
            if wait > 0:
                self._come_again(now + wait)
                return
            self._workers.add(loop.create_task(self._work(self._take(now)), name="seedance-poll"))

    def _come_again(self, at: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at < math.inf:
            self._timer = asyncio.get_running_loop().call_at(at, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._attend()

    async def _work(self, item: _T) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._serve_once(item)
                now = loop.time()
                if self._wait(now) > 0:
                    return
                item = self._take(now)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._workers.discard(task)
            self._attend()

    async def _serve_once(self, item: _T) -> None:
        try:
            delay = await self._serve(item)
        except Exception:
            _log.exception("serving %r failed; it is tried again in a minute", item)
            delay = 60.0
        if delay is not None and item not in self._entries:
            self.put(item, delay)

    def _wait(self, now: float) -> float:
        """Seconds until an item is due and the budget allows it; infinite where none waits."""
        heap = self._heap
        while heap and self._entries.get(heap[0][2]) is not heap[0]:
            heapq.heappop(heap)
        if not heap:
            return math.inf
        clock = self._clock
        early = heap[0][0] - clock.move_on(now)
        early = early if clock.pace == 1 else min(early / clock.pace, _GLANCE)
        if early < _TICK:
            early = 0.0
        return max(early, self._budget.wait(now))

    def _take(self, now: float) -> _T:
        """The first item, which is served now."""
        _, _, item, asked = heapq.heappop(self._heap)
        del self._entries[item]
        self._clock.move_on(now, -asked)
        self._budget.spend(now)
        return item


class _Clock:
    """A clock that goes slower while more services a second are asked for than the budget allows.

    Changing its pace moves all due times that are told on it, however many they are.
    """

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget
        self._shown, self._looked_at = 0.0, -math.inf
        self._demand = 0.0
        self.pace = 1.0

    def move_on(self, now: float, asked: float = 0.0) -> float:
        """The time it shows; from now on so many services a second more are asked for."""
        if now > self._looked_at:
            if self._looked_at > -math.inf:
                self._shown += (now - self._looked_at) * self.pace
            self._looked_at = now
        if asked:
            self._demand += asked
            allowed = _AHEAD * self._budget.rate
            self.pace = 1.0 if self._demand <= allowed else allowed / self._demand
        return self._shown
