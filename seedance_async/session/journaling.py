"""What a session writes into its journal, and when: the intent before a submit, the acceptance
before anyone is told of it, then how the job ended and where its video is.

Without a journal nothing is written, and every job is new. What an entry means for a job is
decided in `launcher` and `resuming`.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from seedance_async._utils.cancellation import surely
from seedance_async.api.errors import JournalError
from seedance_async.api.protocol import dump_request, load_request
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord, SavedFile
from seedance_async.jobs.state import JobState
from seedance_async.session.credit_limit import PriceTable

if TYPE_CHECKING:
    from seedance_async.journal import Changes, Journal, JournalEntry, Occurrences

_log = logging.getLogger(__name__)


#: After so many requests in a row of which the journal knows nothing, no more jobs of earlier runs
#: are looked for in an input whose own requests cannot be submitted.
STRANGERS_IN_A_ROW = 1000


class Books:
    """A session's side of its journal.

    Args:
        journal: where it writes, or None.
    """

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._writer = self.write_soon  # one bound method for all jobs: it is kept by each
        self._opened = False
        self._occurrences: Occurrences | None = None
        self._ours: set[str] = set()
        self._intents: set[str] = set()
        self._doubtful: set[str] = set()
        self._holders: dict[str, str] = {}
        self._awaited: set[str] = set()
        self._strangers = 0

    async def open(self) -> list[JournalEntry]:
        """Open the journal; what it holds.

        Raises:
            JournalError: the journal cannot be used, or somebody else is writing it.
        """
        if self._journal is None:
            return []
        from seedance_async.journal import Occurrences  # with SQLite behind it: only if needed

        self._occurrences = Occurrences()
        await self._journal.open()
        self._opened = True
        entries = await self._journal.entries()
        self._holders = {each.request_id: each.key for each in entries if each.request_id}
        self._awaited = {each.key for each in entries if each.state != "rejected"}
        return entries

    @property
    def awaits_more(self) -> bool:
        """Whether jobs that an earlier run has sent have not come up again in this one."""
        return bool(self._awaited) and self._strangers < STRANGERS_IN_A_ROW

    def awaits(self, key: str, *, searching: bool) -> bool:
        """Whether this is such a job; each is asked for once.

        Args:
            key: the job's.
            searching: whether the input is read on for such jobs alone.
        """
        awaited = key in self._awaited
        self._awaited.discard(key)
        self._strangers = self._strangers + 1 if searching and not awaited else 0
        return awaited

    def new_key(self, request: GenerationRequest) -> str:
        """A key for a request whose caller gave none.

        With a journal, the same request has the same key in every run: its fingerprint and how
        often it has come in this one. So an input finds its own jobs again, even when lines moved.
        """
        if self._occurrences is None:
            return secrets.token_hex(8)
        from seedance_async.journal import fingerprint

        return self._occurrences.key(fingerprint(request))

    def check_new(self, record: JobRecord, request_id: str) -> None:
        """Whether an id that the server gives a job can be its own.

        Raises:
            ValueError: it is that of another job, of an earlier run.
        """
        holder = self._holders.get(request_id, record.key)
        if holder != record.key:
            raise ValueError(f"the request id {request_id!r} belongs to the earlier job {holder}")

    async def find(self, key: str) -> JournalEntry | None:
        """What the journal knows of a key."""
        return None if self._journal is None else await self._journal.find(key)

    async def intend(self, record: JobRecord, known: JournalEntry | None, credits: int) -> None:
        """Put the intent to submit on disk; a cancellation of the caller does not cut that short.

        Args:
            record: the job.
            known: the entry that it takes over, or None.
            credits: what is set aside for it.

        Raises:
            JournalError: it is not on disk; nothing must be sent.
        """
        if self._journal is not None:
            await surely(self._intend(self._journal, record, known, credits))

    async def _intend(
        self, journal: Journal, record: JobRecord, known: JournalEntry | None, credits: int
    ) -> None:
        from seedance_async.journal import fingerprint

        request = record.request
        assert request is not None
        if known is not None:
            mine = await journal.reclaim(
                record.key,
                expected=known.state,
                credits_reserved=credits or known.credits_reserved or None,
                credits_doubtful=_in_doubt(known) or None,
            )
        else:
            mine = None is await journal.claim(
                record.key,
                fingerprint=fingerprint(request),
                request=json.dumps(dump_request(request)),
                credits_reserved=credits or None,
            )
        if not mine:
            raise JournalError(f"the key {record.key!r} was claimed by somebody else meanwhile")
        if known is not None and known.state != "rejected":
            self._doubtful.add(record.key)
        self._ours.add(record.key)
        self._intents.add(record.key)

    def take_over(self, record: JobRecord) -> None:
        """From now on, what becomes of this job is written into the entry with its key."""
        if self._journal is not None:
            self._ours.add(record.key)

    async def write(self, record: JobRecord) -> None:
        """Record where a job is; it is on disk when this returns.

        Raises:
            JournalError: it is not; the error has the request id. It is written again when the
                job ends.
        """
        if self._journal is None or record.key not in self._ours:
            return
        self._intents.discard(record.key)
        await self._journal.update(record.key, **self._changes(record))
        self._forget_if_final(record)

    async def write_outcome(self, record: JobRecord) -> None:
        """Have the outcome of a submit on disk before anybody is told of it.

        Raises:
            JournalError: it is not, and nothing worse is wrong; the error has the request id.
        """
        try:
            if self._journal is not None:
                await surely(self.write(record))
        except JournalError as error:
            _log.critical(
                "job %s is %s, with the request id %s, and that is NOT on record: %s",
                record.key, record.state, record.request_id, error,
            )  # fmt: skip
            if record.error is None:
                error.request_id = record.request_id
                raise

    def follow(self, record: JobRecord) -> None:
        """Record how a job ends, once it does."""
        if self._journal is not None:
            record.on_final(self._writer)

    def write_soon(self, record: JobRecord) -> None:
        """Record where a job is, without waiting for it. Raises nothing: others are told after."""
        if record.key in self._ours:
            self._intents.discard(record.key)
            self._update_soon(record, self._changes(record))
            self._forget_if_final(record)

    async def written(self, record: JobRecord) -> None:
        """Wait until what was written of a job without waiting is on disk, if it can be."""
        if self._journal is not None:
            with suppress(JournalError):  # logged where it was written
                await self._journal.update(record.key)

    def never_sent(self, record: JobRecord) -> None:
        """Record that an intent came to nothing, so that a later run may submit it."""
        if record.key in self._intents:
            self._intents.discard(record.key)
            self._ours.discard(record.key)
            changes = self._refused(record.key)
            self._update_soon(record, {**changes, "error": "it was never sent"})

    def _update_soon(self, record: JobRecord, changes: Changes) -> None:
        assert self._journal is not None
        try:
            self._journal.update_soon(record.key, **changes)
        except JournalError as error:  # it is closed already
            _log.error("job %s, with the id %s: %s", record.key, record.request_id, error)

    async def write_saved(self, record: JobRecord, saved: SavedFile) -> None:
        """Record where a job's video is. A failure is logged: the file is there all the same."""
        if self._journal is None:
            return
        try:
            if await self._journal.find(record.key) is not None:
                await self._journal.update(
                    record.key, path=str(saved.path), size=saved.size, sha256=saved.sha256
                )
        except JournalError as error:
            _log.error("job %s is saved to %s, but: %s", record.request_id, saved.path, error)

    async def close(self) -> None:
        """Write what is left and close the journal, if it was opened here."""
        if self._journal is not None and self._opened:
            await self._journal.aclose()

    def _changes(self, record: JobRecord) -> Changes:
        changes = _as_changes(record)
        if record.state is JobState.REJECTED:
            changes |= self._refused(record.key)
        return changes

    def _refused(self, key: str) -> Changes:
        """What a submit is that came to nothing: the doubt about an earlier one of its remains."""
        state = "uncertain" if key in self._doubtful else "rejected"
        return {"state": state, "credits_reserved": 0}

    def _forget_if_final(self, record: JobRecord) -> None:
        if record.state.is_final:
            self._ours.discard(record.key)


def price_table(entries: Iterable[JournalEntry]) -> PriceTable:
    """What earlier jobs were charged."""
    prices = PriceTable()
    for entry in entries:
        request = _request(entry) if entry.credits_charged is not None else None
        if request is not None and entry.credits_charged is not None:
            prices.learn(request, entry.credits_charged)
    return prices


def spent_on(entry: JournalEntry, prices: PriceTable) -> int:
    """What an entry's job was charged, or may have been, by all submits that were made for it."""
    if entry.credits_charged is not None:
        return entry.credits_charged + (entry.credits_doubtful or 0)
    if entry.credits_reserved is None and entry.state != "rejected":  # of a run without a limit
        request = _request(entry)
        guess = prices.estimate(request) if request is not None else None
        return (guess or 0) + (entry.credits_doubtful or 0)
    return _in_doubt(entry)


def _in_doubt(entry: JournalEntry) -> int:
    """What the submits of an entry whose charge is not known may have cost in all."""
    last = 0 if entry.state == "rejected" else entry.credits_reserved or 0
    return last + (entry.credits_doubtful or 0)


def _request(entry: JournalEntry) -> GenerationRequest | None:
    try:
        return load_request(json.loads(entry.request))
    except ValueError as error:
        _log.warning("the journal's request of job %s cannot be read: %s", entry.key, error)
        return None


def _as_changes(record: JobRecord) -> Changes:
    return {
        "state": record.state.value,
        "request_id": record.request_id,
        "credits_charged": record.credits_charged,
        "error": _told(record),
    }


def _told(record: JobRecord) -> str | None:
    """What went wrong, in words that any journal can hold: a server may send half a character."""
    detail = record.generation.error if record.generation is not None else None
    told = detail.message if detail is not None else None
    if record.error is not None:
        told = str(record.error)
    return None if told is None else told.encode("utf-8", "replace").decode()
