"""The ledger: one immutable entry for every submit received, with what was charged.

It is append-only, in memory and (if a path is given) in a file of JSON lines that is flushed
before the client is answered, so that it outlives the process. It decides nothing.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, overload

from attrs import asdict, frozen

from seedance_async.emulator.clock import Changes

Outcome = Literal["charged", "refused", "invalid", "dropped"]


@frozen(kw_only=True)
class LedgerEntry:
    """The outcome of one received submit.

    ``outcome`` is ``charged``, ``refused`` (an error response), ``invalid`` (a 400, 413 or 415: the
    request breaks the contract) or ``dropped`` (the connection was closed and nothing was
    charged). ``answered`` is false if the client could not read this outcome, because of a fault or
    because it had disconnected. ``time`` is in seconds since the epoch.
    """

    number: int
    time: float
    account: str | None
    prompt: str | None
    body: Mapping[str, Any] | None
    outcome: Outcome
    status: int | None
    code: str | None
    request_id: str | None
    credits: int
    fault: str | None
    answered: bool


@frozen(kw_only=True)
class Refund:
    """Credits returned for a job that failed or was cancelled."""

    time: float
    account: str
    request_id: str
    credits: int
    reason: str


class Ledger(Sequence[LedgerEntry]):
    """The entries in order of arrival, and their sums."""

    def __init__(self, changes: Changes, path: Path | None = None) -> None:
        self._changes = changes
        self._entries: list[LedgerEntry] = []
        self._refunds: list[Refund] = []
        self._charged: Counter[str] = Counter()
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path else None
        self.credits_charged = 0

    @overload
    def __getitem__(self, index: int) -> LedgerEntry: ...
    @overload
    def __getitem__(self, index: slice) -> list[LedgerEntry]: ...
    def __getitem__(self, index: int | slice) -> LedgerEntry | list[LedgerEntry]:
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        outcomes = Counter(entry.outcome for entry in self._entries)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        submits = "1 submit" if len(self) == 1 else f"{len(self)} submits"
        return f"<Ledger {submits}: {counts or 'none'}>"

    def append(
        self,
        outcome: Outcome,
        *,
        account: str | None = None,
        body: Mapping[str, Any] | None = None,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        credits: int = 0,
        fault: str | None = None,
        answered: bool = True,
    ) -> LedgerEntry:
        """Record one submit, in the file too, before its response is sent."""
        prompt = body.get("prompt") if body else None
        entry = LedgerEntry(
            number=len(self._entries) + 1,
            time=time.time(),
            account=account,
            prompt=prompt if isinstance(prompt, str) else None,
            body=body,
            outcome=outcome,
            status=status,
            code=code,
            request_id=request_id,
            credits=credits,
            fault=fault,
            answered=answered,
        )
        self._entries.append(entry)
        if outcome == "charged":
            self._charged[entry.prompt or ""] += 1
            self.credits_charged += credits
        self._write("submit", entry)
        self._changes.notify()
        return entry

    def refund(self, *, account: str, request_id: str, credits: int, reason: str) -> None:
        """Record returned credits."""
        refund = Refund(
            time=time.time(),
            account=account,
            request_id=request_id,
            credits=credits,
            reason=reason,
        )
        self._refunds.append(refund)
        self._write("refund", refund)
        self._changes.notify()

    def _write(self, kind: str, record: LedgerEntry | Refund) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"record": kind, **asdict(record)}) + "\n")
            self._file.flush()

    @property
    def refunds(self) -> tuple[Refund, ...]:
        """The refunds in order."""
        return tuple(self._refunds)

    @property
    def charged(self) -> list[LedgerEntry]:
        """The entries of submits that were charged."""
        return [entry for entry in self._entries if entry.outcome == "charged"]

    def charged_prompts(self) -> Counter[str]:
        """How often each prompt was charged; more than once must never happen."""
        return Counter(self._charged)

    def duplicates(self) -> dict[str, int]:
        """The prompts that were charged more than once."""
        return {prompt: count for prompt, count in self._charged.items() if count > 1}

    async def wait_for(self, count: int) -> None:
        """Wait until this many submits have been received."""
        await self._changes.wait_until(lambda: len(self._entries) >= count)

    def __iter__(self) -> Iterator[LedgerEntry]:
        return iter(self._entries)

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None
