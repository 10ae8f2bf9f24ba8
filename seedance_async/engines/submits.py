"""`Submits`: how many submits of a worker are on their way at once, and whether any should be."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from seedance_async import Backoff, SubmitUncertainError

_log = logging.getLogger(__name__)


class Submits:
    """The submits of one session.

    Args:
        at_once: on their way at the same time. What a killed process had on its way is uncertain.
        patience: delays between tries of what fails for every task alike, one task at a time.
        max_uncertain: uncertain ones in a row after which only one is sent in the longest of these
            delays, until one is answered: each may have been charged.
        turn: waits until it is this worker's turn to send one, among all; None for no such order.

    Attributes:
        held_by: why nothing can be submitted at this moment; None if something can.
    """

    def __init__(
        self,
        *,
        at_once: int,
        patience: Backoff,
        max_uncertain: int,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._places, self._probing = asyncio.Semaphore(at_once), asyncio.Lock()
        self._patience, self._max_uncertain, self._turn = patience, max_uncertain, turn
        self._uncertain_in_a_row = self._holds_in_a_row = 0
        self._next_try = -math.inf
        self.held_by: str | None = None

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """Around one submit: waits until it may be sent, and takes note of how it ends."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._places)
            if self.held_by is not None or self._too_uncertain():
                await stack.enter_async_context(self._probing)
            if self._too_uncertain():
                self.hold(f"{self._uncertain_in_a_row} submits in a row may have been charged")
                await asyncio.sleep(self._patience.maximum)
            elif self.held_by is not None:  # others may be able to use this turn
                await asyncio.sleep(self._next_try - asyncio.get_running_loop().time())
            if self._turn is not None:
                await self._turn()
            try:
                yield
            except SubmitUncertainError:
                self._uncertain_in_a_row += 1
                raise
            self._uncertain_in_a_row = 0
            self.hold(None)

    async def pause(self, tries: int) -> None:
        """Wait before the next of some tries."""
        await asyncio.sleep(self._delay(tries))

    def hold(self, reason: str | None) -> None:
        """Take note of why nothing can be submitted; None once something can. Told once."""
        if reason is not None and self.held_by is None:
            _log.warning("nothing can be submitted for now, and is tried again: %s", reason)
        elif reason is None and self.held_by is not None:
            _log.warning("submits go on")
        self.held_by = reason
        if reason is None:
            self._holds_in_a_row = 0
        else:
            delay = self._delay(self._holds_in_a_row)
            self._next_try = asyncio.get_running_loop().time() + delay
            self._holds_in_a_row += 1

    def _delay(self, tries: int) -> float:
        return self._patience.delay(tries, random.Random())  # noqa: S311

    def _too_uncertain(self) -> bool:
        return self._uncertain_in_a_row >= self._max_uncertain
