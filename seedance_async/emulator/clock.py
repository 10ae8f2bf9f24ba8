"""Virtual time and the news of changes: how the emulator waits without polling.

Owns the speed-up of time and the waiting on predicates; knows nothing of what changes.
"""

import asyncio
from collections.abc import Callable

Predicate = Callable[[], bool]


class Clock:
    """Virtual seconds since the emulator started: real ones times ``speed``."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    def now(self) -> float:
        """Virtual seconds since the start."""
        return (self._loop.time() - self._started) * self.speed

    def real(self, virtual_seconds: float) -> float:
        """How long so many virtual seconds last in reality."""
        return virtual_seconds / self.speed

    def call_later(self, virtual_seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``act`` after so many virtual seconds."""
        return self._loop.call_later(self.real(virtual_seconds), act)


class Changes:
    """Wakes those who wait for a predicate, which is asked again at every change."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], Predicate] = {}

    def notify(self) -> None:
        """Say that something has changed. Costs nothing while nobody waits."""
        for future, predicate in list(self._waiting.items()):
            if not future.done() and predicate():
                future.set_result(None)

    async def wait_until(self, predicate: Predicate) -> None:
        """Return as soon as ``predicate()`` is true; at once if it is already."""
        if predicate():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = predicate
        try:
            await future
        finally:
            del self._waiting[future]
