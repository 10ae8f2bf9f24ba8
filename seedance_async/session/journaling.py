"""What a session writes to its journal, and when.

The intent before a submit, the acceptance before anybody hears of it, then the job's final state
and where its video is. What an entry means for a job is decided in `submitter` and `resumer`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from itertools import starmap
from typing import TYPE_CHECKING

from seedance_async._utils.cancellation import shielded
from seedance_async._utils.elapsed import Since
from seedance_async._utils.urls import redact_url
from seedance_async.api.errors import JournalError, SeedanceError, SubmitUncertainError
from seedance_async.api.long_waits import Waits
from seedance_async.api.prepared_request import PreparedRequest, changed_fields, dump_request
from seedance_async.api.request import GenerationRequest, Kind
from seedance_async.jobs.registry import JobRecord, SavedFile
from seedance_async.jobs.state import JobState
from seedance_async.session.credit_limit import PriceTable, Spending

if TYPE_CHECKING:
    from seedance_async.journal import Changes, Intent, Journal, JournalEntry, Nudging, Occurrences
    from seedance_async.session.credit_limit import CreditLimit

_log = logging.getLogger(__name__)


#: After this many requests in a row that the journal does not know, an input whose requests can no
#: longer be submitted is not searched any further for jobs of earlier runs.
STRANGERS_IN_A_ROW = 1000

#: A claim is good for this share of the time after which others take a silent session for dead: one
#: that took longer is looked at again, and a POST that would be sent later is not. The process was
#: stopped, perhaps.
SHARE_OF_DOUBT = 0.5

#: Why an attempt that came to no POST is on record as rejected.
NEVER_SENT = "it was never sent"

#: Seconds between two looks at what another session is sending.
LOOK_AGAIN = 0.25


class KeyTakenError(JournalError):
    """Another session has claimed a job since this one looked."""


class OtherAPIError(JournalError):
    """A key is that of a job of another API.

    Attributes:
        known: what the journal has of it.
    """

    def __init__(self, known: JournalEntry) -> None:
        super().__init__(f"the key {known.key!r} belongs to a job at {known.origin}")
        self.known = known


class JournalRecorder:
    """A session's side of its journal.

    Args:
        journal: where it writes.
        origin: the API that the session talks to.
        waits: tells what is waited for.

    Attributes:
        claims_last: seconds after a claim within which its submit may be sent.
    """

    def __init__(self, journal: Journal, *, origin: str, waits: Waits) -> None:
        self._journal, self._origin, self._waits = journal, origin, waits
        self.claims_last = SHARE_OF_DOUBT * journal.doubt
        self._writer = self.write_soon  # one bound method for all jobs: each keeps it
        self._opened = False
        self._occurrences: Occurrences | None = None
        self._attempts: dict[str, int] = {}  # by key: what is known of these jobs is recorded
        self._holders: dict[str, str] = {}
        self._awaited: set[str] = set()
        self._strangers = 0

    async def open(self, *, read: bool = True) -> list[JournalEntry]:
        """Open the journal; what it holds of the API that the session talks to.

        Args:
            read: whether to read all of that now, or to return nothing and look up each job when
                it comes up.

        Raises:
            JournalError: the journal cannot be used, or somebody else is writing it.
        """
        from seedance_async.journal import Occurrences  # with SQLite behind it: only if needed

        self._occurrences = Occurrences()
        await self._journal.open()
        self._opened = True
        entries = await self._entries() if read else []
        self._holders = {each.request_id: each.key for each in entries if each.request_id}
        self._awaited = {each.key for each in entries if each.state != "rejected"}
        return entries

    async def unfinished(self) -> list[tuple[JournalEntry, GenerationRequest | None]]:
        """What earlier runs left running or uncertain; with the requests, if they can be read.

        Not what another session is submitting at this moment.
        """
        from seedance_async.journal import request_in

        entries = await self._entries()
        found = ((each, request_in(each)) for each in entries if _is_unfinished(each))
        return [(entry, request) for entry, request in found if request or entry.request_id]

    async def find_unfinished(self, key: str) -> JournalEntry | None:
        """The entry with this key, if it is still one of `unfinished`."""
        known = await self._journal.find(key)
        ours = known is not None and known.origin in (None, self._origin)
        return known if known is not None and ours and _is_unfinished(known) else None

    async def _entries(self) -> list[JournalEntry]:
        """Those of the API that the session talks to; another one may use the same ids."""
        entries = await self._journal.entries()
        return [each for each in entries if each.origin in (None, self._origin)]

    @property
    def shared(self) -> Nudging | None:
        """The journal, if other sessions may write it, and it lets them pass on callbacks."""
        from seedance_async.journal import Nudging

        journal = self._journal
        return journal if isinstance(journal, Nudging) and journal.is_shared else None

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
        occurred in this one. So an input finds its own jobs again, even when lines moved. What
        counts for a named limit is another job than what does not.
        """
        assert self._occurrences is not None
        return self._occurrences.key(prepared.key_stem)

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

    async def was_sent(self, prepared: PreparedRequest, key: str | None) -> bool:
        """Whether a job with this key, or without one an equal request, was submitted before."""
        named = key if isinstance(key, str) else f"{prepared.key_stem}-1"
        known = await self._journal.find(named)
        ours = known is not None and known.origin in (None, self._origin)
        return known is not None and ours and known.state != JobState.REJECTED

    async def find(self, key: str) -> JournalEntry | None:
        """What the journal knows of a key.

        Waits while another session is submitting it: then it is accepted, refused or uncertain.

        Raises:
            OtherAPIError: it belongs to a job of another API.
        """
        try:
            known = await self._journal.find(key)
        except JournalError as error:
            _raise_without_id(error)
            raise
        if known is not None and known.is_held:
            _log.info("another session is submitting job %s; waiting for its outcome", key)
            with self._waits.during("journal"):
                while known is not None and known.is_held:
                    await asyncio.sleep(LOOK_AGAIN)
                    known = await self._journal.find(key)
        if known is not None and known.origin not in (None, self._origin):
            raise OtherAPIError(known)
        return known

    def warn_if_another(self, known: JournalEntry, prepared: PreparedRequest) -> None:
        """A key was used again for another video: what its caller gets is the earlier job."""
        if known.fingerprint == prepared.fingerprint:
            return
        try:
            before = json.loads(known.request)
        except ValueError:  # it is damaged; the job is resumed nevertheless
            return
        if not isinstance(before, dict):  # the job was attached by its id alone
            return
        changes = changed_fields(before, prepared.data)
        if changes:
            others = " and ".join(starmap(_other, changes.items()))
            _log.warning(
                "the key %r is that of a job with %s; it is not made anew", known.key, others
            )

    def was_taken(self, error: SeedanceError) -> bool:
        """Whether a submit failed only because another session has claimed the job."""
        return isinstance(error, KeyTakenError)

    async def intend(
        self,
        record: JobRecord,
        prepared: PreparedRequest,
        known: JournalEntry | None,
        credits: int | None,
        limit: CreditLimit | None,
    ) -> None:
        """Put the intent to submit on disk; cancelling the caller does not cut that short.

        Args:
            record: the job.
            prepared: its request.
            known: the entry that it reuses, or None.
            credits: what is reserved for it, or None if nobody knows what it costs.
            limit: what is told how much was spent before; None without one.

        Raises:
            JournalError, BudgetExceededError: it is not on disk; nothing must be sent.
        """
        from seedance_async.journal import Intent, kind_text

        intent = Intent(
            key=record.key,
            fingerprint=prepared.fingerprint,
            request=prepared.record,
            kind=kind_text(prepared.request),
            origin=self._origin,
            credits=credits,
            budget=prepared.budget,
            limits={} if limit is None else limit.counted(prepared.budget),
        )
        before = None if known is None else known.attempt
        while not await shielded(  # noqa: ASYNC110 - another session's submit is waited for
            self._claim(intent, self._attempts.get(record.key, before))
        ):
            await asyncio.sleep(LOOK_AGAIN)
        if limit is not None:
            limit.count_others(await self._spent_besides(record.key, intent.limits))

    async def _spent_besides(self, key: str, budgets: Iterable[str]) -> dict[str, int]:
        """What was spent, by all sessions, without the attempt that is being made."""
        claimed = await self._journal.find(key)
        own = (claimed and claimed.credits_reserved) or 0
        return {name: await self._journal.spent(name) - own for name in budgets}

    async def _claim(self, intent: Intent, after: int | None) -> bool:
        """Claim an attempt; whether there was a turn for it."""
        from seedance_async.journal import CreditsInUseError

        began = Since()
        try:
            attempt = await self._journal.claim(intent, after=after)
        except CreditsInUseError:
            return False
        except JournalError as error:
            _raise_without_id(error)
            raise
        if attempt is not None and began.seconds > self.claims_last:
            known = await self._journal.find(intent.key)
            if known is None or known.attempt != attempt:
                with suppress(JournalError):  # logged where it was written
                    await self._journal.record(attempt, state="rejected", error=NEVER_SENT)
                attempt = None
        if attempt is None:
            self._attempts.pop(intent.key, None)
            raise KeyTakenError(f"the key {intent.key!r} was claimed by somebody else meanwhile")
        self._attempts[intent.key] = attempt
        return True

    def take_back(self, record: JobRecord, reason: str = "refused for now") -> None:
        """Record that the attempt came to nothing: the submit waits, and is in no doubt."""
        attempt = self._attempts.get(record.key)
        if attempt is not None:
            self._record_soon(record, attempt, {"state": "rejected", "error": reason})

    def never_sent(self, record: JobRecord) -> None:
        """Record that a submit was never sent, so that a later run may send it."""
        self.take_back(record, NEVER_SENT)
        self._attempts.pop(record.key, None)

    def adopt(self, record: JobRecord, known: JournalEntry) -> None:
        """From now on, record what is learned of this job in its entry."""
        self._attempts[record.key] = known.attempt

    async def record_attached(self, record: JobRecord, request_id: str) -> None:
        """Record a job that the journal does not know and that was attached by its id.

        What it was asked for is not known, so the id stands for it.

        Raises:
            JournalError: it is not on record.
        """
        from seedance_async.journal import ATTACHED, Intent

        request = dump_request(GenerationRequest(f"(attached by its id, {request_id})"))
        intent = Intent(
            key=record.key,
            fingerprint=f"{ATTACHED} {request_id}",
            request=json.dumps(request),
            origin=self._origin,
        )
        self._attempts[record.key] = await shielded(self._journal.adopt(intent, request_id))

    async def write(self, record: JobRecord) -> None:
        """Record where a job is; it is on disk when this returns.

        Raises:
            JournalError: it is not; the error has the request id. It is written again when the
                job ends.
        """
        attempt = self._attempts.get(record.key)
        if attempt is not None:
            await self._journal.record(attempt, **self._changes(record))
            self._forget_if_final(record)

    async def write_outcome(self, record: JobRecord) -> None:
        """Put the outcome of a submit on disk before anybody hears of it.

        Raises:
            JournalError: it is not, and nothing worse is wrong; the error has the request id.
        """
        try:
            await shielded(self.write(record))
        except JournalError as error:
            if self.holder_of_id(record, error) is not None:
                raise
            _log.log(
                logging.WARNING if record.state is JobState.REJECTED else logging.CRITICAL,
                "job %s is %s, with the request id %s, and that is NOT on record: %s",
                record.key, record.state, record.request_id, error,
            )  # fmt: skip
            if record.error is None:
                error.request_id = record.request_id
                raise

    def holder_of_id(self, record: JobRecord, error: JournalError | None) -> str | None:
        """The key of another job, if its id is why a running job could not be recorded.

        A session that shares the journal has recorded that job since `check_new`.
        """
        from seedance_async.journal import RequestIdTakenError

        if not isinstance(error, RequestIdTakenError) or error.request_id != record.request_id:
            return None
        if error.request_id is not None:
            self._holders[error.request_id] = error.holder
        return error.holder if record.state.is_running else None

    def follow(self, record: JobRecord) -> None:
        """Record the final state of a job, once it has one."""
        if record.request_id is not None:
            self._holders.setdefault(record.request_id, record.key)
        record.on_final(self._writer)

    def write_soon(self, record: JobRecord) -> None:
        """Record where a job is, without waiting for it. Raises nothing: other watchers follow."""
        attempt = self._attempts.get(record.key)
        if attempt is not None:
            self._record_soon(record, attempt, self._changes(record))
            self._forget_if_final(record)

    async def written(self) -> JournalError | None:
        """Wait until what `write_soon` wrote is on disk, if it can be; why something is not."""
        try:
            await self._journal.flush()
        except JournalError as error:
            return error  # logged where it was written
        return None

    def _changes(self, record: JobRecord) -> Changes:
        changes, named = _as_changes(record), _named_id(record.error)
        if named is not None and self._holders.setdefault(named, record.key) != record.key:
            changes["request_id"] = None  # another job's, though that may not be on record
        return changes

    def _record_soon(self, record: JobRecord, attempt: int, changes: Changes) -> None:
        try:
            self._journal.record_soon(attempt, **changes)
        except JournalError as error:  # it is closed already
            _log.error("job %s, with the id %s: %s", record.key, record.request_id, error)

    async def write_saved(self, record: JobRecord, saved: SavedFile) -> None:
        """Record where a job's video is, for readers in any working directory.

        A failure is logged: the file is saved nevertheless.
        """
        try:
            if await self._journal.find(record.key) is not None:
                await self._journal.record_file(
                    record.key, path=saved.place, size=saved.size, sha256=saved.sha256
                )
        except JournalError as error:
            _log.error("job %s is saved to %s, but: %s", record.request_id, saved.place, error)

    async def spending(self, budgets: Iterable[str]) -> Spending:
        """What the journal's attempts have cost, as far as it is known, in all and by budget."""
        from seedance_async.journal import kind_in  # with SQLite behind it: only if needed

        prices, unpriced = PriceTable(), list[Kind]()
        for text, credits in (await self._journal.prices()).items():
            prices.learn(kind_in(text), credits)
        for text, count in (await self._journal.unpriced()).items():
            kind = kind_in(text) if text else None
            estimate = None if kind is None else prices.estimate(kind)
            if estimate is not None:
                await self._journal.price(text, estimate)
            elif kind is not None:
                unpriced += [kind] * count
        spent = {name: await self._journal.spent(name) for name in budgets}
        return Spending(spent, prices, unpriced)

    async def close(self) -> None:
        """Write what is left and close the journal, if it was opened here."""
        if self._opened:
            await self._journal.aclose()

    def _forget_if_final(self, record: JobRecord) -> None:
        if record.state.is_final:
            self._attempts.pop(record.key, None)


def _raise_without_id(error: JournalError) -> None:
    """Raise what failed before a job was sent without the id of a job whose record failed earlier.

    Who catches it would take that id for this job's.
    """
    if error.request_id is not None:
        message = f"nothing is submitted, as an earlier record has failed: {error}"
        raise JournalError(message, path=error.path) from error


def _is_unfinished(entry: JournalEntry) -> bool:
    state = JobState(entry.state)
    return not (state.has_ended or state is JobState.REJECTED or entry.is_held)


def _as_changes(record: JobRecord) -> Changes:
    return {
        "state": record.state.value,
        "request_id": record.request_id or _named_id(record.error),
        "credits_charged": record.credits_charged,
        "error": _reason(record),
        "output_url": _output_url(record),
    }


def _named_id(error: SeedanceError | None) -> str | None:
    """The id that the answer to an uncertain submit named: the next run polls it."""
    return error.request_id if isinstance(error, SubmitUncertainError) else None


def _output_url(record: JobRecord) -> str | None:
    """Where the video is, without what may be a signature: for people to read."""
    url = None if record.generation is None else record.generation.output_url
    return None if url is None else redact_url(url).encode("utf-8", "replace").decode()


def _reason(record: JobRecord) -> str | None:
    """What went wrong, as text that any journal can hold: a server may send half a character."""
    detail = record.generation.error if record.generation is not None else None
    reason = detail.message if detail is not None else None
    if isinstance(record.error, SubmitUncertainError):
        reason = record.error.reason  # a later run makes the same error of it
    elif record.error is not None:
        reason = str(record.error)
    return None if reason is None else reason.encode("utf-8", "replace").decode()


def _other(name: str, value: object) -> str:
    """A field of an earlier request in words; the URLs of its media may be secret."""
    if name == "mediaUrls":
        return "other media"
    return f"no {name}" if value is None else f"another {name}, {value!r:.60}"
