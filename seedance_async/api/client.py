"""`SeedanceClient`: one coroutine an endpoint, with the retries that are safe for it.

What may be repeated is judged in `protocol`; who may send now is decided by two gates, one for
submits and one for everything else. No job is tracked here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, TypeVar

import attrs

from seedance_async._utils.cancellation import wait_shielded
from seedance_async._utils.plural import counted
from seedance_async.api import protocol
from seedance_async.api.errors import (
    APIError,
    AuthenticationError,
    ResponseFormatError,
    SeedanceError,
    SubmitUncertainError,
    TransportError,
)
from seedance_async.api.models import Generation, ModelInfo, Submission
from seedance_async.api.option_fields import policy, takes
from seedance_async.api.options import Endpoint, RetryPolicy, TransportOptions
from seedance_async.api.prepared_request import PreparedRequest, prepare
from seedance_async.api.protocol import WireRequest, WireResponse
from seedance_async.api.rate_limit import Gate
from seedance_async.api.request import GenerationRequest
from seedance_async.api.retry import (
    Attempts,
    Verdict,
    judge_repeatable,
    judge_submit,
    requested_wait,
    stops_submits,
)
from seedance_async.api.transport import Transport, make_transport

_log = logging.getLogger(__name__)

#: Seconds for which an authentication or credit error fails further submits unsent.
SHUT_SECONDS = 30.0

#: Seconds for which polls pause when the server refuses the key, which may be being replaced.
AUTH_PAUSE_SECONDS = 30.0

#: The outcome of a submit.
Late = Submission | SeedanceError

_T = TypeVar("_T")


def _random_if_none(rng: random.Random | None) -> random.Random:
    return random.Random() if rng is None else rng  # noqa: S311 - jitter, no secret


@attrs.frozen(eq=False, repr=False)
class ClientOptions(TransportOptions):
    """The options of a `SeedanceClient`, besides those of its transport.

    Args:
        api_key: the key; SEEDANCE_API_KEY if absent.
        base_url: the API's origin; SEEDANCE_BASE_URL if absent, else the vendor's.
        retry: see `RetryPolicy`.
        transport: "aiohttp", the default; "direct", which costs less CPU per call with thousands of
            jobs in flight; or a `Transport` of yours, which the client closes.
        rng: the source of jitter, for tests.

    Raises:
        ConfigurationError: no key, a bad base URL, or a value out of bounds.
    """

    api_key: str | None = None
    base_url: str | None = None
    retry: RetryPolicy = policy(RetryPolicy(), kw_only=True)
    transport: Transport | Literal["aiohttp", "direct"] = attrs.field(
        default="aiohttp", kw_only=True
    )
    rng: random.Random = attrs.field(default=None, converter=_random_if_none, kw_only=True)


class SeedanceClient:
    """The four endpoints of the API, one coroutine each.

    ```python
    async with SeedanceClient() as client:
        submission = await client.create(GenerationRequest("A river in autumn"))
        generation = await client.get(submission.request_id)
    ```

    It takes the options of `ClientOptions` and `TransportOptions`.

    Raises:
        ConfigurationError: no key, a bad base URL, or an option out of bounds.
    """

    @takes(ClientOptions)
    def __init__(self, *args: Any, **options: Any) -> None:
        given = ClientOptions(*args, **options)
        endpoint = Endpoint.resolve(given.api_key, given.base_url)
        self._retry, self._timeouts, self._rng = given.retry, given.timeouts, given.rng
        self.allow_local = endpoint.is_local
        self.transport = make_transport(given.transport, endpoint, given)
        self.submit_gate = Gate(given.max_connections, self._retry.backoff, self._rng)
        self.query_gate = Gate(given.max_connections, self._retry.backoff, self._rng)
        self.on_throttled: Callable[[Literal["submit", "query"], float | None], None] | None = None
        self._base_url = endpoint.base_url

    def __repr__(self) -> str:
        return f"<SeedanceClient {self._base_url}>"

    async def __aenter__(self) -> SeedanceClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self.transport.aclose()

    async def create(
        self,
        request: GenerationRequest,
        *,
        if_cancelled: Callable[[Late], None] | None = None,
    ) -> Submission:
        """Submit one job. This is the call that costs money.

        It is sent again only if it certainly did not reach the server, or if the server refused it
        for now. If the caller is cancelled while the request is in progress, the call still waits a
        few seconds (`Timeouts.submit_grace`) for the answer; `if_cancelled` is called with it, or
        it is logged.

        Raises:
            InvalidRequestError: a documented rule is broken; nothing was sent.
            SubmitUncertainError: the job may have been accepted and charged.
            APIError: the server refused the job; nothing was charged.
            TransportError: the request certainly did not reach the server, in any attempt.
        """
        prepared = prepare(request, allow_local=self.allow_local)
        return await self.create_prepared(prepared, if_cancelled or _log_late)

    async def create_prepared(
        self, prepared: PreparedRequest, if_cancelled: Callable[[Late], None]
    ) -> Submission:
        """As `create`, for a request that has been checked."""
        wire, request = protocol.build_create(prepared), prepared.request
        began, attempts = asyncio.get_running_loop().time(), None
        while True:
            async with self.submit_gate.enter(began):
                try:
                    submission = await self._post_shielded(wire, request, if_cancelled)
                except SeedanceError as error:
                    attempts = attempts or Attempts(
                        self._retry, self._rng, self.submit_gate, most=None, began=began
                    )
                    wait = self._after_refusal(error, request, attempts)
                else:
                    self.submit_gate.passed()
                    return submission
            await self.submit_gate.pause(wait)

    async def get(self, request_id: str) -> Generation:
        """The state of a job, and its output URL once it has succeeded.

        Raises:
            NotFoundError: the server knows no such job.
            APIError, TransportError: after the retries that the policy allows.
            ValueError: `request_id` cannot be one.
        """
        return await self._repeat(
            protocol.build_get(request_id), lambda r: protocol.decipher_get(r, request_id)
        )

    async def get_once(self, request_id: str) -> Generation:
        """As `get`, but sent only once, for a caller that polls anyway.

        A refused key also pauses the other calls of this client for a while; a 403 that may be
        about this job alone does not.
        """
        try:
            return await self._call(
                self.query_gate,
                protocol.build_get(request_id),
                lambda r: protocol.decipher_get(r, request_id),
            )
        except AuthenticationError as error:
            if stops_submits(error):
                self.query_gate.hold(AUTH_PAUSE_SECONDS)
            raise

    async def cancel(self, request_id: str) -> Generation:
        """Ask the server to cancel a queued or processing job; may be repeated without harm.

        The answer is not the final state: the job may have succeeded meanwhile, so call `get`.

        Raises:
            ConflictError, NotFoundError: there is nothing to cancel.
            APIError, TransportError: after the retries that the policy allows.
            ValueError: `request_id` cannot be one.
        """
        return await self._repeat(
            protocol.build_cancel(request_id), lambda r: protocol.decipher_get(r, request_id)
        )

    async def models(self) -> list[ModelInfo]:
        """The models on offer. Raises `APIError` or `TransportError` as `get` does."""
        return await self._repeat(protocol.build_models(), protocol.decipher_models)

    async def _call(
        self,
        entering: AbstractAsyncContextManager[None],
        wire: WireRequest,
        decipher: Callable[[WireResponse], _T],
    ) -> _T:
        async with entering:
            try:
                answer = decipher(await self.transport.send(wire))
            except APIError as error:
                if judge_repeatable(error) is Verdict.THROTTLED:
                    if self.on_throttled is not None:
                        self.on_throttled("query", error.retry_after)
                    self._refused(self.query_gate, error)
                raise
            self.query_gate.passed()
            return answer

    def _refused(self, gate: Gate, error: SeedanceError) -> None:
        """A rate limit has refused one call, and so those that wait behind it."""
        asked, most = requested_wait(error), self._retry.max_retry_after
        gate.refused(min(asked, most))
        patience = self._retry.throttle_timeout if asked <= most else 0.0
        gate.fail_overdue(error, patience, gate.refusing_since)

    async def _repeat(self, wire: WireRequest, decipher: Callable[[WireResponse], _T]) -> _T:
        gate, most = self.query_gate, self._retry.attempts
        began, attempts = asyncio.get_running_loop().time(), None
        while True:
            try:
                return await self._call(gate.enter(began), wire, decipher)
            except SeedanceError as error:
                verdict = judge_repeatable(error)
                if verdict is Verdict.REFUSED:
                    raise
                attempts = attempts or Attempts(
                    self._retry, self._rng, gate, most=most, began=began
                )
                wait = attempts.after(error, verdict)
            await asyncio.sleep(wait)

    async def _post_shielded(
        self,
        wire: WireRequest,
        request: GenerationRequest,
        if_cancelled: Callable[[Late], None],
    ) -> Submission:
        """One POST in a task of its own, so that cancelling the caller does not lose the answer."""
        sending = _Sent()
        task = asyncio.create_task(self._post(wire, sending))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            grace = self._timeouts.submit_grace if sending.sent else 0.0
            await wait_shielded(task, grace=grace)
            if sending.sent:
                late = _late_answer(task, request)
                if isinstance(late, Submission):
                    self.submit_gate.passed()
                if_cancelled(late)
            raise
        if task.cancelled():  # by the shutdown of the event loop or of the transport
            reason = "the task that sent it was cancelled before the answer came"
            if not sending.sent:
                raise TransportError(reason, delivered="no", transient=False)
            raise SubmitUncertainError(reason, request=request)
        error = task.exception()
        if error is not None and not isinstance(error, SeedanceError) and sending.sent:
            raise SubmitUncertainError(repr(error), request=request) from error
        return task.result()

    async def _post(self, wire: WireRequest, sending: _Sent) -> Submission:
        return protocol.decipher_create(await self.transport.send(wire, on_sent=sending.note))

    def _after_refusal(
        self, error: SeedanceError, request: GenerationRequest, attempts: Attempts
    ) -> float:
        """Seconds to wait before the submit is sent again; raises if it must not be."""
        verdict = judge_submit(error)
        if verdict in (Verdict.UNCERTAIN, Verdict.RETRY):
            self._submit_failed(error)
        if verdict is Verdict.UNCERTAIN:
            if isinstance(error, SubmitUncertainError):
                raise error
            raise _uncertain(error, request) from error
        asked = requested_wait(error)
        if verdict is Verdict.THROTTLED and self.on_throttled is not None:
            self.on_throttled("submit", asked or None)
        too_long = verdict is Verdict.THROTTLED and asked > self._retry.max_retry_after
        if stops_submits(error) or too_long:
            self.submit_gate.shut(error, SHUT_SECONDS)
            raise error
        if verdict is Verdict.REFUSED:
            self.submit_gate.answered()
            raise error
        if verdict is Verdict.THROTTLED:
            self._refused(self.submit_gate, error)
        return attempts.after(error, verdict)

    def _submit_failed(self, error: SeedanceError) -> None:
        """While nothing gets through, no more than one submit at a time is risked."""
        gate, patience = self.submit_gate, self._retry.timeout
        gate.failed()
        reason = f"not sent, because nothing got through for {counted(patience, 'second')}: {error}"
        behind = TransportError(reason, delivered="no", transient=True)
        gate.fail_overdue(behind, patience, gate.failing_since)


class _Sent:
    """Whether any part of a request may have left this machine."""

    def __init__(self) -> None:
        self.sent = False

    def note(self) -> None:
        self.sent = True


def _late_answer(task: asyncio.Task[Submission], request: GenerationRequest) -> Late:
    if task.cancelled():
        reason = "its caller was cancelled, and no answer came in time"
        return SubmitUncertainError(reason, request=request)
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, SeedanceError):
        return SubmitUncertainError(repr(error), request=request)
    uncertain = judge_submit(error) is Verdict.UNCERTAIN
    return _uncertain(error, request) if uncertain else error


def _log_late(late: Late) -> None:
    if isinstance(late, Submission):
        _log.warning("the submit of a cancelled caller was accepted: job %s", late.request_id)
    else:
        _log.warning("the submit of a cancelled caller: %s", late)


def _uncertain(error: SeedanceError, request: GenerationRequest) -> SubmitUncertainError:
    named = error.request_id if isinstance(error, ResponseFormatError) else None
    return SubmitUncertainError(str(error), request=request, request_id=named)
