"""`SeedanceClient`: one coroutine an endpoint, with the retries that are safe for it.

What may be repeated is judged in `protocol`; who may send now is decided by two gates, one for
submits and one for everything else. No job is tracked here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

import attrs

from seedance_async._utils.cancellation import wait_shielded
from seedance_async._utils.elapsed import Since
from seedance_async._utils.plural import counted
from seedance_async.api import protocol
from seedance_async.api.capabilities import Capabilities
from seedance_async.api.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    ResponseFormatError,
    SeedanceError,
    SubmitUncertainError,
    TransportError,
    UnreachableError,
)
from seedance_async.api.long_waits import SHORT, Awaited, Wait, Waits, numbers
from seedance_async.api.models import Generation, ModelInfo, Submission
from seedance_async.api.option_fields import is_a, policy, takes
from seedance_async.api.options import Endpoint, RetryPolicy, TransportOptions
from seedance_async.api.prepared_request import PreparedRequest, Preparer
from seedance_async.api.protocol import WireRequest, WireResponse
from seedance_async.api.rate_limit import Gate, GateState
from seedance_async.api.request import GenerationRequest, Violation
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

#: Seconds for which an authentication or credit error, or a host that was never reached, fails
#: further submits unsent.
SHUT_SECONDS = 30.0

#: Seconds for which polls pause when the server refuses the key, which may be being replaced.
AUTH_PAUSE_SECONDS = 30.0

#: Submits in progress at once before the first was accepted; see `Gate`.
SUBMITS_AT_FIRST = 8

#: The outcome of a submit.
Outcome = Submission | SeedanceError

#: What a gate is for: "query" is every call but a submit.
Operation = Literal["submit", "query"]

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
        strict: check requests before they are sent: by the server's list of models where that
            tells what a model takes, else by the rules of the API's page. The list is asked for
            only where a documented rule would refuse a request. False leaves all judging to the
            server, besides what cannot be sent at all.
        transport: "aiohttp", the default; "direct", which costs less CPU per call with thousands of
            jobs in flight; or a `Transport` of yours, which the client closes.
        rng: the source of jitter, for tests.

    Raises:
        ConfigurationError: no key, a bad base URL, or a value out of bounds.
    """

    api_key: str | None = None
    base_url: str | None = None
    retry: RetryPolicy = policy(RetryPolicy(), kw_only=True)
    strict: bool = attrs.field(default=True, validator=is_a(bool), kw_only=True)
    transport: Transport | Literal["aiohttp", "direct"] = attrs.field(
        default="aiohttp", kw_only=True
    )
    rng: random.Random = attrs.field(default=None, converter=_random_if_none, kw_only=True)


@attrs.define(eq=False, repr=False)
class PendingSubmit:
    """One submit on its way, as its caller follows it.

    Attributes:
        if_cancelled: called with the outcome if the caller was cancelled while it was in progress.
        before_sending: awaited before each attempt, once the gate has let it through.
        not_accepted: called after an attempt that certainly was not accepted, if another follows.
        valid_for: seconds after `before_sending` within which an attempt may be sent. A process
            that was stopped wakes up later, when others may have taken it for dead.
        may_be_sent: whether the server may have seen the present attempt, until it is proven that
            it did not.
        is_detached: whether the caller was cancelled and `if_cancelled` is still to be called.
        posted: whether the present attempt came as far as its POST.
    """

    if_cancelled: Callable[[Outcome], None]
    before_sending: Callable[[], Awaitable[None]] | None = None
    not_accepted: Callable[[], None] | None = None
    valid_for: float = math.inf
    may_be_sent: bool = False
    is_detached: bool = False
    posted: bool = False
    _ready: Since | None = attrs.field(default=None, init=False)

    async def prepare(self) -> None:
        """Await what comes before each attempt."""
        if self.before_sending is not None:
            await self.before_sending()
            self._ready = Since()

    def check(self) -> None:
        """Check that the attempt may still be sent.

        Raises:
            TransportError: it was ready too long ago; it may be made again.
        """
        if self._ready is not None and self._ready.seconds > self.valid_for:
            late = f"it was held up for {self._ready.seconds:.0f} s, and is made again"
            raise TransportError(late, delivered="no", transient=True)

    def note_sent(self) -> None:
        """The first byte is about to go. Raises as `check` does: then it must not."""
        if not self.may_be_sent:
            self.check()
        self.may_be_sent = True

    def take_back(self) -> None:
        """The attempt was certainly not accepted, and another one follows."""
        self.posted = self.may_be_sent = False
        if self.not_accepted is not None:
            self.not_accepted()


class SeedanceClient:
    """The four endpoints of the API, one coroutine each.

    ```python
    async with SeedanceClient() as client:
        submission = await client.create(GenerationRequest("A river in autumn"))
        generation = await client.get(submission.request_id)
    ```

    It takes the options of `ClientOptions` and `TransportOptions`.

    Attributes:
        waits: what its submits, and those of a session around it, wait for.
        submit_grace: seconds that a submit whose caller is cancelled may still wait for its id.
        capabilities: what the server has told of its models.

    Raises:
        ConfigurationError: no key, a bad base URL, or an option out of bounds.
    """

    @takes(ClientOptions)
    def __init__(self, *args: Any, **options: Any) -> None:
        try:
            given = ClientOptions(*args, **options)
            endpoint = Endpoint.resolve(given.api_key, given.base_url)
        except ConfigurationError as error:
            args, options = (), {}  # the key may be among them, and a traceback shows them
            raise error.with_traceback(None) from None
        args, options = (), {}
        self._retry, self._rng = given.retry, given.rng
        self.submit_grace = given.timeouts.submit_grace
        self.allow_local = endpoint.is_local
        self.capabilities = Capabilities(self.models)
        self._preparer = Preparer(
            self.capabilities, allow_local=self.allow_local, strict=given.strict
        )
        self.transport = make_transport(given.transport, endpoint, given)
        # Only a transport that says so tells when the first byte is sent; others always may have.
        self._reports_sending = getattr(self.transport, "reports_sending", False)
        self.submit_gate = Gate(
            given.max_connections, self._retry.backoff, self._rng, at_first=SUBMITS_AT_FIRST
        )
        self.query_gate = Gate(given.max_connections, self._retry.backoff, self._rng)
        self.on_throttled: Callable[[Operation, float | None], None] | None = None
        self.on_retry: Callable[[Operation, SeedanceError, float], None] | None = None
        self.on_gate_change: Callable[[Operation, GateState], None] | None = None
        self.submit_gate.on_change = partial(self._gate_changed, "submit")
        self.query_gate.on_change = partial(self._gate_changed, "query")
        self.base_url = endpoint.base_url
        self._reached = False  # whether the host was, ever
        self._lost_since: float | None = None  # when the first call failed after the last answer
        self.waits = Waits(endpoint.base_url)
        self._detached: set[asyncio.Task[Submission]] = set()

    def __repr__(self) -> str:
        return f"<SeedanceClient {getattr(self, 'base_url', 'that was refused its options')}>"

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
        """Close all connections. Submits whose callers were cancelled end by that, too."""
        await self.transport.aclose()
        self._forget_loss()
        if self._detached:
            left = set(self._detached)
            _, slow = await asyncio.wait(left, timeout=self.submit_grace)
            for task in slow:
                task.cancel()
            await asyncio.wait(left)

    async def create(
        self,
        request: GenerationRequest,
        *,
        if_cancelled: Callable[[Outcome], None] | None = None,
    ) -> Submission:
        """Submit one job. This is the call that costs money.

        It is sent again only if it certainly did not reach the server, or if the server refused it
        for now. If the caller is cancelled while the request is in progress, the call still waits a
        few seconds (`Timeouts.submit_grace`) for the answer, and then leaves the request to go on
        in the background; `if_cancelled` is called with its outcome, or it is logged.

        Raises:
            InvalidRequestError: a rule is broken; nothing was sent.
            SubmitUncertainError: the job may have been accepted and charged.
            APIError: the server refused the job; nothing was charged.
            TransportError: the request certainly did not reach the server, in any attempt.
        """
        prepared = await self._preparer.prepare(request)
        if prepared.sources:
            index, medium = next(iter(prepared.sources.items()))
            rule = "names another job, whose video only a session can take"
            raise InvalidRequestError([Violation(f"media_urls[{index}]", str(medium), rule)])
        return await self.create_prepared(prepared, PendingSubmit(if_cancelled or _log_late))

    async def create_prepared(
        self, prepared: PreparedRequest, pending: PendingSubmit
    ) -> Submission:
        """As `create`, for a request that has been checked, and whose caller follows its steps."""
        wire, request = protocol.build_create(prepared), prepared.request
        began, attempts = asyncio.get_running_loop().time(), None
        while True:
            await self._pass_gate(began, again=attempts is not None)
            try:
                if pending.before_sending is not None:
                    with self.waits.during("journal"):
                        await pending.prepare()
                submission = await self._post_shielded(wire, request, pending)
                self.submit_gate.passed()
                return submission
            except SeedanceError as error:
                if not pending.posted:  # it did not come to a POST
                    raise
                attempts = attempts or Attempts(
                    self._retry, self._rng, self.submit_gate, most=None, began=began
                )
                wait = self._after_refusal(error, request, attempts)
                pending.take_back()
            finally:
                if not pending.is_detached:  # else its place is left when the POST ends
                    self.submit_gate.leave()
            with self.waits.during("network", self._lost_since):
                await self.submit_gate.pause(wait)

    async def _pass_gate(self, began: float, *, again: bool) -> None:
        if self.submit_gate.try_enter():
            return
        lost_since = self._lost_since if again else None
        if lost_since is None:
            wait = self._begin_wait("gate")
        else:  # it has failed, and waits for the network as before
            wait = self._begin_wait("network", lost_since)
        try:
            await self.submit_gate.wait_and_enter(began)
        finally:
            del self.waits.going_on[wait]

    def _begin_wait(self, awaited: Awaited, since: float | None = None) -> Wait:
        """As `Waits.during`, by hand: this is on every submit's way."""
        waits = self.waits
        began = asyncio.get_running_loop().time() if since is None else since
        wait = awaited, began, next(numbers)
        waits.going_on[wait] = None
        if not waits.watched:
            waits.watch()
        return wait

    async def get(self, request_id: str) -> Generation:
        """The state of a job, and its output URL once it has succeeded.

        Raises:
            NotFoundError: the server knows no such job.
            APIError, TransportError: after the retries that the policy allows.
            ValueError: `request_id` cannot be one.
        """
        return await self._repeat(
            protocol.build_get(request_id), lambda r: protocol.decode_get(r, request_id)
        )

    async def get_once(self, request_id: str) -> Generation:
        """As `get`, but sent only once, for a caller that polls anyway.

        A refused key also pauses the other calls of this client for a while; a 403 that may be
        about this job alone does not.
        """
        try:
            return await self._call(
                math.inf,
                protocol.build_get(request_id),
                lambda r: protocol.decode_get(r, request_id),
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
            protocol.build_cancel(request_id), lambda r: protocol.decode_get(r, request_id)
        )

    async def models(self) -> list[ModelInfo]:
        """The models on offer. Raises `APIError` or `TransportError` as `get` does."""
        models = await self._repeat(protocol.build_models(), protocol.decode_models)
        self.capabilities.learn(models)
        return models

    async def _call(
        self,
        waiting_since: float,
        wire: WireRequest,
        decode: Callable[[WireResponse], _T],
    ) -> _T:
        gate = self.query_gate
        if not gate.try_enter():
            await gate.wait_and_enter(waiting_since)
        try:
            answer = decode(await self._send(wire))
        except APIError as error:
            if judge_repeatable(error) is Verdict.THROTTLED:
                if self.on_throttled is not None:
                    self.on_throttled("query", error.retry_after)
                self._refused(gate, error)
            raise
        else:
            gate.passed()
            return answer
        finally:
            gate.leave()

    def _gate_changed(self, operation: Operation, state: GateState) -> None:
        _log.info(
            "the server's limits, as its refusals show them, for each %s: %s", operation, state
        )
        if self.on_gate_change is not None:
            self.on_gate_change(operation, state)

    def _refused(self, gate: Gate, error: SeedanceError) -> None:
        """A rate limit has refused one call, and so those that wait behind it."""
        asked, most = requested_wait(error), self._retry.max_retry_after
        gate.refused(min(asked, most))
        patience = self._retry.throttle_timeout if asked <= most else 0.0
        gate.fail_overdue(error, patience, gate.trouble.refusing_since)

    async def _repeat(self, wire: WireRequest, decode: Callable[[WireResponse], _T]) -> _T:
        gate, most = self.query_gate, self._retry.attempts
        began, attempts = asyncio.get_running_loop().time(), None
        while True:
            try:
                return await self._call(began, wire, decode)
            except SeedanceError as error:
                verdict = judge_repeatable(error)
                if verdict is Verdict.REFUSED:
                    raise
                attempts = attempts or Attempts(
                    self._retry, self._rng, gate, most=most, began=began
                )
                wait = attempts.after(error, verdict, self._retry.timeout)
                if verdict is Verdict.RETRY and self.on_retry is not None:
                    self.on_retry("query", error, wait)
            await asyncio.sleep(wait)

    async def _post_shielded(
        self, wire: WireRequest, request: GenerationRequest, pending: PendingSubmit
    ) -> Submission:
        """One POST in a task of its own, so that cancelling the caller does not lose the answer."""
        pending.posted, pending.may_be_sent = True, not self._reports_sending
        task = asyncio.create_task(self._post(wire, pending))
        try:
            wait = self._begin_wait("network")
            try:
                await asyncio.wait({task})
            finally:
                del self.waits.going_on[wait]
        except asyncio.CancelledError:
            grace = self.submit_grace if pending.may_be_sent else 0.0
            await wait_shielded(task, grace=grace, cancel=not pending.may_be_sent)
            if pending.may_be_sent:
                self._detach(task, request, pending)
            raise
        if task.cancelled():  # by the shutdown of the event loop or of the transport
            reason = "the task that sent it was cancelled before the answer came"
            if not pending.may_be_sent:
                raise TransportError(reason, delivered="no", transient=False)
            raise SubmitUncertainError(reason, request=request)
        try:
            return task.result()
        except SeedanceError:
            raise
        except BaseException as error:
            if not pending.may_be_sent:
                raise
            raise SubmitUncertainError(repr(error), request=request) from error
        finally:
            del task  # it holds the error, whose traceback holds this frame

    async def _post(self, wire: WireRequest, pending: PendingSubmit) -> Submission:
        pending.check()
        return protocol.decode_create(await self._send(wire, pending.note_sent))

    async def _send(
        self, wire: WireRequest, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """One request; it is noted whether the host was reached."""
        try:
            answer = await self.transport.send(wire, on_sent=on_sent)
        except TransportError as error:
            self._reached = self._reached or error.delivered == "maybe"
            self._note_loss()
            raise
        self._reached = True
        self._forget_loss()
        return answer

    def _forget_loss(self) -> None:
        if self._lost_since is not None:
            self.waits.going_on.pop(("network", self._lost_since, -1), None)
            self._lost_since = None

    def _note_loss(self) -> None:
        """A call got no answer. If that goes on, those who wait for a job wait for the network."""
        now = asyncio.get_running_loop().time()
        since = self._lost_since = now if self._lost_since is None else self._lost_since
        if now - since >= SHORT:
            self.waits.going_on["network", since, -1] = None
            self.waits.tell("network", since)

    def _detach(
        self, task: asyncio.Task[Submission], request: GenerationRequest, pending: PendingSubmit
    ) -> None:
        """Let a POST go on whose caller was cancelled, and report its outcome when it is known."""

        if task.done():
            self._report(task, request, pending)
            return

        def report(ended: asyncio.Task[Submission]) -> None:
            self._detached.discard(ended)
            pending.is_detached = False
            self._report(ended, request, pending)
            self.submit_gate.leave()

        pending.is_detached = True
        self._detached.add(task)
        task.add_done_callback(report)

    def _report(
        self, task: asyncio.Task[Submission], request: GenerationRequest, pending: PendingSubmit
    ) -> None:
        """Tell the gate and the caller what a POST came to whose caller was cancelled."""
        outcome = _outcome(task, request)
        if isinstance(outcome, Submission):
            self.submit_gate.passed()
        else:
            self._tell_gate(outcome, judge_submit(outcome))
        pending.if_cancelled(outcome)

    def _after_refusal(
        self, error: SeedanceError, request: GenerationRequest, attempts: Attempts
    ) -> float:
        """Seconds to wait before the submit is sent again; raises if it must not be."""
        verdict = judge_submit(error)
        self._tell_gate(error, verdict)
        if verdict is Verdict.UNCERTAIN:
            if isinstance(error, SubmitUncertainError):
                raise error
            raise _uncertain(error, request) from error
        if verdict is Verdict.REFUSED or self._stops_others(error, verdict):
            raise error
        wait = self._next_attempt(error, verdict, attempts)
        if verdict is Verdict.RETRY and self.on_retry is not None:
            self.on_retry("submit", error, wait)
        return wait

    def _next_attempt(self, error: SeedanceError, verdict: Verdict, attempts: Attempts) -> float:
        policy = self._retry
        if self._reached:
            return attempts.after(error, verdict, policy.timeout)
        try:
            return attempts.after(error, verdict, min(policy.timeout, policy.reach_timeout))
        except TransportError:
            unreached = UnreachableError(str(error), base_url=self.base_url)
            self.submit_gate.shut(unreached, SHUT_SECONDS)
            raise unreached from error

    def _tell_gate(self, error: SeedanceError, verdict: Verdict) -> None:
        """What the failure of a submit means for those that follow it."""
        asked = requested_wait(error)
        if verdict in (Verdict.UNCERTAIN, Verdict.RETRY):
            self._submit_failed(error)
        if verdict is Verdict.THROTTLED and self.on_throttled is not None:
            self.on_throttled("submit", asked or None)
        if self._stops_others(error, verdict):
            self.submit_gate.shut(error, SHUT_SECONDS)
        elif verdict is Verdict.REFUSED:
            self.submit_gate.answered()
        elif verdict is Verdict.THROTTLED:
            self._refused(self.submit_gate, error)

    def _stops_others(self, error: SeedanceError, verdict: Verdict) -> bool:
        """Whether no submit is to be sent for a while: a bad key, no credits, too long a wait."""
        asked = requested_wait(error)
        too_long = verdict is Verdict.THROTTLED and asked > self._retry.max_retry_after
        return stops_submits(error) or too_long

    def _submit_failed(self, error: SeedanceError) -> None:
        """While nothing gets through, no more than one submit at a time is risked."""
        gate, patience = self.submit_gate, self._retry.timeout
        gate.failed()
        if self._reached:  # else the first one that gives up shuts the gate for all
            spent = counted(patience, "second")
            reason = f"not sent, because nothing got through for {spent}: {error}"
            behind = TransportError(reason, delivered="no", transient=True)
            gate.fail_overdue(behind, patience, gate.trouble.failing_since)


def _outcome(task: asyncio.Task[Submission], request: GenerationRequest) -> Outcome:
    """What a POST came to whose caller was cancelled."""
    if task.cancelled():
        reason = "its caller was cancelled, and so was the request before its answer came"
        return SubmitUncertainError(reason, request=request)
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, SeedanceError):
        return SubmitUncertainError(repr(error), request=request)
    uncertain = judge_submit(error) is Verdict.UNCERTAIN
    return _uncertain(error, request) if uncertain else error


def _log_late(outcome: Outcome) -> None:
    if isinstance(outcome, Submission):
        _log.warning("the submit of a cancelled caller was accepted: job %s", outcome.request_id)
    else:
        _log.warning("the submit of a cancelled caller: %s", outcome)


def _uncertain(error: SeedanceError, request: GenerationRequest) -> SubmitUncertainError:
    named = error.request_id if isinstance(error, ResponseFormatError) else None
    return SubmitUncertainError(str(error), request=request, request_id=named)
