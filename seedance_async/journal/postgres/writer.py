"""The thread of a journal in Postgres: it outlives outages of the server.

While the server is away, the thread connects again and again, and everything waits: what was learnt
until it is on record, or until the journal is closed; anything else for as long as its patience
lasts. A claim that was given up never takes effect afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from seedance_async.api.errors import JournalError
from seedance_async.journal.postgres.link import Outcomes, PostgresLink
from seedance_async.journal.postgres.target import is_passing
from seedance_async.journal.writer import Opened, Operation, Role, Writer, sign_of_life

_log = logging.getLogger(__name__)

#: Seconds before the server is tried again: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

#: For so many seconds a journal that is closed waits for a server that is away.
CLOSING_SECONDS = 30.0

#: For so many seconds a journal that is opened does.
OPENING_SECONDS = 10.0

#: How often a connection that nothing is asked of is looked at, in seconds.
IDLE_LOOK = 1.0

#: How often claims that wait for the end of an embargo are looked at, in seconds.
_EMBARGO_LOOK = 0.2


class PatientWriter(Writer):
    """The only thread that uses a journal's connection to Postgres.

    Args:
        path, loop, beat: see `Writer`.
        opener: connects for the first time.
        patience: seconds that an operation waits for the server, unless it records what was learnt.
    """

    def __init__(
        self,
        path: str,
        loop: asyncio.AbstractEventLoop,
        opener: Callable[[], PostgresLink],
        *,
        beat: float,
        patience: float,
    ) -> None:
        super().__init__(path, loop, opener, beat=beat)
        self._connect, self._patience = opener, patience
        self._link: PostgresLink | None = None
        self._held: list[Operation] = []  # claims that wait for the end of an embargo
        self._stop_asked = threading.Event()
        self._stopped_at = 0.0

    def stop(self) -> None:  # noqa: D102
        self._stopped_at = time.monotonic()
        self._stop_asked.set()
        super().stop()

    def _next_batch(self) -> list[Operation]:
        batch = super()._next_batch()
        if self._link is not None and not batch and self._link.has_news():
            # A connection that broke is replaced at once: a server that takes over may have to be
            # told what it lacks before its embargo ends.
            batch.append(sign_of_life())
        batch, self._held = self._held + batch, []
        return batch

    def _longest_wait(self) -> float:
        return min(self._until_beat() or 0.0, _EMBARGO_LOOK if self._held else IDLE_LOOK)

    def _open(self) -> Opened:
        """Connect; a server that starts, or has no connection left just now, is waited for."""
        until = time.monotonic() + min(self._patience, OPENING_SECONDS)
        while True:
            try:
                self._link = self._connect()
                return self._link
            except Exception as error:
                late = time.monotonic() > until or self._stop_asked.is_set()
                if late or not is_passing(error):
                    raise
            self._stop_asked.wait(_LONGEST_PAUSE / 4)

    def _commit(self, journal: Any, batch: list[Operation]) -> Outcomes:
        """Run a batch in one transaction, however long it takes to be able to."""
        waiting, pause, told = list(batch), _FIRST_PAUSE, ""
        while waiting := self._without_late(journal, waiting):
            kept = self._kept
            try:
                return self._carry_out(journal, waiting)
            except Exception as error:
                self._kept = kept
                journal.failed(error)
                if not is_passing(error):
                    return self._one_by_one(journal, waiting, error)
                if str(error) != told:
                    told = str(error)
                    _log.warning("journal %s: it is tried again: %s", self._path, told.strip())
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._take_queued(waiting)
        return []

    def _carry_out(self, journal: PostgresLink, batch: list[Operation]) -> Outcomes:
        journal.connect()
        if journal.recovered:
            return self._recovered(journal, batch)
        writes = any(each.role is not Role.READ for each in batch)
        journal.begin(writes=writes)
        outcomes: Outcomes = []
        may_claim = self._may_claim(journal, batch)
        for each in batch:
            if each.role is not Role.CLAIM or may_claim is True:
                outcomes.append((each, self._outcome(journal.database, each)))
            elif isinstance(may_claim, JournalError):
                outcomes.append((each, self._failed(each, may_claim)))
        held = [each for each in batch if each.role is Role.CLAIM and may_claim is False]
        journal.commit(outcomes, wrote=writes)
        if self._stopping:
            for each in held:
                self._give_up(journal, each)
        else:
            self._held += held
        return outcomes

    def _may_claim(self, journal: PostgresLink, batch: list[Operation]) -> bool | JournalError:
        if not any(each.role is Role.CLAIM for each in batch):
            return True
        try:
            return journal.check_claims()
        except JournalError as error:
            return error

    def _recovered(self, journal: PostgresLink, batch: list[Operation]) -> Outcomes:
        """What was committed though its answer was lost; the rest of the batch comes next."""
        found, journal.recovered = journal.recovered, {}
        done = [(each, found[each]) for each in batch if each in found]
        self._resolve([(each.future, outcome) for each, outcome in done if each.future])
        return self._commit(journal, [each for each in batch if each not in found])

    def _one_by_one(
        self, journal: PostgresLink, batch: list[Operation], error: Exception
    ) -> Outcomes:
        """The statement of one operation failed, and all of the transaction with it."""
        if len(batch) == 1:
            return [(batch[0], self._failed(batch[0], self._failure(error, batch[0])))]
        outcomes: Outcomes = []
        for each in batch:
            outcomes += self._commit(journal, [each])
        return outcomes

    def _without_late(self, journal: PostgresLink, batch: list[Operation]) -> list[Operation]:
        """Those operations that go on waiting; the others fail."""
        now = time.monotonic()
        ends = self._stop_asked.is_set() and now - self._stopped_at > CLOSING_SECONDS
        late = [each for each in batch if ends or self._is_late(each, now)]
        for each in late:
            self._give_up(journal, each)
        return [each for each in batch if each not in late] if late else batch

    def _is_late(self, operation: Operation, now: float) -> bool:
        return operation.role is not Role.RECORD and now - operation.asked_at > self._patience

    def _give_up(self, journal: PostgresLink, operation: Operation) -> None:
        journal.withdraw(operation)
        error = JournalError(
            "the server was not to be reached in time",
            path=self._path,
            request_id=operation.request_id,
        )
        if operation.role is Role.RECORD:
            _log.critical("NOT on record, and now lost: %s (%s)", error, operation.about)
        failure = self._failed(operation, error)
        if operation.future is not None:
            self._resolve([(operation.future, failure)])
