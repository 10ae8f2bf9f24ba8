"""The routes: owns the way of a request through the emulator, from its arrival to its answer.

Routes are made from the contract's operations by ``operationId``; each method of ``Api`` with that
name does the work. What goes wrong is drawn by ``faults`` and carried out by ``wire``.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from attrs import define, field

from . import wire
from .accounts import Account, model_entries, price
from .answers import Answer, Refused, error
from .contract import Operation
from .distortions import distort, evil_request_id
from .faults import Fault
from .jobs import Fate, SimulatedJob
from .limits import Limits
from .state import State

BIGGEST_BODY = 1024 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_INVALID = frozenset({400, 413, 415})


@define(eq=False)
class Call:
    """One API request while it is worked on."""

    operation: Operation
    request: web.Request
    raw: bytes = b""
    body: dict[str, Any] | None = None
    job: SimulatedJob | None = None
    fault: Fault | None = None
    refused: Refused | None = field(default=None)

    @property
    def fault_name(self) -> str | None:
        """The fault's kind, for the records."""
        return self.fault.kind if self.fault else None

    @property
    def answered(self) -> bool:
        """Whether the client gets a readable answer."""
        return not (self.fault and self.fault.hides_answer)


class Api:
    """The four operations of the API over one emulator's state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._limits = Limits(state.options, state.jobs)

    def add_routes(self, app: web.Application) -> None:
        """One route for each operation of the contract, and 404 in the API's shape below /api."""
        for operation in self._state.contract.operations.values():
            app.router.add_route(operation.method, operation.path, self._handler(operation))
        app.router.add_route("*", "/api{rest:.*}", self._not_found)

    async def _not_found(self, request: web.Request) -> web.StreamResponse:
        allowed = self._allowed_methods(request.path)
        answer = error(404, f"No such endpoint: {request.path}")
        if allowed:
            answer = error(405, f"{request.method} is not allowed here", Allow=", ".join(allowed))
        self._log("unknown", request, answer.status, None)
        return await wire.send(request, answer, None)

    def _allowed_methods(self, path: str) -> list[str]:
        steps = path.split("/")
        return sorted(
            operation.method
            for operation in self._state.contract.operations.values()
            if len(pattern := operation.path.split("/")) == len(steps)
            and all(a == b or a.startswith("{") for a, b in zip(pattern, steps, strict=True))
        )

    def _handler(self, operation: Operation) -> Handler:
        work: Callable[[Call], Answer] = getattr(self, f"_{operation.id}")

        async def handle(request: web.Request) -> web.StreamResponse:
            call = Call(operation, request)
            self._find_job(call)
            if await self._read(call):
                call.fault = self._draw(call, early=False)
            fault, clock = call.fault, self._state.clock
            if fault is not None and fault.seconds and fault.replaces_work:
                await wire.delay(fault, clock)
            answer = self._answer(call, work)
            if fault is not None and fault.seconds and not fault.replaces_work:
                await wire.delay(fault, clock)
            self._log(operation.id, request, wire.status(answer, call.fault), call.fault_name)
            await self._before_answer(call)
            return await wire.send(request, answer, call.fault)

        return handle

    # -- arrival ---------------------------------------------------------------------------

    def _find_job(self, call: Call) -> None:
        request_id = call.request.match_info.get("requestId")
        call.job = self._state.jobs.get(request_id) if request_id else None

    async def _read(self, call: Call) -> bool:
        """Read the body; false if a fault at arrival or the body's size ends the matter."""
        call.fault = self._draw(call, early=True)
        if call.fault is not None:
            return False
        if call.request.body_exists:
            try:
                call.raw = await call.request.read()
            except web.HTTPRequestEntityTooLarge:
                call.refused = Refused(413, f"The body is larger than {BIGGEST_BODY} bytes")
                return False
        if call.operation.takes_body:
            call.body = _lenient_json(call.raw)
        return True

    def _draw(self, call: Call, *, early: bool) -> Fault | None:
        job = call.job
        subjects = [call.request.match_info.get("requestId", "")]
        subjects.append(job.prompt if job else str((call.body or {}).get("prompt", "")))

        def applies(fault: Fault) -> bool:
            if fault.first is not None and (job is None or job.polls >= fault.first):
                return False
            if fault.kind == "regressed":
                return job is not None and job.end_was_told
            return fault.kind != "duplicate_request_id" or len(self._state.jobs) > 0

        return self._state.faults.draw(call.operation.id, *subjects, early=early, applies=applies)

    # -- work ------------------------------------------------------------------------------

    def _answer(self, call: Call, work: Callable[[Call], Answer]) -> Answer | None:
        """Do the work, or what the fault puts in its place. Nothing here awaits."""
        fault = call.fault
        if fault is not None and (fault.is_early or fault.replaces_work):
            instead = wire.instead(fault)
            if call.operation.id == "submit":
                self._record_unworked(call, instead)
            return instead
        try:
            if call.refused is not None:
                raise call.refused
            answer = work(call)
        except Refused as refused:
            if call.operation.id == "submit":
                self._record_refused(call, refused)
            return refused.answer
        if fault is None:
            return answer
        if fault.spec.stage == "body":
            return distort(fault, answer, self._state.jobs)
        return (wire.instead(fault) if fault.spec.stage == "instead" else None) or answer

    def _record_unworked(self, call: Call, instead: Answer | None) -> None:
        data = instead.data if instead else None
        self._state.ledger.append(
            "refused" if instead else "dropped",
            body=call.body,
            status=instead.status if instead else None,
            code=data["error"]["code"] if data else None,
            fault=call.fault_name,
            answered=call.answered,
        )

    def _record_refused(self, call: Call, refused: Refused) -> None:
        self._state.ledger.append(
            "invalid" if refused.status in _INVALID else "refused",
            account=refused.account,
            body=call.body,
            status=refused.status,
            code=refused.code,
            fault=call.fault_name,
            answered=call.answered,
        )

    def _account(self, call: Call) -> Account:
        account = self._state.accounts.by_header(call.request.headers.get("Authorization"))
        if account is None:
            raise Refused(401, "Invalid API key")
        return account

    def _models(self, call: Call) -> Answer:
        self._account(call)
        return Answer(200, {"success": True, "data": model_entries()})

    def _submit(self, call: Call) -> Answer:
        state, account = self._state, self._account(call)
        body = _validated_body(call, account)
        self._limits.admit(account.name)
        cost = price(body)
        if cost > account.balance:
            raise Refused(
                402, f"{cost} credits needed, {account.balance} left", account=account.name
            )
        account.balance -= cost
        evil = call.fault is not None and call.fault.kind == "evil_request_id"
        request_id = evil_request_id(call.fault, state.jobs) if evil else state.jobs.new_id()
        state.ledger.append(
            "charged",
            account=account.name,
            body=body,
            status=200,
            request_id=request_id,
            credits=cost,
            fault=call.fault_name,
            answered=call.answered,
        )
        call.job = state.jobs.accept(request_id, account.name, body, cost, self._fate(body))
        state.webhooks.plan(call.job)
        return Answer(
            200,
            {
                "success": True,
                "requestId": request_id,
                "status": "queued",
                "creditsCharged": cost,
            },
        )

    def _fate(self, body: Mapping[str, Any]) -> Fate:
        fault = self._state.faults.draw("job", body["prompt"])
        if fault is None:
            return Fate()
        if fault.kind == "stuck":
            return Fate(None)
        if fault.kind == "cancelled":
            return Fate("cancelled")
        return Fate(
            "failed",
            {
                "code": fault.code or "content_moderation",
                "message": fault.message or "The prompt was refused by content moderation",
            },
        )

    def _job(self, call: Call) -> SimulatedJob:
        account = self._account(call)
        request_id = call.request.match_info["requestId"]
        problem = call.operation.parameter_problem("requestId", request_id)
        if problem is not None:
            raise Refused(400, problem)
        if call.job is None or call.job.account != account.name:
            raise Refused(404, f"No such request: {request_id[:100]}")
        return call.job

    def _poll(self, call: Call) -> Answer:
        job = self._job(call)
        job.polls += 1
        job.end_was_told = job.end_was_told or job.is_terminal
        return Answer(200, self._state.status_body(job))

    def _cancel(self, call: Call) -> Answer:
        job = self._job(call)
        if job.is_terminal:
            raise Refused(409, f"The request is {job.status} already")
        self._state.jobs.finish(job.request_id, "cancelled")
        return Answer(200, {"success": True, "requestId": job.request_id, "status": "cancelled"})

    # -- the end ---------------------------------------------------------------------------

    async def _before_answer(self, call: Call) -> None:
        """Give a callback that overtakes the submit's answer the time to do so."""
        if call.operation.id == "submit" and call.job is not None:
            await self._state.webhooks.overtake(call.job, self._state.jobs)

    def _log(
        self, operation: str, request: web.Request, status: int | None, fault: str | None
    ) -> None:
        self._state.requests.record(operation, request.method, request.raw_path, status, fault)


def _lenient_json(raw: bytes) -> dict[str, Any] | None:
    """The body if it is a JSON object; deep nesting and huge numbers are no JSON here."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _validated_body(call: Call, account: Account) -> dict[str, Any]:
    content_type = call.request.content_type
    if content_type != "application/json":
        raise Refused(
            415,
            f"Content-Type: {HTTPStatus(415).phrase}; send application/json",
            account=account.name,
        )
    if call.body is None:
        raise Refused(400, "body: not a JSON object", account=account.name)
    problem = call.operation.body_problem(call.body)
    if problem is not None:
        raise Refused(400, problem, account=account.name)
    return call.body
