"""`Turns`: when a worker may send, where all share a known rate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

#: Seconds from now within which a worker takes several turns, so that it need not ask for each when
#: it comes.
AHEAD = 1.0

#: A wait of so many seconds, or spacings, is logged.
LONG, MANY = 10.0, 5


class Turns:
    """The turns of one worker.

    Those that a worker has taken when it dies are lost for all, so it has few of them.

    Args:
        take: takes the next turn of all, and returns the seconds until it comes; it is given the
            seconds to the turn after it.
        rate: submits a second over all workers.
    """

    def __init__(self, take: Callable[[float], Awaitable[float]], rate: float) -> None:
        self._take, self._spacing = take, 1 / rate
        self._taking, self._is_told = asyncio.Lock(), False

    async def wait(self) -> None:
        """Wait for a turn."""
        async with self._taking:
            seconds = await self._take(self._spacing)
            self._tell(seconds)
            early = max(0.0, seconds - AHEAD)
            await asyncio.sleep(early)
        await asyncio.sleep(seconds - early)

    def _tell(self, seconds: float) -> None:
        is_long = seconds > max(LONG, MANY * self._spacing)
        if is_long and not self._is_told:
            _log.warning(
                "the next turn of the shared rate comes in %.0f s: other workers have taken those "
                "before, or one has a lower rate than this one's %g a second",
                *(seconds, 1 / self._spacing),
            )
        self._is_told = is_long
