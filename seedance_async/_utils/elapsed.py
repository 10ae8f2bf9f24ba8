"""Time that has passed, with what a stopped process or a suspended machine has not seen of it."""

from __future__ import annotations

import asyncio
import time


class Since:
    """A moment, from which seconds are counted.

    The event loop's clock stands still while a machine is suspended, on Linux; the clock since its
    start does not. The one that went further counts.
    """

    __slots__ = ("_at", "_started")

    def __init__(self) -> None:
        self._at, self._started = asyncio.get_running_loop().time(), _since_start()

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return max(asyncio.get_running_loop().time() - self._at, _since_start() - self._started)


def loop_time() -> float:
    """The time of the running event loop. Where the loop is known, its own `time` is cheaper."""
    return asyncio.get_running_loop().time()


def _since_start() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
