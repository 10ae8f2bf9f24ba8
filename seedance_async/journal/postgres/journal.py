"""The asyncio side of a journal in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from seedance_async.journal.postgres.link import PostgresLink
from seedance_async.journal.postgres.target import Target
from seedance_async.journal.postgres.writer import PatientWriter
from seedance_async.journal.threaded import ThreadedJournal
from seedance_async.journal.writer import Writer


class PostgresJournal(ThreadedJournal):
    """A `Journal` in a schema of a PostgreSQL database, which any number of processes share.

    Its tables are made when it is opened first. Each queue has a schema of its own, `seedance` or
    `seedance_<queue>`, so that no statement can reach the money of another one.

    While the server is away, claims and reads wait for it, up to `patience`; what was learnt waits
    until the journal is closed, and what is then not on record is logged as critical.

    Args:
        dsn: a URL (`postgresql://…`) or a connection string of libpq. Several hosts may be given:
            the one that takes writes is used. Its password is shown by nothing.
        queue: the name of the journal.
        lease: seconds after its last sign of life for which a session counts as one that works.
        doubt: seconds after which what a silent session was submitting is uncertain.
        patience: seconds that a claim or a read waits for a server that is away.
        clock: for tests: returns seconds since the epoch, in place of the server's clock.

    Raises:
        ValueError: the DSN or a number cannot be used.
        ConfigurationError: the extra `postgres` is not installed.
    """

    def __init__(
        self,
        dsn: str,
        queue: str = "default",
        *,
        lease: float = 60.0,
        doubt: float = 300.0,
        patience: float = 300.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        for name, seconds in (("lease", lease), ("doubt", doubt), ("patience", patience)):
            if not seconds > 0:
                raise ValueError(f"{name} must be above 0 seconds, not {seconds!r}")
        self._target = Target(dsn, queue)
        super().__init__(self._target.name)
        self.doubt, self._lease, self._patience, self._clock = doubt, lease, patience, clock

    def _new_writer(self, loop: asyncio.AbstractEventLoop) -> Writer:
        beat = self._lease / 5
        opener = partial(PostgresLink, self._target, beat=beat, doubt=self.doubt, clock=self._clock)
        return PatientWriter(self._path, loop, opener, beat=beat, patience=self._patience)
