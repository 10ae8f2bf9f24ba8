"""Who may send now: the gate that a rate limit closes for everyone, and the budget of polls.

Both are shared by all coroutines of a session and safe under cancellation. Time is the event
loop's monotonic clock. Nothing here knows what is sent.
"""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections import deque
from types import TracebackType

from seedance_async.backoff import Backoff


class Gate:
    """At most `limit` callers inside; after a refusal nobody, and then slowly more.

    A refusal by the server (429) concerns every caller, so it is told here once instead of being
    found out by each: `refused` shuts the gate until the server's delay, or a growing one of our
    own, is over. Then one caller goes in; each that comes through widens the gate by one, up to
    the limit again. `shut` turns everyone away with an error for a while, those waiting too.

    ```
    async with gate:
        ...
    ```
    """

    def __init__(self, limit: int, backoff: Backoff, rng: random.Random) -> None:
        self._limit = self._width = limit
        self._inside = 0
        self._backoff, self._rng = backoff, rng
        self._troubles_in_a_row = 0
        self._held_until = -math.inf
        self._shut_until = -math.inf
        self._shut_error: Exception | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._pausing: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.refusals = 0

    def __repr__(self) -> str:
        waiting = sum(not place.done() for place in self._waiting)
        return f"<Gate {self._inside}/{self._width} inside, {waiting} waiting>"

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if self._shut_error is not None and loop.time() < self._shut_until:
            raise copy.copy(self._shut_error)
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._leave()
            else:
                self._admit()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    async def pause(self, seconds: float) -> None:
        """Wait outside, but no longer than the gate is open: once it is shut, raise as it does."""
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        self._pausing.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pausing.discard(pause)

    def passed(self) -> None:
        """The server took the call of one inside: open a little wider."""
        self._troubles_in_a_row = 0
        self._width = min(self._limit, self._width + 1)
        self._admit()

    def refused(self, server_delay: float) -> None:
        """The server refused the call of one inside and asks for a delay in seconds, or 0."""
        self.refusals += 1
        self._count_trouble()
        self.hold(max(self._own_delay(), server_delay))

    def failed(self) -> None:
        """The call of one inside did not get through, for whatever reason.

        Once may happen. From the second in a row on everybody waits and one goes first, so that
        an outage is met by one call at a time and not by all that wait.
        """
        self._count_trouble()
        if self._troubles_in_a_row > 1:
            self.hold(self._own_delay())

    def _count_trouble(self) -> None:
        """Count a refusal or a failure; those of calls that were out together count once."""
        if asyncio.get_running_loop().time() >= self._held_until:
            self._troubles_in_a_row += 1

    def _own_delay(self) -> float:
        return self._backoff.delay(max(0, self._troubles_in_a_row - 1), self._rng)

    def hold(self, seconds: float) -> None:
        """Let nobody in for at least this long, and then one at first."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)
        self._width = 1

    def shut(self, error: Exception, seconds: float) -> None:
        """Turn everyone away with a copy of `error`: those waiting, and who comes meanwhile."""
        self.hold(seconds)
        self._shut_error, self._shut_until = error, self._held_until
        for place in (*self._waiting, *self._pausing):
            if not place.done():
                place.set_exception(copy.copy(error))
        self._waiting.clear()

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if not self._waiting or self._inside >= self._width:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._held_until:
            self._timer = loop.call_at(self._held_until, self._admit)
            return
        while self._waiting and self._inside < self._width:
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


class RateBudget:
    """At most `rate` events a second over all callers, evenly spaced but for a short burst.

    Pure arithmetic on the time that the caller gives (the generic cell rate algorithm).
    """

    def __init__(self, rate: float, *, burst_seconds: float = 0.05) -> None:
        self._spacing = 1 / rate
        self._slack = max(0.0, burst_seconds - self._spacing)
        self._next = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until one more event fits; 0 where it fits now."""
        return max(0.0, self._next - self._slack - now)

    def spend(self, now: float) -> None:
        """One event happens now."""
        self._next = max(self._next, now) + self._spacing
