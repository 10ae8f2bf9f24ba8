"""Passes on the callbacks of jobs that another process has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from seedance_async._utils.cancellation import is_broken_off
from seedance_async.webhooks.nonces import Nonces

_log = logging.getLogger(__name__)

#: Callbacks for one job that are passed on, whatever arrives.
TIMES = 6

#: The number of jobs for which that is counted.
REMEMBERED = 10_000


class PassingOn:
    """What a receiver does with callbacks whose job is not in its process.

    Belongs to the event loop in which it is made.

    Args:
        nonces: of the jobs that other processes may have.
        note: notes that a callback for this job named this id.
    """

    def __init__(self, nonces: Nonces, note: Callable[[str, str], Awaitable[None]]) -> None:
        self._nonces, self._note = nonces, note
        self._loop = asyncio.get_running_loop()
        self._times: dict[str, int] = {}
        self._noting: set[asyncio.Task[None]] = set()

    def hint(self, nonce: str) -> Callable[[str], None] | None:
        """What is called with the id that a callback with this nonce names; None if it is forged.

        Without the secret no nonce can be made that passes, so that a forged one costs nothing.
        """
        job = None if is_broken_off(self._loop) else self._nonces.job_in(nonce)
        return None if job is None else lambda named: self._pass_on(job, named)

    async def aclose(self, within: float) -> None:
        """See through what is being noted, for some seconds at most."""
        if self._noting:
            _, left = await asyncio.wait(self._noting, timeout=within)
            for each in left:
                each.cancel()

    def _pass_on(self, job: str, named: str) -> None:
        times = self._times.pop(job, 0)
        self._times[job] = times + 1
        if len(self._times) > REMEMBERED:
            del self._times[next(iter(self._times))]
        if times < TIMES:
            task = self._loop.create_task(self._noted(job, named), name="seedance-pass-on")
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)

    async def _noted(self, job: str, named: str) -> None:
        try:
            await self._note(job, named)
        except Exception as error:
            _log.warning("a callback that named %.80r is not passed on: %s", named, error)
