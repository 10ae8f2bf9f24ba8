"""`Journal`: what every journal does, wherever it keeps its entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, Unpack

from seedance_async.journal.entry import Changes, JournalEntry


class Journal(Protocol):
    """The durable record of a run. One process writes at a time.

    Whatever an awaited method wrote is durable when it returns. Cancelling the waiting takes
    nothing back: the write is made or not as if nobody had been cancelled, so whoever must know
    waits on (see `shielding`). Operations take effect in the order in which they were called.

    What every method raises:
        JournalError: the journal is not open, is closed, or belongs to another process or event
            loop; a value cannot be recorded (the error names its field) or the disk failed. An
            operation that raised has changed nothing.
    """

    async def open(self) -> None:
        """Make the journal ready; once in its life.

        Raises:
            JournalError: what is there is no journal, is damaged, comes from a newer version, or
                is being written by somebody else.
        """

    async def claim(
        self, key: str, *, fingerprint: str, request: str, credits_reserved: int | None = None
    ) -> JournalEntry | None:
        """Record the intent to submit, if nobody has this key: in one step, by one caller only.

        Args:
            key: names the job over all runs.
            fingerprint: of the request.
            request: JSON text.
            credits_reserved: what a spend guard has set aside.

        Returns:
            None if the key was free: the intent, state "submitting", is durable and the caller's.
            Otherwise the entry that holds the key, and nothing is changed.
        """

    async def reclaim(
        self,
        key: str,
        *,
        expected: str,
        credits_reserved: int | None = None,
        credits_doubtful: int | None = None,
    ) -> bool:
        """Turn an entry back into a fresh intent, if its state is `expected`, in one step.

        Args:
            key: the entry's.
            expected: "rejected", "uncertain" or "submitting".
            credits_reserved: what a spend guard has set aside.
            credits_doubtful: what earlier submits of an unknown outcome may have cost.

        Returns:
            Whether the intent is the caller's; False if the state is another or the key unknown.
        """

    async def update(self, key: str, **changes: Unpack[Changes]) -> None:
        """Record what has become of a job.

        Raises:
            JournalError: also for an unknown key, and for a request id that another key has.
                Where the changes have a request id, the error has it as `request_id`.
        """

    def update_soon(self, key: str, **changes: Unpack[Changes]) -> None:
        """The same without waiting: durable after the next flush or awaited write.

        A failure is logged and kept. The next awaited call but `update` raises it and does
        nothing else; `update` does not, so that one job's failure never keeps another's
        acceptance from the record.
        """

    async def find(self, key: str) -> JournalEntry | None:
        """The entry with this key; sees everything written before."""

    async def entries(self) -> list[JournalEntry]:
        """All entries in the order of their creation; sees everything written before."""

    async def forget(self, keys: Iterable[str]) -> int:
        """Remove entries; how many there were. Their keys are free again."""

    async def flush(self) -> None:
        """Wait until everything written before is durable."""

    async def aclose(self) -> None:
        """Flush and close. Closing again does nothing; any other use afterwards raises."""
