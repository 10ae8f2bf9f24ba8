"""A journal in Postgres, open for the thread that uses it, over as many connections as it takes.

When a connection breaks, three things may have been lost: the answer to a commit, some of the last
transactions if another server took over, and this owner's signs of life. So the first transaction
on a new connection finds out whether the last commit took effect, tells again what this journal
was told in the last minutes, and gives a sign of life. It does so before anything else is done; and
if the server is another than the one before, nobody claims for some seconds, until all have told.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import psycopg

from seedance_async.api.errors import JournalError, SeedanceError
from seedance_async.journal.database import Database
from seedance_async.journal.postgres.schema import MIGRATIONS, Connection, migrate, version_of
from seedance_async.journal.postgres.statements import PostgresStatements
from seedance_async.journal.postgres.target import Target, is_passing
from seedance_async.journal.postgres.watch import SILENT_SECONDS, Watch
from seedance_async.journal.writer import Operation, Role

_log = logging.getLogger(__name__)

#: What was told so many seconds ago is on every server that may take over.
REMEMBERED_SECONDS = 300.0

#: After another server took over, nobody claims for so many seconds. All have connected by then: an
#: idle one notices at once that its server has ended, and within ten seconds that it has vanished.
EMBARGO_SECONDS = 20.0

#: Why an attempt whose caller has gone is on record as rejected.
WITHDRAWN = "it was never sent: the journal was not to be reached in time"

#: The server, and its timeline: another one after each promotion and each restored backup.
_SERVER = (
    "SELECT (SELECT system_identifier FROM pg_control_system())::text || ' ' || "
    "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
)

Outcomes = list[tuple[Operation, Any]]


class PostgresLink:
    """The connection of one journal's thread, and what is needed to replace it.

    Args:
        target: where the journal is.
        beat: seconds between two signs of life.
        doubt: seconds of silence after which another session counts as dead.
        clock: for tests.

    Raises:
        JournalError: the tables are those of a newer release, or cannot be made.
        psycopg.Error: there is no connection.
    """

    def __init__(
        self,
        target: Target,
        *,
        beat: float,
        doubt: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._target = target
        self._sql = PostgresStatements(target.name, target.lock, clock)
        self.database = Database(self._sql, is_shared=True, beat=beat, doubt=doubt)
        self._told: deque[tuple[float, Operation, Any]] = deque()
        self._unsure: tuple[int, Outcomes] | None = None
        self._withdrawn: set[Operation] = set()
        self._marks: set[int | None] = set()  # one of them is that of the last transaction
        self.recovered: dict[Operation, Any] = {}
        connection = target.connect()
        try:
            migrate(connection, target.schema, target.lock, target.name, MIGRATIONS)
        except BaseException:
            connection.close()
            raise
        self._sql.use(connection)
        self._in_transaction(self._begin_as_owner)
        self._watch = Watch(self._sql, SILENT_SECONDS)

    def begin(self, *, writes: bool) -> None:
        """Start a transaction, on a new connection if need be, which is then brought up to date."""
        self.connect()
        self.database.begin(writes=writes)
        if writes and self._sql.batch not in self._marks:
            self._sql.close()
            raise psycopg.OperationalError("what was recorded last is gone: a backup was restored")

    def connect(self) -> None:
        """See to it that there is a connection, and that nothing was lost before it."""
        if self._sql.is_connected:
            return
        connection = self._target.connect()
        self._sql.use(connection)
        try:
            self._check_tables(connection)
            self._in_transaction(self._catch_up)
        except BaseException:
            self._sql.close()
            raise

    def _check_tables(self, connection: Connection) -> None:
        if version_of(connection, self._target.schema) < len(MIGRATIONS):
            raise psycopg.OperationalError("the server lacks the journal, or has an old one")

    def has_news(self) -> bool:
        """Whether the server has said something that nobody asked for: that it ends, say."""
        return self._sql.has_news()

    def close(self) -> None:
        """Be no owner any more, and close the connection."""
        try:
            if self._sql.is_connected:
                self._in_transaction(self.database.owners.leave)
        except psycopg.Error as error:  # others find out by its silence
            _log.info("%s was not told that this session has left: %s", self._target.name, error)
        finally:
            self._watch.end()
            self._sql.close()

    # --- transactions -----------------------------------------------------------------------

    def commit(self, outcomes: Outcomes, *, wrote: bool) -> None:
        """Commit what was done since `begin`, and remember it."""
        if not wrote:
            self.database.commit()
            return
        batch = self._mark()
        self._unsure = (batch, outcomes)
        self.database.commit()
        self._unsure, self._marks = None, {batch}
        self._remember(outcomes)

    def _mark(self) -> int:
        batch = secrets.randbits(62)
        self.database.owners.mark(batch)
        self._marks.add(batch)  # perhaps, should the answer to the commit be lost
        return batch

    def failed(self, error: Exception) -> None:
        """Something was raised since `begin`: nothing of it is on record, but for a lost answer."""
        self._roll_back(error)
        if self._sql.is_connected:
            self._unsure = None
        elif self._unsure is not None:
            _log.info("the answer to a commit was lost: %s", error)

    def withdraw(self, operation: Operation) -> None:
        """An operation was given up: if it took effect after all, that is undone."""
        if self._unsure is not None:
            self._withdrawn.add(operation)

    def check_claims(self) -> bool:
        """Whether claims can be made now, in a transaction that writes.

        Raises:
            JournalError: a newer release has changed the tables.
        """
        if self._sql.version != len(MIGRATIONS):
            message = f"a newer release has changed it to version {self._sql.version}"
            raise JournalError(f"{message}: update seedance-async", path=self._target.name)
        return self._sql.embargo_until <= self._sql.now()

    def _in_transaction(self, work: Callable[[], object]) -> None:
        try:
            self.database.begin()
            work()
            batch = self._mark()
            self.database.commit()
            self._marks = {batch}
        except BaseException as error:
            self._roll_back(error)
            self._sql.close()
            raise

    def _roll_back(self, error: BaseException) -> None:
        self.database.rollback()
        if isinstance(error, psycopg.errors.LockNotAvailable):
            self._sql.evict()

    # --- after a connection has broken --------------------------------------------------------

    def _begin_as_owner(self) -> None:
        self._check_server(is_whole=True)
        self.database.owners.register()
        self._sql.owner = self.database.owners.own

    def _catch_up(self) -> None:
        self._check_server(is_whole=self._sql.batch in self._marks)
        self.database.spending.rolled_back()
        self._settle_commit()
        self._tell_again()
        self.database.owners.beat()

    def _check_server(self, *, is_whole: bool) -> None:
        """Have nobody claim for a while if this is not the server that was written on last.

        Args:
            is_whole: whether what this owner has committed last is there.
        """
        server = self._sql.value(_SERVER)
        known = self._sql.value("SELECT server FROM journal")
        if server == known and is_whole:
            return
        until = 0.0 if known is None else self._sql.now() + EMBARGO_SECONDS
        self._sql.run("UPDATE journal SET server = ?, embargo_until = ?", server, until)
        if known is not None:
            _log.warning(
                "%s: another server has taken over, or a backup was restored; nothing new is "
                "submitted for %g seconds",
                *(self._target.name, EMBARGO_SECONDS),
            )

    def _settle_commit(self) -> None:
        """Find out whether the transaction took effect whose commit had no answer."""
        if self._unsure is None:
            return
        batch, outcomes = self._unsure
        if self._sql.batch == batch or self._has_attempt_of(outcomes):
            self._remember(outcomes)
            for operation, outcome in outcomes:
                if operation not in self._withdrawn:
                    self.recovered[operation] = outcome
                elif operation.role is Role.CLAIM and isinstance(outcome, int):
                    rejected = {"state": "rejected", "error": WITHDRAWN}
                    self.database.record(outcome, rejected)
        self._withdrawn.clear()
        self._unsure = None

    def _has_attempt_of(self, outcomes: Outcomes) -> bool:
        """Whether one of these claims is on record: others may have removed this owner since."""
        return any(
            self.database.has_attempt(outcome)
            for operation, outcome in outcomes
            if operation.role is Role.CLAIM and isinstance(outcome, int)
        )

    def _remember(self, outcomes: Outcomes) -> None:
        now = time.monotonic()
        for operation, outcome in outcomes:
            if _is_worth_telling(operation, outcome):
                self._told.append((now, operation, outcome))
        while self._told and self._told[0][0] < now - REMEMBERED_SECONDS:
            self._told.popleft()

    def _tell_again(self) -> None:
        try:
            for _, operation, outcome in self._told:
                try:
                    operation.repeat(self.database, outcome)
                except JournalError as error:
                    _log.error("not recorded again: %s", error)
        except psycopg.Error as error:
            if not is_passing(error):
                _log.critical(
                    "%s: what was recorded in the last minutes cannot be recorded again, should "
                    "the server have lost it: %s",
                    *(self._target.name, error),
                )
                self._told.clear()
            raise


def _is_worth_telling(operation: Operation, outcome: Any) -> bool:
    if operation.role is Role.CLAIM:
        return isinstance(outcome, int)
    return operation.role is Role.RECORD and not isinstance(outcome, SeedanceError)
