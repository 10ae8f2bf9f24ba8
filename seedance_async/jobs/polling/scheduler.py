"""One heap of due times, served by a bounded number of workers under one rate budget.

A waiting item is an entry in the heap, not a task; workers are started for what is due and end when
nothing is. What is put with no delay comes first, then the most overdue. While items are overdue
because more is asked for than the budget allows, the clock that due times are told on goes slower:
so every wait stretches alike, shrinks again when there are fewer, and none starves. What serving
means is the caller's business.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

import attrs

from seedance_async._utils.cancellation import was_cancelled
from seedance_async.api.rate_limit import RateBudget

_log = logging.getLogger(__name__)

#: Seconds that the event loop may be late before that is told.
LAG_WARNING = 1.0

#: Seconds that count as none: less is lost in rounding, and would be waited for again and again.
_TICK = 1e-9

#: Items are served in groups, with one wake of the event loop a group and not one an item: a due
#: time is rounded up to a multiple of this many seconds, where that makes a delay longer by a 64th
#: at the most.
_GROUP = 1 / 64

#: A longer delay than this many seconds is as good as none at all.
_NEVER = 1e9

#: A shorter delay than this many seconds asks for no more services a second than this one.
_SHORTEST = 0.001


@attrs.define(eq=False, weakref_slot=False)
class Item:
    """What is put into a schedule. It knows its own place there: a table would cost more memory.

    A place is the due time, a number that decides between equal ones, the item, and how many
    services a second it asks for.
    """

    place: tuple[float, int, Any, float] | None = attrs.field(default=None, init=False, repr=False)


_T = TypeVar("_T", bound=Item)


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
        # Places; one that its item has left stays until it is on top, or most are such.
        self._heap: list[tuple[float, int, _T, float]] = []
        self._waiting = 0
        self._numbers = itertools.count()
        self._started = False
        self._context = copy_context()  # not that of whoever puts an item
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # uvloop's handles do not tell
        self.longest_lag = 0.0

    def __len__(self) -> int:
        return self._waiting

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
        if 64 * _GROUP <= delay < _NEVER:
            due = math.ceil(due / _GROUP) * _GROUP
        place = item.place = (due, next(self._numbers), item, asked)
        self._waiting += 1
        heapq.heappush(self._heap, place)
        if self._heap[0] is place:
            self._attend()

    def drop(self, item: _T) -> bool:
        """Take an item out; whether it was waiting. One that is being served is not waiting."""
        if item.place is None:
            return False
        self._leave(item.place, asyncio.get_running_loop().time())
        if len(self._heap) > 64 and len(self._heap) > 2 * self._waiting:
            self._heap = [place for place in self._heap if place[2].place is place]
            heapq.heapify(self._heap)
        return True

    def _leave(self, place: tuple[float, int, _T, float], now: float) -> None:
        place[2].place = None
        self._waiting -= 1
        self._clock.move_on(now, -place[3])

    def _attend(self) -> None:
        """Start workers for what is due, and come again when the next item is."""
        loop = asyncio.get_running_loop()
        while self._started and len(self._workers) < self._most_workers:
            now = loop.time()
            wait = self._wait(now)
            if wait > 0:
                self._come_again(now + wait)
                return
            work = self._work(self._take(now))
            neutral = self._context.copy()  # since this may be running in it already
            worker = neutral.run(loop.create_task, work, name="seedance-poll")
            if not worker.done():  # an eager task may have come to its end by now
                self._workers.add(worker)

    def _come_again(self, at: float) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at < math.inf:
            loop, context = asyncio.get_running_loop(), self._context
            self._timer = loop.call_at(at, self._timer_fired, context=context)
            self._timer_at = at

    def _timer_fired(self) -> None:
        self._timer = None
        self._note_lag(asyncio.get_running_loop().time() - self._timer_at)
        self._attend()

    def _note_lag(self, lag: float) -> None:
        self.longest_lag = max(self.longest_lag, lag)
        if lag >= LAG_WARNING:
            _log.warning(
                "the event loop was blocked for %.1f seconds; answers waited meanwhile, and a"
                " submit whose answer waits too long becomes uncertain: keep slow calls off it",
                lag,
            )

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
        except (Exception, asyncio.CancelledError) as error:
            if was_cancelled(error):
                raise
            _log.exception("serving %r failed; it is tried again in a minute", item)
            delay = 60.0
        if delay is not None and item.place is None:
            self.put(item, delay)

    def _wait(self, now: float) -> float:
        """Seconds until an item is due and the budget allows it; infinite where none waits."""
        heap = self._heap
        while heap and heap[0][2].place is not heap[0]:
            heapq.heappop(heap)
        if not heap:
            return math.inf
        early = heap[0][0] - self._clock.move_on(now)
        overdue = early < _TICK
        self._clock.slow_down(overdue)
        return self._budget.wait(now) if overdue else max(early, self._budget.wait(now))

    def _take(self, now: float) -> _T:
        """The first item, which is served now."""
        place = heapq.heappop(self._heap)
        self._leave(place, now)
        self._budget.spend(now)
        return place[2]


class _Clock:
    """A clock that goes slower while items wait for the budget.

    The more services a second are asked for, the slower. Changing its pace moves all due times that
    are told on it, however many they are. With nothing overdue it goes as any clock does, so that
    no part of the budget is left unused.
    """

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget
        self._shown, self._looked_at = 0.0, -math.inf
        self._demand = 0.0
        self.pace = 1.0

    def move_on(self, now: float, asked: float = 0.0) -> float:
        """The time it shows; from now on so many services a second more are asked for."""
        if self._looked_at > -math.inf:
            self._shown += (now - self._looked_at) * self.pace
        self._looked_at = now
        self._demand += asked
        return self._shown

    def slow_down(self, overdue: bool) -> None:
        """Whether items are overdue from now on."""
        much = overdue and self._demand > self._budget.rate
        self.pace = self._budget.rate / self._demand if much else 1.0
