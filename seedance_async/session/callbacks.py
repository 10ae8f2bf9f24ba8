"""What a callback means for a job of this session: a hint, which a query verifies."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

import attrs

from seedance_async.api.backoff import Backoff
from seedance_async.api.errors import SeedanceError
from seedance_async.api.models import Generation
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import JobState
from seedance_async.webhooks import WebhookReceiver

_log = logging.getLogger(__name__)
#: Status queries that callbacks may cause for one job, whatever comes.
LOOKUPS = 6
#: Different ids that callbacks may tell for one job before its own is known.
CANDIDATES = 4
#: Between the queries for an id that a callback told.
_PAUSES = Backoff(initial=1.0, maximum=15.0)


@attrs.define(eq=False, repr=False)
class _Awaited:
    """The callbacks of one job: what they told and have not been believed yet."""

    record: JobRecord
    nonce: str = ""
    told: deque[str] = attrs.field(factory=deque)
    lookups: int = 0
    warned: bool = False
    task: asyncio.Task[None] | None = None


class Hints:
    """A session's side of its callbacks: what one means for a job.

    Args:
        receiver: where they arrive; without one nothing is ever expected.
        get: one status query, sent once.
        hurry: poll a running job now.
        found: go on with an uncertain job whose id is known now; raises ValueError where that id
            is another job's.
        idle: called when a look-up is over.
        rng: the source of jitter.
    """

    def __init__(
        self,
        receiver: WebhookReceiver | None,
        *,
        get: Callable[[str], Awaitable[Generation]],
        hurry: Callable[[JobRecord], None],
        found: Callable[[JobRecord, str], Awaitable[None]],
        idle: Callable[[], None],
        rng: random.Random,
    ) -> None:
        self._receiver, self._get = receiver, get
        self._hurry, self._found, self._idle = hurry, found, idle
        self._rng = rng
        self._awaited: dict[JobRecord, _Awaited] = {}

    def __len__(self) -> int:
        return len(self._awaited)

    @property
    def busy(self) -> bool:
        """Whether the id of an uncertain job is being looked up."""
        return any(awaited.task is not None for awaited in self._awaited.values())

    def dress(self, record: JobRecord, request: GenerationRequest) -> GenerationRequest:
        """The request as it is sent: called back here, unless it names a place of its own."""
        if self._receiver is None or request.webhook_url is not None:
            return request
        awaited = self._awaited[record] = _Awaited(record)
        awaited.nonce = self._receiver.expect(lambda told: self._take(awaited, told))
        return attrs.evolve(request, webhook_url=self._receiver.url_for(awaited.nonce))

    def settled(self, record: JobRecord) -> None:
        """Take in that a submit has come to its end, and what was told of the job before."""
        awaited = self._awaited.get(record)
        if awaited is None:
            return
        if record.state is not JobState.UNCERTAIN:
            record.on_final(self.forget)
        told, awaited.told = awaited.told, deque()
        for request_id in told:
            self._take(awaited, request_id)

    def forget(self, record: JobRecord) -> None:
        """Expect no more of a job: it has ended, or it never was."""
        awaited = self._awaited.pop(record, None)
        if awaited is not None and self._receiver is not None:
            self._receiver.forget(awaited.nonce, ended=record.state.is_final)

    async def aclose(self) -> None:
        """Expect nothing more, and look nothing up any longer."""
        left, self._awaited = self._awaited, {}
        tasks = [awaited.task for awaited in left.values() if awaited.task is not None]
        for awaited in left.values():
            if self._receiver is not None:
                self._receiver.forget(awaited.nonce)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, awaited: _Awaited, told: str) -> None:
        """A callback told this id. It is believed in nothing, and acted on a few times at most."""
        record = awaited.record
        if record.request_id is not None:
            if told != record.request_id:
                self._contradicts(awaited, told)
            elif awaited.lookups < LOOKUPS:
                awaited.lookups += 1
                self._hurry(record)
            return
        if told not in awaited.told and len(awaited.told) < CANDIDATES:
            awaited.told.append(told)
        uncertain = record.state is JobState.UNCERTAIN
        if uncertain and awaited.task is None and awaited.lookups < LOOKUPS:
            awaited.task = asyncio.create_task(self._look_up(awaited), name="seedance-webhook")

    def _contradicts(self, awaited: _Awaited, told: str) -> None:
        if not awaited.warned:
            awaited.warned = True
            _log.warning(
                "a callback for job %s tells of %.80r, which is not its id; it is ignored",
                awaited.record.request_id or awaited.record.key,
                told,
            )

    async def _look_up(self, awaited: _Awaited) -> None:
        """Find the job of an uncertain submit among the ids told, each in turn."""
        record = awaited.record
        try:
            while awaited.told and record.state is JobState.UNCERTAIN:
                if awaited.lookups >= LOOKUPS:
                    break
                awaited.lookups += 1
                told = awaited.told.popleft()
                if await self._try(awaited, told):
                    return
                if awaited.told:
                    await asyncio.sleep(_PAUSES.delay(awaited.lookups - 1, self._rng))
        except Exception:
            _log.exception("looking up the job of the uncertain submit %s failed", record.key)
        finally:
            awaited.task = None
            self._idle()

    async def _try(self, awaited: _Awaited, told: str) -> bool:
        """Ask for one id; whether it was the job's. An id that cannot be read may be, later."""
        record = awaited.record
        try:
            generation = await self._get(told)
        except SeedanceError as error:
            _log.info("job %s may be %.80r, but: %s", record.key, told, error)
            if len(awaited.told) < CANDIDATES:
                awaited.told.append(told)
            return False
        if record.state is not JobState.UNCERTAIN:
            return True
        if not _is_of(generation, record):
            self._contradicts(awaited, told)
            return False
        try:
            await self._found(record, told)
        except ValueError:
            self._contradicts(awaited, told)
            return False
        record.on_final(self.forget)
        return True


def _is_of(generation: Generation, record: JobRecord) -> bool:
    """Whether what the server tells is what was asked for; a prompt that is not told is not."""
    prompt = record.request.prompt if record.request is not None else None
    return prompt is not None and generation.prompt == prompt
