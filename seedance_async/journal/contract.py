"""`Journal`: what every journal does, wherever it keeps its records.

Money is spent by attempts: one attempt is one POST. A job has one or more of them, and what it cost
is a sum over them. Four rules hold, whoever calls:

1. An attempt is claimed before its POST. A key has at most one attempt whose outcome is open, and
   none after one that was accepted.
2. Only proof frees a key: an attempt is "rejected" only while nothing worse is known of it. Without
   a word about its outcome it stays "submitting", which a later session reads as uncertain.
3. A request id is never replaced or given to two attempts, and a job's end never changes. An
   acceptance is recorded however late it comes.
4. Spending is never forgotten, even if the job is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, Unpack, runtime_checkable

import attrs

from seedance_async.api.errors import JournalError
from seedance_async.journal.entry import Changes, JournalEntry, checked
from seedance_async.journal.nudges import Nudge

#: The fingerprint of a job that was attached is this and its request id: its request is not known.
ATTACHED = "attached"


class CreditsInUseError(JournalError):
    """Another session sends a submit under the same limit, and what it costs has to be known first.

    Because nobody knows a price, or because little is left.
    """


class RequestIdTakenError(JournalError):
    """The id that a job is said to have is another job's.

    Attributes:
        holder: the key of that other job.
    """

    def __init__(self, request_id: str | None, holder: str, *, path: str | None = None) -> None:
        self.holder = holder
        message = f"the request id {request_id!r} is that of the entry with key {holder!r}"
        super().__init__(message, path=path, request_id=request_id)


@attrs.frozen
class Intent:
    """A submit that is about to be sent.

    Attributes:
        key: the job's name over all runs.
        fingerprint: the request's fingerprint.
        request: the request as JSON text.
        kind: what its price depends on, as `kind_text` gives it.
        origin: the API that it is sent to.
        credits: what it is expected to cost; None if nobody knows.
        budget: the named limit that it counts for, besides that on everything.
        limits: by name, the most that all attempts of a budget may cost; "" is everything.
    """

    key: str
    fingerprint: str
    request: str = attrs.field(repr=False)
    kind: str = ""
    origin: str | None = None
    credits: int | None = None
    budget: str | None = None
    limits: Mapping[str, int] = attrs.field(factory=dict)


def checked_intent(intent: Intent, *, journal: str) -> Intent:
    """The intent with plain values. Raises JournalError if one cannot be recorded."""
    values = {"credits_reserved": intent.credits}
    values |= {name: getattr(intent, name) for name in ("key", "fingerprint", "request", "origin")}
    plain = checked(values, journal=journal)
    return attrs.evolve(intent, credits=plain.pop("credits_reserved"), **plain)


class Journal(Protocol):
    """The durable record of all attempts.

    When an awaited method returns, what it wrote is durable. Cancelling the caller does not cancel
    the write: it is carried out as if nobody had been cancelled, so a caller that must know the
    outcome shields its wait. Operations take effect in the order of the calls.

    Raised by every method:
        JournalError: the journal is not open, is closed, or belongs to another process or event
            loop; a value cannot be recorded (the message names its field); or the disk failed. An
            operation that raised has changed nothing.

    Attributes:
        doubt: seconds of silence after which others take a session for dead, and what it was
            submitting for uncertain.
    """

    doubt: float

    async def open(self) -> None:
        """Open the journal. A journal can be opened only once.

        Raises:
            JournalError: the file is not a journal, is damaged, was written by a newer version, or
                is being written by another run.
        """

    async def claim(self, intent: Intent, *, after: int | None = None) -> int | None:
        """Record that a submit is about to be sent. Atomic: one caller gets the key.

        Args:
            intent: what is sent.
            after: the number of the job's last attempt as the caller knows it; None for a new key.
                That attempt must have been rejected, or be uncertain.

        Returns:
            The number of the attempt, which is durable and belongs to the caller; or None if the
            job's last attempt is another one, was accepted, or is held by another session.

        Raises:
            BudgetExceededError: it does not fit in one of the limits.
            CreditsInUseError: another session is sending a submit under one of the limits, and what
                it costs has to be known first; try again.
            JournalError: it is not on record; nothing must be sent.
        """

    async def adopt(self, intent: Intent, request_id: str) -> int:
        """Record a job that was submitted without this journal: accepted, at a cost of its own.

        Args:
            intent: what is known of it.
            request_id: the server's id.

        Returns:
            The number of its attempt; of the attempt that has the id already, if there is one.

        Raises:
            JournalError: also if the key is taken by another job.
        """

    async def record(self, attempt: int, **changes: Unpack[Changes]) -> None:
        """Record what is known of an attempt and its job; see the rules of this module.

        A change that contradicts something better known is ignored. A second request id of the
        same attempt is recorded as an attempt of its own, and logged.

        Raises:
            JournalError: also if there is no such attempt, or another one has the request id. If
                the changes include a request id, the error has it as `request_id`.
        """

    def record_soon(self, attempt: int, **changes: Unpack[Changes]) -> None:
        """As `record`, without waiting: durable after the next flush or awaited write.

        A failure is logged and kept. The next awaited call raises it and does nothing else, except
        `record`, which ignores it so that one job's failure never keeps another's acceptance from
        being recorded.
        """

    async def record_file(self, key: str, *, path: str, size: int, sha256: str) -> None:
        """Record where a job's video was saved. Raises JournalError if there is no such key."""

    async def find(self, key: str) -> JournalEntry | None:
        """Return the entry with this key. Sees every earlier write."""

    async def entries(self) -> list[JournalEntry]:
        """Return all entries in the order of their creation. Sees every earlier write."""

    async def forget(self, keys: Iterable[str]) -> int:
        """Remove jobs and return how many there were. Their keys are free again.

        What they have cost still counts.
        """

    async def spent(self, budget: str = "") -> int:
        """What all attempts were charged, or may have been, as far as prices are known."""

    async def prices(self) -> dict[str, int]:
        """By kind, the most that was ever charged."""

    async def unpriced(self) -> dict[str, int]:
        """By kind, how many attempts may have been charged though nothing tells how much."""

    async def price(self, kind: str, credits: int) -> None:
        """Count the unpriced attempts of a kind as this much each."""

    async def secret(self) -> bytes:
        """32 random bytes that the journal was created with, which no other journal has."""

    async def flush(self) -> None:
        """Wait until every earlier write is durable."""

    async def aclose(self) -> None:
        """Flush and close. Closing again does nothing; any other call then raises."""


@runtime_checkable
class Nudging(Protocol):
    """A journal whose sessions tell each other what callbacks named; see `ThreadedJournal`."""

    @property
    def is_shared(self) -> bool:
        """Whether other sessions may write it at the same time."""

    async def nudge(self, job: str, request_id: str) -> None:
        """A callback named this id here: tell the session that has the job."""

    async def nudges(self, after: int, done: Collection[int] = ()) -> list[Nudge]:
        """What callbacks named in other sessions; `done` is of no use any more."""
