"""Whoever waits for long is told what for, once: in the log, by an event, in the statistics.

Only what is waited for, and since when, is known here. Nothing here waits or gives up.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

_log = logging.getLogger(__name__)

#: Seconds of waiting that nobody needs to be told of.
SHORT = 10.0

#: Seconds after which a wait for the same is told of again.
AGAIN = 600.0

Awaited = Literal["network", "gate", "slot", "credits", "journal"]

_WORDS: Mapping[Awaited, tuple[int, str]] = {
    "network": (logging.WARNING, "the network: {host} cannot be reached, or does not answer"),
    "gate": (logging.WARNING, "the gate: {host} has refused submits for now, or none got through"),
    "slot": (logging.INFO, "a slot: as many jobs are running as max_in_flight allows"),
    "credits": (logging.INFO, "the credit limit: under it submits are sent one at a time"),
    "journal": (logging.WARNING, "the journal: its disk is slow"),
}


class Waits:
    """The long waits of one client and of the session around it.

    Args:
        host: the API, as it may be shown.

    Attributes:
        noticed: the waits that go on and were found to be long, each with its begin.
        on_long: if set, called with what is waited for, and for how many seconds so far.
    """

    def __init__(self, host: str) -> None:
        self.on_long: Callable[[Awaited, float], None] | None = None
        self._host = host
        self.noticed: dict[tuple[Awaited, float], None] = {}
        self._told: dict[Awaited, float] = {}

    @property
    def long(self) -> dict[Awaited, float]:
        """What is waited for at this moment for longer than a short time, in seconds so far."""
        found: dict[Awaited, float] = {}
        for awaited, since in self.noticed:
            found[awaited] = max(found.get(awaited, 0.0), _now() - since)
        return found

    @contextmanager
    def during(self, awaited: Awaited, since: float | None = None) -> Iterator[None]:
        """The block waits for this, and perhaps did before, in all since a time of the loop."""
        since = _now() if since is None else since
        timer = asyncio.get_running_loop().call_at(since + SHORT, self.is_long, awaited, since)
        try:
            yield
        finally:
            timer.cancel()
            self.over(awaited, since)

    def is_long(self, awaited: Awaited, since: float) -> None:
        """Somebody has waited since this time of the event loop: tell of it, if nobody did."""
        self.noticed[awaited, since] = None
        now = _now()
        if now - self._told.get(awaited, -math.inf) < AGAIN:
            return
        self._told[awaited] = now
        level, words = _WORDS[awaited]
        _log.log(
            level, "still waiting, after %.0f s, for %s", now - since, words.format(host=self._host)
        )
        if self.on_long is not None:
            self.on_long(awaited, now - since)

    def over(self, awaited: Awaited, since: float) -> None:
        """That wait is over."""
        self.noticed.pop((awaited, since), None)


def _now() -> float:
    return asyncio.get_running_loop().time()
