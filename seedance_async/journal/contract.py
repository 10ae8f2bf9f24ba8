"""`Journal`: what every journal does, wherever it keeps its entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Unpack

from seedance_async.journal.entry import Changes, JournalEntry


class Journal(Protocol):
    """The durable record of a run, written by one process at a time.

    When an awaited method returns, what it wrote is durable. Cancelling the caller does not cancel
    the write: it is carried out as if nobody had been cancelled, so a caller that must know the
    outcome shields its wait. Operations take effect in the order of the calls.

    Raised by every method:
        JournalError: the journal is not open, is closed, or belongs to another process or event
            loop; a value cannot be recorded (the message names its field); or the disk failed. An
            operation that raised has changed nothing.
    """

    async def open(self) -> None:
        """Open the journal. A journal can be opened only once.

        Raises:
            JournalError: the file is not a journal, is damaged, was written by a newer version, or
                is being written by another run.
        """

    async def claim(
        self, key: str, *, fingerprint: str, request: str, credits_reserved: int | None = None
    ) -> JournalEntry | None:
        """Record the intent to submit unless the key is taken. Atomic: one caller gets the key.

        Args:
            key: the job's name over all runs.
            fingerprint: the request's fingerprint.
            request: the request as JSON text.
            credits_reserved: what the credit limit reserved.

        Returns:
            None if the key was free: the intent, in state "submitting", is durable and belongs to
            the caller. Otherwise the entry that has the key, unchanged.
        """

    async def reclaim(
        self,
        key: str,
        *,
        expected: str,
        credits_reserved: int | None = None,
        credits_doubtful: int | None = None,
        fingerprint: str | None = None,
        request: str | None = None,
    ) -> bool:
        """Turn an entry back into an intent if its state is `expected`. Atomic, like `claim`.

        Args:
            key: the entry's key.
            expected: "rejected", "uncertain" or "submitting".
            credits_reserved: what the credit limit reserved.
            credits_doubtful: what earlier submits with an unknown outcome may have cost.
            fingerprint, request: of the request that is sent now, if it is another one.

        Returns:
            Whether the intent belongs to the caller: False if the entry is in another state or
            there is no such key.
        """

    async def update(self, key: str, **changes: Unpack[Changes]) -> None:
        """Record a change of a job.

        Raises:
            JournalError: also if there is no such key or another entry has the request id. If the
                changes include a request id, the error has it as `request_id`.
        """

    def update_soon(self, key: str, **changes: Unpack[Changes]) -> None:
        """Record a change without waiting: durable after the next flush or awaited write.

        A failure is logged and kept. The next awaited call raises it and does nothing else, except
        `update`, which ignores it so that one job's failure never keeps another's acceptance from
        being recorded.
        """

    async def find(self, key: str) -> JournalEntry | None:
        """Return the entry with this key. Sees every earlier write."""

    async def entries(self) -> list[JournalEntry]:
        """Return all entries in the order of their creation. Sees every earlier write."""

    async def forget(self, keys: Iterable[str]) -> int:
        """Remove entries and return how many there were. Their keys are free again."""

    async def secret(self) -> bytes:
        """32 random bytes that the journal was created with, which no other journal has."""

    async def flush(self) -> None:
        """Wait until every earlier write is durable."""

    async def aclose(self) -> None:
        """Flush and close. Closing again does nothing; any other call then raises."""
