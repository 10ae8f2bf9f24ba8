"""Who waits at a gate, in which order, and until when. It knows nothing of why they wait."""

from __future__ import annotations

import asyncio
import copy
import math
from collections import deque
from contextlib import suppress


class WaitingLine:
    """Callers in the order in which they came, and those who pause outside.

    Any of them may be cancelled at any moment; `was_let_in` says whether one had its turn by then,
    which must be passed on.
    """

    def __init__(self) -> None:
        self._places: deque[tuple[asyncio.Future[None], float]] = deque()
        self._pausing, self._closing = 0, asyncio.Event()
        self._closed_until = -math.inf
        self._error: Exception | None = None

    def __len__(self) -> int:
        return sum(not place.done() for place, _ in self._places)

    def __bool__(self) -> bool:
        while self._places and self._places[0][0].done():
            self._places.popleft()
        return bool(self._places)

    @property
    def is_pressed(self) -> bool:
        """Whether anybody waits, or pauses before trying again."""
        return self._pausing > 0 or bool(self)

    def join(self, since: float) -> asyncio.Future[None]:
        """A place at the end; `since`: when its call began to wait. Raises the error of `close`."""
        self._check_open()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._places.append((place, since))
        return place

    def let_one_in(self) -> None:
        """The first one enters."""
        self._places.popleft()[0].set_result(None)

    def close(self, error: Exception, until: float) -> None:
        """Fail everyone here with a copy of `error`, and until then everyone who comes."""
        self._error, self._closed_until = error, until
        self._closing.set()
        self._closing.clear()
        self.reject_since(math.inf, error)

    def reject_since(self, last: float, error: Exception, earliest: float = -math.inf) -> None:
        """Fail those who wait since then, or longer; what was before `earliest` does not count."""
        for place, since in self._places:
            if max(since, earliest) <= last and not place.done():
                place.set_exception(copy.copy(error))

    async def pause(self, seconds: float) -> None:
        """Wait outside for this long, or until `close`, whose error is raised."""
        self._check_open()
        self._pausing += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closing.wait()
        finally:
            self._pausing -= 1
        self._check_open()

    def _check_open(self) -> None:
        if self._error is not None and asyncio.get_running_loop().time() < self._closed_until:
            raise copy.copy(self._error)


def was_let_in(place: asyncio.Future[None]) -> bool:
    """Whether a place whose caller was cancelled had its turn already."""
    return place.done() and not place.cancelled() and place.exception() is None
