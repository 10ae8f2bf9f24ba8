"""`Work`: makes one task after the other of its key, in the session of its process.

The one thing that an engine calls. It may be called twice for one key, here and on other machines:
the journal lets one submit through, and all get the same outcome.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from seedance_async import Backoff, SeedanceSession
from seedance_async.engines.making import Making, Means
from seedance_async.engines.results import Results
from seedance_async.engines.task import Outcome, Task

_log = logging.getLogger(__name__)

#: Between two tries of what fails for every task: a refused key, no credits, no journal.
PATIENCE = Backoff(initial=1.0, multiplier=2.0, maximum=60.0)


class Work:
    """Makes tasks in one session. Belongs to the session's event loop.

    Args:
        session: open, with a journal, which the other workers share.
        results: where videos go: a folder, a URL of a bucket, a `Results`; None to download none.
        at_once: submits that are on their way at once. What a killed process had on its way is
            uncertain, so a few are enough.
        patience: delays between tries of what fails for every task alike.

    Attributes:
        held_by: why no task can be submitted at this moment: the key is refused, say; else None.
    """

    def __init__(
        self,
        session: SeedanceSession,
        results: Results | Path | str | None = None,
        *,
        at_once: int = 8,
        patience: Backoff = PATIENCE,
    ) -> None:
        self._means = Means(
            session, Results.at(results), asyncio.Semaphore(at_once), patience, self._hold
        )
        self.held_by: str | None = None
        self._makings: dict[str, Making] = {}

    def __repr__(self) -> str:
        return f"<Work on {len(self._makings)} tasks in {self._means.session!r}>"

    @property
    def keys(self) -> set[str]:
        """The keys that are being made at this moment."""
        return set(self._makings)

    async def make(self, task: Task) -> Outcome:
        """Make a task, once: submit it if nobody has, wait for its end, download its video.

        What was done before, by any process that shares the journal, is not done again. Failures
        that concern every task, such as a refused key, are told once and waited for. If this is
        cancelled, nothing is lost: the next call for the key goes on.
        """
        return await self._making(task).outcome()

    async def cancel(self, task: Task) -> Outcome:
        """Make sure that a task which is not sent never is, and cancel it at the server otherwise.

        A `make` of the key in progress ends with the same outcome.
        """
        making = self._making(task)
        making.cancel()
        return await making.outcome()

    def _hold(self, reason: str | None) -> None:
        """Take note of why nothing can be submitted; None once something can."""
        if reason != self.held_by:
            if reason is not None:
                _log.warning("nothing can be submitted for now, and is tried again: %s", reason)
            else:
                _log.warning("submits go on")
            self.held_by = reason

    def _making(self, task: Task) -> Making:
        making = self._makings.get(task.key)
        if making is None or making.is_left:
            making = self._makings[task.key] = Making(self._means, task, making, self._made)
        return making

    def _made(self, making: Making) -> None:
        if self._makings.get(making.task.key) is making:
            del self._makings[making.task.key]
