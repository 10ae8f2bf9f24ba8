"""What a session writes to its journal, and when.

The intent before a submit, the acceptance before anybody hears of it, then the job's final state
and where its video is. What an entry means for a job is decided in `submitter` and `resumer`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from seedance_async._utils.cancellation import shielded
from seedance_async.api.errors import JournalError, SeedanceError, SubmitUncertainError
from seedance_async.api.prepared_request import PreparedRequest, load_request
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord, SavedFile
from seedance_async.jobs.state import JobState
from seedance_async.session.credit_limit import PriceTable

if TYPE_CHECKING:
    from seedance_async.journal import Changes, Journal, JournalEntry, Occurrences

_log = logging.getLogger(__name__)


#: After this many requests in a row that the journal does not know, an input whose requests can no
#: longer be submitted is not searched any further for jobs of earlier runs.
STRANGERS_IN_A_ROW = 1000


class JournalRecorder:
    """A session's side of its journal.

    Args:
        journal: where it writes.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._writer = self.write_soon  # one bound method for all jobs: each keeps it
        self._opened = False
        self._occurrences: Occurrences | None = None
        self._ours: set[str] = set()
        self._intents: set[str] = set()
        self._doubtful: set[str] = set()
        self._taken_back: set[str] = set()
        self._unpriced_doubts: set[str] = set()
        self._holders: dict[str, str] = {}
        self._awaited: set[str] = set()
        self._strangers = 0

    async def open(self) -> list[JournalEntry]:
        """Open the journal; what it holds.

        Raises:
            JournalError: the journal cannot be used, or somebody else is writing it.
        """
        from seedance_async.journal import Occurrences  # with SQLite behind it: only if needed

        self._occurrences = Occurrences()
        await self._journal.open()
        self._opened = True
        entries = await self._journal.entries()
        self._holders = {each.request_id: each.key for each in entries if each.request_id}
        self._awaited = {each.key for each in entries if each.state != "rejected"}
        return entries

    async def unfinished(self) -> list[tuple[JournalEntry, GenerationRequest | None]]:
        """What earlier runs left running or uncertain; with the requests, if they can be read."""
        entries = await self._journal.entries()
        left = (each for each in entries if not JobState(each.state).has_ended)
        found = ((each, _request(each)) for each in left if each.state != JobState.REJECTED)
        return [(entry, request) for entry, request in found if request or entry.request_id]

    async def secret(self) -> bytes:
        """See `Journal.secret`."""
        return await self._journal.secret()

    @property
    def awaits_more(self) -> bool:
        """Whether jobs that an earlier run submitted have not come up again in this one."""
        return bool(self._awaited) and self._strangers < STRANGERS_IN_A_ROW

    def awaits(self, key: str, *, searching: bool) -> bool:
        """Whether this is such a job; call it once for each.

        Args:
            key: the job's.
            searching: whether the rest of the input is read for such jobs alone.
        """
        awaited = key in self._awaited
        self._awaited.discard(key)
        self._strangers = self._strangers + 1 if searching and not awaited else 0
        return awaited

    def new_key(self, prepared: PreparedRequest) -> str:
        """A key for a request whose caller gave none.

        The same request has the same key in every run: its fingerprint and how often it has
        occurred in this one. So an input finds its own jobs again, even when lines moved.
        """
        assert self._occurrences is not None
        return self._occurrences.key(prepared.fingerprint)

    def release_key(self, key: str) -> None:
        """Give an automatic key back: nothing was accepted under it, so a retry is the same job."""
        assert self._occurrences is not None
        self._occurrences.release(key)

    def take_key(self, key: str) -> None:
        """A caller gives a key: it is no longer one that an equal request may get."""
        assert self._occurrences is not None
        self._occurrences.take(key)

    def key_of(self, request_id: str) -> str | None:
        """The key of the entry with this request id."""
        return self._holders.get(request_id)

    def check_new(self, record: JobRecord, request_id: str) -> None:
        """Check that an id which the server gives a job is not known as another job's.

        Raises:
            ValueError: it belongs to a job of an earlier run.
        """
        holder = self._holders.get(request_id, record.key)
        if holder != record.key:
            raise ValueError(f"the request id {request_id!r} belongs to the earlier job {holder}")

    async def find(self, key: str) -> JournalEntry | None:
        """What the journal knows of a key."""
        return await self._journal.find(key)

    async def intend(
        self,
        record: JobRecord,
        prepared: PreparedRequest,
        known: JournalEntry | None,
        credits: int | None,
    ) -> None:
        """Put the intent to submit on disk; cancelling the caller does not cut that short.

        Args:
            record: the job.
            prepared: its request.
            known: the entry that it reuses, or None.
            credits: what is reserved for it, or None if nobody knows what it costs.

        Raises:
            JournalError: it is not on disk; nothing must be sent.
        """
        await shielded(self._intend(record, prepared, known, credits))

    async def _intend(
        self,
        record: JobRecord,
        prepared: PreparedRequest,
        known: JournalEntry | None,
        credits: int | None,
    ) -> None:
        if record.key in self._taken_back:
            self._taken_back.discard(record.key)
            known = await self._journal.find(record.key)
        if known is not None:
            mine = await self._journal.reclaim(
                record.key,
                expected=known.state,
                credits_reserved=credits or known.credits_reserved or None,
                credits_doubtful=_in_doubt(known) or None,
                fingerprint=prepared.fingerprint,
                request=prepared.body.decode(),
            )
        else:
            mine = None is await self._journal.claim(
                record.key,
                fingerprint=prepared.fingerprint,
                request=prepared.body.decode(),
                credits_reserved=credits or None,
            )
        if not mine:
            raise JournalError(f"the key {record.key!r} was claimed by somebody else meanwhile")
        if known is not None and known.state != "rejected":
            self._doubtful.add(record.key)
            if not _in_doubt(known):
                self._unpriced_doubts.add(record.key)
        self._ours.add(record.key)
        self._intents.add(record.key)

    def take_back(self, record: JobRecord) -> None:
        """Record that the intent came to nothing for now: the submit waits, and is in no doubt."""
        if record.key in self._intents:
            self._intents.discard(record.key)
            self._taken_back.add(record.key)
            changes = self._refused(record.key)
            self._update_soon(record, {**changes, "error": "refused for now"})

    def adopt(self, record: JobRecord) -> None:
        """From now on, record this job in the entry with its key."""
        self._ours.add(record.key)

    async def write(self, record: JobRecord) -> None:
        """Record where a job is; it is on disk when this returns.

        Raises:
            JournalError: it is not; the error has the request id. It is written again when the
                job ends.
        """
        if record.key not in self._ours:
            return
        self._intents.discard(record.key)
        await self._journal.update(record.key, **self._changes(record))
        self._forget_if_final(record)

    async def write_outcome(self, record: JobRecord) -> None:
        """Put the outcome of a submit on disk before anybody hears of it.

        Raises:
            JournalError: it is not, and nothing worse is wrong; the error has the request id.
        """
        try:
            await shielded(self.write(record))
        except JournalError as error:
            _log.log(
                logging.WARNING if record.state is JobState.REJECTED else logging.CRITICAL,
                "job %s is %s, with the request id %s, and that is NOT on record: %s",
                record.key, record.state, record.request_id, error,
            )  # fmt: skip
            if record.error is None:
                error.request_id = record.request_id
                raise

    def follow(self, record: JobRecord) -> None:
        """Record the final state of a job, once it has one."""
        record.on_final(self._writer)

    def write_soon(self, record: JobRecord) -> None:
        """Record where a job is, without waiting for it. Raises nothing: other watchers follow."""
        if record.key in self._ours:
            self._intents.discard(record.key)
            self._update_soon(record, self._changes(record))
            self._forget_if_final(record)

    async def written(self, record: JobRecord) -> None:
        """Wait until what `write_soon` wrote of a job is on disk, if it can be."""
        with suppress(JournalError):  # logged where it was written
            await self._journal.update(record.key)

    def never_sent(self, record: JobRecord) -> None:
        """Record that a submit was never sent, so that a later run may send it."""
        if record.key in self._intents:
            self._intents.discard(record.key)
            self._ours.discard(record.key)
            changes = self._refused(record.key)
            self._update_soon(record, {**changes, "error": "it was never sent"})

    def _update_soon(self, record: JobRecord, changes: Changes) -> None:
        try:
            self._journal.update_soon(record.key, **changes)
        except JournalError as error:  # it is closed already
            _log.error("job %s, with the id %s: %s", record.key, record.request_id, error)

    async def write_saved(self, record: JobRecord, saved: SavedFile) -> None:
        """Record where a job's video is. A failure is logged: the file is saved nevertheless."""
        try:
            if await self._journal.find(record.key) is not None:
                await self._journal.update(
                    record.key, path=str(saved.path), size=saved.size, sha256=saved.sha256
                )
        except JournalError as error:
            _log.error("job %s is saved to %s, but: %s", record.request_id, saved.path, error)

    async def close(self) -> None:
        """Write what is left and close the journal, if it was opened here."""
        if self._opened:
            await self._journal.aclose()

    def _changes(self, record: JobRecord) -> Changes:
        changes = _as_changes(record)
        named = changes["request_id"]
        if named is not None and self._holders.setdefault(named, record.key) != record.key:
            changes["request_id"] = None  # an uncertain submit, answered with another job's id
        if record.credits_charged is not None and record.key in self._unpriced_doubts:
            changes["credits_doubtful"] = record.credits_charged  # the earlier submit's price, too
        if record.state is JobState.REJECTED:
            changes |= self._refused(record.key)
        return changes

    def _refused(self, key: str) -> Changes:
        """The entry of a submit that was not accepted; doubt about an earlier submit remains."""
        state = "uncertain" if key in self._doubtful else "rejected"
        unpriced = key in self._unpriced_doubts  # nothing tells what the earlier submit cost
        return {"state": state, "credits_reserved": None if unpriced else 0}

    def _forget_if_final(self, record: JobRecord) -> None:
        if record.state.is_final:
            self._ours.discard(record.key)
            self._taken_back.discard(record.key)
            self._unpriced_doubts.discard(record.key)


def price_table(entries: Iterable[JournalEntry]) -> PriceTable:
    """The prices that earlier jobs were charged."""
    prices = PriceTable()
    for entry in entries:
        request = _request(entry) if entry.credits_charged is not None else None
        if request is not None and entry.credits_charged is not None:
            prices.learn(request, entry.credits_charged)
    return prices


def spent_on(entry: JournalEntry, prices: PriceTable) -> int:
    """What an entry's job was charged, or may have been, over all submits made for it."""
    if entry.credits_charged is not None:
        return entry.credits_charged + (entry.credits_doubtful or 0)
    if entry.credits_reserved is None and entry.state != "rejected":  # from a run without a limit
        request = _request(entry)
        guess = prices.estimate(request) if request is not None else None
        return (guess or 0) + (entry.credits_doubtful or 0)
    return _in_doubt(entry)


def unpriced(entries: Iterable[JournalEntry], prices: PriceTable) -> list[GenerationRequest]:
    """The requests that may have been charged, though nothing tells how much."""
    found = (
        _request(entry)
        for entry in entries
        if entry.credits_charged is None and entry.credits_reserved is None
        if entry.state != "rejected"
    )
    return [request for request in found if request and prices.estimate(request) is None]


def _in_doubt(entry: JournalEntry) -> int:
    """What the submits of an entry whose charge is unknown may have cost in total."""
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
        "request_id": record.request_id or _named_id(record.error),
        "credits_charged": record.credits_charged,
        "error": _reason(record),
    }


def _named_id(error: SeedanceError | None) -> str | None:
    """The id that the answer to an uncertain submit named: the next run polls it."""
    return error.request_id if isinstance(error, SubmitUncertainError) else None


def _reason(record: JobRecord) -> str | None:
    """What went wrong, as text that any journal can hold: a server may send half a character."""
    detail = record.generation.error if record.generation is not None else None
    reason = detail.message if detail is not None else None
    if record.error is not None:
        reason = str(record.error)
    return None if reason is None else reason.encode("utf-8", "replace").decode()
