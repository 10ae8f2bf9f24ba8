"""`Horizon`: how far back a reader of rows has to look, who has read most of them before."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

#: Seconds by which a row may be committed after one with a later time.
OVERLAP = 10.0


class Horizon:
    """How far back a look for what is new has to reach.

    A row may be committed after one with a later time, by `OVERLAP` seconds at most. So rows from
    so long before the newest one are read again; and once that is known for so long, none are.

    Args:
        clock: the monotonic one.

    Attributes:
        since: milliseconds of the database's clock; None for all rows.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = deque[tuple[float, int]]()  # when a row was seen that was the newest; its time
        self.since: int | None = None

    def saw(self, times: Iterable[int | None]) -> None:
        """Take note of the times of rows that were read."""
        now, known = self._clock(), [time for time in times if time is not None]
        newest = max(known, default=0)
        if newest > (self._seen[-1][1] if self._seen else self.since or 0):
            self._seen.append((now, newest))
            self.since = max(self.since or 0, newest - round(1000 * OVERLAP))
        while self._seen and self._seen[0][0] + OVERLAP <= now:
            self.since = max(self.since or 0, self._seen.popleft()[1])
