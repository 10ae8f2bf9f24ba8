"""Reports long waits and their reason: in the log, as an event, in the statistics.

Only what is waited for, and since when, is known here. Nothing here waits or gives up.
"""

from __future__ import annotations

import asyncio
import itertools
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

#: Seconds between two looks for long waits, at least.
_PAUSE = 1.0

Awaited = Literal["network", "gate", "slot", "credits", "journal", "upload", "source", "download"]

#: What is waited for, since when by the event loop's clock, and a number that makes it unique.
Wait = tuple[Awaited, float, int]
numbers = itertools.count()

_WORDS: Mapping[Awaited, tuple[int, str]] = {
    "network": (logging.WARNING, "the network: {host} cannot be reached, or does not answer"),
    "gate": (logging.WARNING, "the gate: {host} has refused submits for now, or none got through"),
    "slot": (logging.INFO, "a slot: as many jobs are running as max_in_flight allows"),
    "credits": (logging.INFO, "the credit limit: under it submits are sent one at a time"),
    "journal": (
        logging.WARNING,
        "the journal: its disk is slow, or another session that shares it is submitting",
    ),
    "upload": (logging.INFO, "an upload of reference media, by the session's uploader"),
    "source": (logging.INFO, "jobs whose videos are media of others: to end, or to be fetched"),
    "download": (logging.WARNING, "a download: the host of the videos does not answer, or stalls"),
}


class Waits:
    """The waits of one client and of the session around it, for as long as each goes on.

    A wait that is short, as nearly all are, costs an entry in a dict and no timer of its own:

    ```
    with waits.during("journal"): ...
    ```

    Args:
        host: the API, as it may be shown.

    Attributes:
        on_long: if set, called with what is waited for, and for how many seconds so far.
        going_on: each wait, with one of `numbers`, in the order of their beginnings. To enter one,
            and to call `watch` if `watched` is false, is all that `during` does.
        watched: whether somebody looks for long ones.
    """

    def __init__(self, host: str) -> None:
        self.on_long: Callable[[Awaited, float], None] | None = None
        self.going_on: dict[Wait, None] = {}
        self.watched = False
        self._host = host
        self._told: dict[Awaited, float] = {}

    @property
    def long(self) -> dict[Awaited, float]:
        """What is waited for at this moment for longer than a short time, in seconds so far."""
        found, now = dict[Awaited, float](), _now()
        for awaited, since, _ in self.going_on:
            if now - since >= SHORT:
                found[awaited] = max(found.get(awaited, 0.0), now - since)
        return found

    @contextmanager
    def during(self, awaited: Awaited, since: float | None = None) -> Iterator[None]:
        """The block waits for this, and others did before, if that began earlier than now."""
        wait = awaited, _now() if since is None else since, next(numbers)
        self.going_on[wait] = None
        if not self.watched:
            self.watch()
        try:
            yield
        finally:
            del self.going_on[wait]

    def watch(self) -> None:
        """Look for long waits as soon as there can be one, for as long as there is any wait."""
        now = _now()
        young = (since for _, since, _ in self.going_on if since + SHORT > now)
        at = next(young, now) + SHORT
        self.watched = True
        asyncio.get_running_loop().call_at(max(at, now + _PAUSE), self._look)

    def _look(self) -> None:
        self.watched, now = False, _now()
        for awaited, since, _ in self.going_on:
            if since + SHORT <= now:
                self.tell(awaited, since)
        if self.going_on:
            self.watch()

    def tell(self, awaited: Awaited, since: float) -> None:
        """Somebody has waited since this time of the event loop: say so, if nobody did lately."""
        now = _now()
        if now - self._told.get(awaited, -math.inf) < AGAIN:
            return
        self._told[awaited] = now
        level, words = _WORDS[awaited]
        what = words.format(host=self._host)
        _log.log(level, "still waiting, after %.0f s, for %s", now - since, what)
        if self.on_long is not None:
            self.on_long(awaited, now - since)


def _now() -> float:
    return asyncio.get_running_loop().time()
