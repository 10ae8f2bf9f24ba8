"""One heap of due times, served by a bounded number of workers within one rate budget.

A waiting item is an entry in the heap and not a task; workers start when items are due and end when
none is. Items put without a delay come first, then the most overdue. While items are overdue
because they ask for more services than the budget allows, the clock on which due times are read
runs slower: so every interval stretches by the same factor, shrinks again when there are fewer
items, and none starves. What serving means is up to the caller.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import lru_cache
from typing import Any, Generic, TypeVar

import attrs

from seedance_async._utils.cancellation import is_broken_off, was_cancelled
from seedance_async._utils.elapsed import loop_time
from seedance_async.api.rate_limit import RateBudget

_log = logging.getLogger(__name__)

#: Seconds that the event loop may be late before a warning is logged.
LAG_WARNING = 1.0

#: Due times that are less than this many seconds ahead are due: the difference is rounding, and
#: waiting for it would set the timer again and again.
_TICK = 1e-9

#: Due times are rounded up to a multiple of this many seconds, so that the event loop wakes up once
#: for a group of items and not for each. Only delays that this makes longer by at most a 64th are
#: rounded.
_GROUP = 1 / 64

#: A delay longer than this many seconds never ends in practice, and is not rounded.
_NEVER = 1e9

#: A delay shorter than this many seconds counts as this one towards the services asked for.
_SHORTEST = 0.001


@attrs.define(eq=False, weakref_slot=False)
class Item:
    """What a scheduler serves. It knows its own place in the heap: a table would cost more memory.

    A place is the due time, a number that breaks ties, the item, and how many services a second
    the item asks for.
    """

    place: tuple[float, int, Any, float] | None = attrs.field(default=None, init=False, repr=False)


_T = TypeVar("_T", bound=Item)


@lru_cache(maxsize=1024)
def _shared_demand(logarithm: int) -> float:
    """Services a second of an item with such a delay: one number in memory for very many items."""
    return math.exp(-logarithm * _GROUP)


class Scheduler(Generic[_T]):
    """Serves items when they are due, again and again until they are done.

    Putting, dropping and serving an item costs O(log n) while n items wait.

    Args:
        serve: awaited with a due item; returns the seconds until it is due again, or None if it is
            done.
        rate: services a second over all items.
        workers: items served at once.
    """

    def __init__(
        self, serve: Callable[[_T], Awaitable[float | None]], *, rate: float, workers: int
    ) -> None:
        self._serve = serve
        self._budget = RateBudget(rate)
        self._clock = _Clock(self._budget)
        self._most_workers = workers
        self._workers: dict[asyncio.Task[None], None] = {}  # in the order of their starts
        # Places; one that its item has left stays until it is on top, or most places are left.
        self._heap: list[tuple[float, int, _T, float]] = []
        self._waiting = 0
        self._numbers = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None  # in which it serves
        self._now: Callable[[], float] = loop_time
        self._context = copy_context()  # not that of whoever puts an item
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # uvloop's handles do not show it
        self.longest_lag = 0.0

    def __repr__(self) -> str:
        return (
            f"<Scheduler {self._waiting} waiting in {len(self._heap)} places,"
            f" {len(self._workers)} being served>"
        )

    def __len__(self) -> int:
        return self._waiting

    @property
    def stretch(self) -> float:
        """How many times longer than asked for items wait now, so that the budget holds."""
        return 1 / self._clock.pace

    @property
    def rate(self) -> float:
        """Services a second over all items; may be changed at any time."""
        return self._budget.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._budget.rate = rate

    def start(self) -> None:
        """Start serving."""
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time
        self._start_workers(self._loop)

    async def stop(self) -> None:
        """Stop serving; nothing is served after this."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def put(self, item: _T, delay: float) -> None:
        """Make an item due in `delay` seconds instead of when it was due; with 0, before others.

        The delay is stretched while items ask for more services than the budget allows.
        """
        self.drop(item)
        now = self._now()
        demand = 1 / max(delay, _SHORTEST) if delay > 0 else 0.0
        rounded = 64 * _GROUP <= delay < _NEVER
        if rounded:
            demand = _shared_demand(round(math.log(delay) / _GROUP))
        due = self._clock.advance(now, demand) + delay if demand else -math.inf
        if rounded:
            due = math.ceil(due / _GROUP) * _GROUP
        place = item.place = (due, next(self._numbers), item, demand)
        self._waiting += 1
        heapq.heappush(self._heap, place)
        if self._heap[0] is place and self._loop is asyncio.get_running_loop():
            self._start_workers(self._loop)

    def drop(self, item: _T) -> bool:
        """Remove an item; returns whether it was waiting. One that is being served is not."""
        if item.place is None:
            return False
        self._remove(item.place, self._now())
        if len(self._heap) > 64 and len(self._heap) > 2 * self._waiting:
            self._heap = [place for place in self._heap if place[2].place is place]
            heapq.heapify(self._heap)
        return True

    def _remove(self, place: tuple[float, int, _T, float], now: float) -> None:
        place[2].place = None
        self._waiting -= 1
        self._clock.advance(now, -place[3])

    def _start_workers(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start workers for the items that are due, and set the timer to the next due time."""
        while self._loop is loop and len(self._workers) < self._most_workers:
            now = loop.time()
            wait = self._wait(now)
            if wait > 0:
                self._set_timer(now + wait, loop)
                return
            work = self._work(self._take(now), loop)
            neutral = self._context.copy()  # since this may be running in it already
            worker = neutral.run(loop.create_task, work, name="seedance-poll")
            if not worker.done():  # an eager task may have ended already
                self._workers[worker] = None

    def _set_timer(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at < math.inf:
            self._timer = loop.call_at(at, self._timer_fired, loop, context=self._context)
            self._timer_at = at

    def _timer_fired(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._note_lag(loop.time() - self._timer_at)
        self._start_workers(loop)

    def _note_lag(self, lag: float) -> None:
        self.longest_lag = max(self.longest_lag, lag)
        if lag >= LAG_WARNING:
            _log.warning(
                "the event loop was blocked for %.1f seconds; answers waited meanwhile, and a"
                " submit whose answer waits too long becomes uncertain: keep slow calls off it",
                lag,
            )

    async def _work(self, item: _T, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        try:
            await self._serve_once(item, loop)
            while self._wait(now := loop.time()) <= 0:
                await self._serve_once(self._take(now), loop)
        finally:
            self._workers.pop(task, None)
            if not is_broken_off(loop):
                self._start_workers(loop)

    async def _serve_once(self, item: _T, loop: asyncio.AbstractEventLoop) -> None:
        try:
            delay = await self._serve(item)
        except (Exception, asyncio.CancelledError) as error:
            if was_cancelled(error) or is_broken_off(loop):
                raise
            _log.exception("serving %r failed; trying again in a minute", item)
            delay = 60.0
        if delay is not None and item.place is None:
            self.put(item, delay)

    def _wait(self, now: float) -> float:
        """Seconds until an item is due and the budget allows it; infinite if none waits."""
        heap = self._heap
        while heap and heap[0][2].place is not heap[0]:
            heapq.heappop(heap)
        if not heap:
            return math.inf
        early = heap[0][0] - self._clock.advance(now)
        overdue = early < _TICK
        self._clock.set_pace(overdue=overdue)
        return self._budget.wait(now) if overdue else max(early, self._budget.wait(now))

    def _take(self, now: float) -> _T:
        """Remove the first item from the heap, to be served now."""
        place = heapq.heappop(self._heap)
        self._remove(place, now)
        self._budget.spend(now)
        return place[2]


class _Clock:
    """A clock that runs slower while items wait for the budget.

    Its pace is the budget's rate divided by the services a second that are asked for. A change of
    the pace moves all due times on this clock at once, however many they are. While nothing is
    overdue it runs at the usual pace, so that no part of the budget is left unused.
    """

    def __init__(self, budget: RateBudget) -> None:
        self._budget = budget
        self._shown, self._read_at = 0.0, -math.inf
        self._demand = 0.0
        self.pace = 1.0

    def advance(self, now: float, more_demand: float = 0.0) -> float:
        """The time it shows; items ask for this many more services a second from now on."""
        if self._read_at > -math.inf:
            self._shown += (now - self._read_at) * self.pace
        self._read_at = now
        self._demand += more_demand
        return self._shown

    def set_pace(self, *, overdue: bool) -> None:
        """Set the pace by whether items are overdue now."""
        slower = overdue and self._demand > self._budget.rate
        self.pace = self._budget.rate / self._demand if slower else 1.0
