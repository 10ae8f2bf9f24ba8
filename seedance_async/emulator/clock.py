"""Virtual time, and waiting for a condition without polling.

Nothing here knows what it is that changes.
"""

import asyncio
from collections.abc import Callable

Predicate = Callable[[], bool]


class Clock:
    """Virtual seconds since the emulator started: real seconds times ``speed``."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    def now(self) -> float:
        """Virtual seconds since the start."""
        return (self._loop.time() - self._started) * self.speed

    def real(self, virtual_seconds: float) -> float:
        """The real seconds that this many virtual seconds take."""
        return virtual_seconds / self.speed

    def real_delay(self, seconds: float, *, virtual: bool) -> float:
        """The real seconds of a delay that is given in virtual or in real seconds."""
        return self.real(seconds) if virtual else seconds

    def call_later(self, virtual_seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``act`` after this many virtual seconds."""
        return self._loop.call_later(self.real(virtual_seconds), act)


class Changes:
    """Wakes whoever waits for a predicate, which is evaluated again after every change."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Predicate] = {}

    def notify(self) -> None:
        """Report that something has changed. Costs nothing while nobody waits."""
        for future, predicate in list(self._waiting.items()):
            if not future.done() and predicate():
                future.set_result(None)

    async def wait_until(self, predicate: Predicate) -> None:
        """Return as soon as ``predicate()`` is true; at once if it already is."""
        if predicate():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = predicate
        try:
            await future
        finally:
            del self._waiting[future]
