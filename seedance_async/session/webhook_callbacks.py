"""What a callback means for a job of this session: a hint, which a query confirms or does not.

Neither the payload nor its signature is documented, so nothing in a callback is believed. It may
make the next poll come at once, and it may name the id that an uncertain submit has lost, which is
then looked up. Polling goes on beside it. Nothing here serves HTTP or writes to the registry.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from seedance_async._utils.cancellation import is_broken_off
from seedance_async.api.backoff import Backoff
from seedance_async.api.errors import SeedanceError
from seedance_async.api.models import Generation
from seedance_async.api.prepared_request import PreparedRequest
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import FINAL_STATES, JobState
from seedance_async.session.passed_on import PassedOn
from seedance_async.webhooks import Nonces, WebhookReceiver

if TYPE_CHECKING:
    from seedance_async.journal import Nudging

_log = logging.getLogger(__name__)

#: Status queries that callbacks may cause for one job, whatever arrives.
LOOKUPS = 6

#: Different ids that callbacks may name for one job before its own is known.
CANDIDATES = 4

#: Between the queries for ids that callbacks named.
_PAUSES = Backoff(initial=1.0, maximum=15.0)


@attrs.define(eq=False, repr=False)
class _Expected:
    """The callbacks of one job: the ids that they named and that are not confirmed yet."""

    record: JobRecord
    nonce: str = ""
    candidates: deque[str] = attrs.field(factory=deque)
    lookups: int = 0
    warned: bool = False
    task: asyncio.Task[None] | None = None
    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop)


class Callbacks:
    """The callbacks that a session expects.

    Args:
        receiver: where they arrive.
        get: one status query, sent once.
        poll_soon: poll a running job now.
        resolve: continue an uncertain job whose id is known now; raises ValueError if that id is
            another job's.
        changed: called when a look-up is over.
        rng: the source of jitter.
    """

    def __init__(
        self,
        receiver: WebhookReceiver,
        *,
        get: Callable[[str], Awaitable[Generation]],
        poll_soon: Callable[[JobRecord], None],
        resolve: Callable[[JobRecord, str], Awaitable[None]],
        changed: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._receiver, self._get = receiver, get
        self._poll_soon, self._resolve, self._changed = poll_soon, resolve, changed
        self._rng = rng
        self._expected: dict[JobRecord, _Expected] = {}
        self._of_nonce: dict[str, _Expected] = {}
        self._nonces: Nonces | None = None
        self._early: dict[str, deque[str]] = {}
        self._passed_on: PassedOn | None = None
        self._pass_no_more: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._expected)

    @property
    def busy(self) -> bool:
        """Whether the id of an uncertain job is being looked up."""
        return any(expected.task is not None for expected in self._expected.values())

    def restore(self, secret: bytes, uncertain: Iterable[str]) -> None:
        """Expect the callbacks of jobs that earlier processes submitted.

        Args:
            secret: the journal's. Each job's nonce is made of it and the job's key, so that a later
                process knows the nonce without a record of it.
            uncertain: the keys of the jobs without an id. What callbacks name for them before the
                session hears of the job again is kept.
        """
        self._nonces = Nonces(secret)
        for key in uncertain:
            named = self._early[key] = deque(maxlen=CANDIDATES)
            self._receiver.expect(named.append, self._nonce(key))

    def share(self, journal: Nudging) -> None:
        """From now on, pass on and take the callbacks that arrive where their job is not.

        Args:
            journal: what the sessions share; its secret is known.
        """
        assert self._nonces is not None
        self._passed_on = PassedOn(
            journal, self._nonces, take=self._take_passed_on, is_busy=lambda: bool(self._expected)
        )
        self._pass_no_more = self._receiver.pass_on(self._passed_on.passing_on)
        self._passed_on.start()

    def with_callback_url(self, record: JobRecord, prepared: PreparedRequest) -> PreparedRequest:
        """The request as it is sent: called back here, unless it names a URL of its own."""
        if prepared.request.webhook_url is not None:
            return prepared
        return prepared.with_callback_url(self._receiver.url_for(self._expect(record)))

    def expect_again(self, record: JobRecord) -> None:
        """A job comes up again that an earlier process submitted."""
        if record.request is not None and record.request.webhook_url is None:
            self._expect(record)

    def settled(self, record: JobRecord) -> None:
        """A submit has its outcome: act on the callbacks that came before it."""
        expected = self._expected.get(record)
        if expected is None or is_broken_off(expected.loop):
            return
        if record.state is not JobState.UNCERTAIN:
            record.on_final(self.forget)
        elif self._passed_on is not None:
            self._passed_on.look_again()
        named, expected.candidates = expected.candidates, deque()
        for request_id in named:
            self._take(expected, request_id)

    def forget(self, record: JobRecord) -> None:
        """Expect no more callbacks for a job: it has ended, or was never sent."""
        expected = self._expected.pop(record, None)
        if expected is not None:
            self._of_nonce.pop(expected.nonce, None)
            self._receiver.forget(expected.nonce, ended=record.state in FINAL_STATES)

    async def aclose(self) -> None:
        """Expect no more callbacks, and end the look-ups."""
        for key in self._early:
            self._receiver.forget(self._nonce(key) or "")
        pass_no_more, self._pass_no_more = self._pass_no_more, None
        if pass_no_more is not None:
            pass_no_more()
        left, self._expected = self._expected, {}
        self._of_nonce.clear()
        tasks = [expected.task for expected in left.values() if expected.task is not None]
        for expected in left.values():
            self._receiver.forget(expected.nonce)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._passed_on is not None:
            await self._passed_on.aclose()

    def _expect(self, record: JobRecord) -> str:
        expected = self._expected[record] = _Expected(record)
        expected.candidates += dict.fromkeys(self._early.pop(record.key, ()))
        expected.nonce = self._receiver.expect(
            lambda named: self._take(expected, named), self._nonce(record.key)
        )
        self._of_nonce[expected.nonce] = expected
        return expected.nonce

    def _nonce(self, key: str) -> str | None:
        """The nonce of the job with this key; None, for a random one, without a journal."""
        return None if self._nonces is None else self._nonces.of(key)

    def _take_passed_on(self, job: str, named: str) -> bool | None:
        """Another process passes this on; see `PassedOn`."""
        assert self._nonces is not None
        nonce = self._nonces.whole(job)
        expected = self._of_nonce.get(nonce)
        if expected is None:
            return True if self._receiver.has_ended(nonce) else None
        self._take(expected, named)
        return expected.record.request_id is not None

    def _take(self, expected: _Expected, named: str) -> None:
        """A callback named this id. It is not believed, and is acted on a few times at most."""
        record = expected.record
        if record.request_id is not None:
            if named != record.request_id:
                self._warn_of_another_id(expected, named)
            elif expected.lookups < LOOKUPS:
                expected.lookups += 1
                self._poll_soon(record)
            return
        if named not in expected.candidates and len(expected.candidates) < CANDIDATES:
            expected.candidates.append(named)
        uncertain = record.state is JobState.UNCERTAIN
        if uncertain and expected.task is None and expected.lookups < LOOKUPS:
            expected.task = asyncio.create_task(self._look_up(expected), name="seedance-webhook")

    def _warn_of_another_id(self, expected: _Expected, named: str) -> None:
        if not expected.warned:
            expected.warned = True
            _log.warning(
                "a callback for job %s names %.80r, which is not its id; it is ignored",
                expected.record.request_id or expected.record.key,
                named,
            )

    async def _look_up(self, expected: _Expected) -> None:
        """Find the job of an uncertain submit among the ids that callbacks named, one by one."""
        record = expected.record
        try:
            while expected.candidates and record.state is JobState.UNCERTAIN:
                if expected.lookups >= LOOKUPS:
                    break
                expected.lookups += 1
                named = expected.candidates.popleft()
                if await self._try(expected, named):
                    return
                if expected.candidates:
                    await asyncio.sleep(_PAUSES.delay(expected.lookups - 1, self._rng))
        except Exception:
            _log.exception("looking up the job of the uncertain submit %s failed", record.key)
        finally:
            expected.task = None
            self._changed()

    async def _try(self, expected: _Expected, named: str) -> bool:
        """Query one id; whether it was the job's. One that cannot be read now may be, later."""
        record = expected.record
        try:
            generation = await self._get(named)
        except SeedanceError as error:
            _log.info("job %s may be %.80r, but: %s", record.key, named, error)
            if len(expected.candidates) < CANDIDATES:
                expected.candidates.append(named)
            return False
        if record.state is not JobState.UNCERTAIN:
            return True
        if not _matches(generation, record):
            self._warn_of_another_id(expected, named)
            return False
        try:
            await self._resolve(record, named)
        except ValueError:
            self._warn_of_another_id(expected, named)
            return False
        record.on_final(self.forget)
        return True


def _matches(generation: Generation, record: JobRecord) -> bool:
    """Whether the server's job has the prompt of ours; one that it does not show does not match."""
    return record.request is not None and generation.has_prompt(record.request.prompt)
