"""Callbacks that arrive where their job is not: passed on by the journal that the sessions share.

With several processes behind one address, a callback seldom arrives at the one that has its job.
Its nonce shows by itself that it is genuine, so it is noted in the journal, and the session that
has the job looks there every second. That is one statement a second, needs no connection besides
the journal's, and loses nothing while the database is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from seedance_async.api.errors import JournalError
from seedance_async.webhooks import Nonces, PassingOn

if TYPE_CHECKING:
    from seedance_async.journal import Nudge, Nudging

_log = logging.getLogger(__name__)

#: Seconds between two looks at what other processes passed on.
LOOK_EVERY = 1.0

#: Seconds that a session which is left waits for what it is passing on.
_CLOSING_SECONDS = 1.0


class PassedOn:
    """Passes on the callbacks of jobs that are elsewhere, and takes those for jobs that are here.

    Args:
        journal: what the sessions share.
        nonces: its nonces.
        take: a callback for this job named this id; whether nobody needs to be told that any more,
            or None if the job is not here.
        is_busy: whether there is any job whose callbacks are expected.

    Attributes:
        passing_on: what a receiver does with the callbacks of jobs that are not here.
    """

    def __init__(
        self,
        journal: Nudging,
        nonces: Nonces,
        *,
        take: Callable[[str, str], bool | None],
        is_busy: Callable[[], bool],
    ) -> None:
        self._journal, self._take, self._is_busy = journal, take, is_busy
        self.passing_on = PassingOn(nonces, journal.nudge)
        self._after = 0
        self._taken: set[int] = set()  # and kept, should this process end: of uncertain jobs
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._looking = asyncio.create_task(self._look_regularly(), name="seedance-nudges")

    def look_again(self) -> None:
        """See everything at the next look: a job has come up whose callbacks may have come."""
        self._after = 0

    async def aclose(self) -> None:
        """Look no longer, and see through what is being passed on, for a moment."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self.passing_on.aclose(_CLOSING_SECONDS)

    async def _look_regularly(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                if self._is_busy():
                    await self._look()
                failed = False
            except JournalError as error:
                if not failed:
                    _log.warning("callbacks of other processes are not seen for now: %s", error)
                failed = True

    async def _look(self) -> None:
        done: list[int] = []
        while True:
            after = self._after
            found = await self._journal.nudges(after, done)
            done = [each.number for each in found if self._is_done(each)]
            if self._after == after and found:
                self._after = found[-1].number
            if not found:
                return

    def _is_done(self, nudge: Nudge) -> bool:
        if nudge.number in self._taken:
            return False
        is_done = self._take(nudge.job, nudge.request_id)
        if is_done is False:
            self._taken.add(nudge.number)
        return bool(is_done)
