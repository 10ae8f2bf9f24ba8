"""Callbacks in a process that has no worker, a web application say: noted for those that have one.

Such a process opens no journal: it would count among the workers. Each callback that is genuine is
a transaction of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from seedance_async import WebhookReceiver
from seedance_async.journal.writing import writing
from seedance_async.webhooks import Nonces, PassingOn

#: Seconds that leaving waits for what is being noted.
_CLOSING_SECONDS = 5.0


class Callbacks:
    """Passes on the callbacks that a receiver gets.

    Args:
        receiver: where they arrive.
        place: where the journal of the workers is.
    """

    def __init__(self, receiver: WebhookReceiver, place: Path | str) -> None:
        self._receiver, self._place = receiver, place
        self._passing_on: PassingOn | None = None
        self._one_by_one = asyncio.Lock()

    async def start(self) -> None:
        """Pass on what comes from now on. Raises JournalError if the journal cannot be used."""
        if self._passing_on is not None:
            return
        secret = await asyncio.to_thread(self._secret)
        self._passing_on = PassingOn(Nonces(secret), self._note)
        self._pass_no_more = self._receiver.pass_on(self._passing_on)

    async def aclose(self) -> None:
        """Pass on no more."""
        passing_on, self._passing_on = self._passing_on, None
        if passing_on is not None:
            self._pass_no_more()
            await passing_on.aclose(_CLOSING_SECONDS)

    def _secret(self) -> bytes:
        with writing(self._place) as database:
            return database.secret()

    async def _note(self, job: str, request_id: str) -> None:
        def note() -> None:
            with writing(self._place) as database:
                database.nudges.add(job, request_id)

        async with self._one_by_one:
            await asyncio.to_thread(note)
