"""The routes: the path of a request through the emulator, from its arrival to its response.

Routes are made from the contract's operations by ``operationId``; the method of ``Operations`` with
that name does the work. ``injection`` chooses what goes wrong, and ``wire`` carries it out.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from seedance_async.emulator import wire
from seedance_async.emulator.answers import Answer, Refused, error
from seedance_async.emulator.contract import Operation
from seedance_async.emulator.distortions import can_distort, distort
from seedance_async.emulator.faults import Fault
from seedance_async.emulator.operations import Call, Operations
from seedance_async.emulator.state import State

MAX_BODY = 1024 * 1024  # ASSUMPTION: the vendor documents no limit
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_INVALID = frozenset({400, 413, 415})


class Api:
    """The routes of the API's operations over one emulator's state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._operations = Operations(state)

    def add_routes(self, app: web.Application) -> None:
        """Add a route for each operation of the contract, and a 404 for the rest of /api."""
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
        work: Callable[[Call], Answer] = getattr(self._operations, operation.id)

        async def handle(request: web.Request) -> web.StreamResponse:
            call = Call(operation, request)
            self._find_job(call)
            if await self._read(call):
                call.fault = self._draw(call, early=False)
            fault, clock = call.fault, self._state.clock
            if fault is not None and fault.delays_work:
                await wire.delay(fault, clock)
            answer = self._answer(call, work)
            if fault is not None and not fault.delays_work:
                await wire.delay(fault, clock)
            self._log(operation.id, request, wire.status(answer, call.fault), call.fault_name)
            await self._before_answer(call)
            return await wire.send(request, answer, call.fault)

        return handle

    # -- arrival ---------------------------------------------------------------------------

    def _find_job(self, call: Call) -> None:
        request_id = call.request.match_info.get("requestId")
        call.job = self._state.jobs.get(request_id) if request_id else None
        if call.job is not None and call.operation.id == "poll":
            call.job.polls += 1

    async def _read(self, call: Call) -> bool:
        """Read the body; false if it was not read, because of a fault at arrival or its size."""
        call.fault = self._draw(call, early=True)
        if call.fault is not None:
            return False
        if call.request.body_exists:
            try:
                call.raw = await call.request.read()
            except web.HTTPRequestEntityTooLarge:
                call.refused = Refused(413, f"The body is larger than {MAX_BODY} bytes")
                return False
            except (ConnectionError, web.RequestPayloadError):
                call.client_left = True
                return False
        if call.operation.takes_body:
            call.body = _lenient_json(call.raw)
        return True

    def _draw(self, call: Call, *, early: bool) -> Fault | None:
        job = call.job
        subjects = [call.request.match_info.get("requestId", "")]
        subjects.append(job.prompt if job else str((call.body or {}).get("prompt", "")))

        def applies(fault: Fault) -> bool:
            if fault.first is not None and (job is None or job.polls > fault.first):
                return False
            return can_distort(fault, job, self._state.jobs)

        return self._state.faults.draw(call.operation.id, *subjects, early=early, applies=applies)

    # -- work ------------------------------------------------------------------------------

    def _answer(self, call: Call, work: Callable[[Call], Answer]) -> Answer | None:
        """Do the work, or what the fault replaces it with. Nothing here awaits."""
        fault = call.fault
        if call.client_left:  # before its body was complete: nothing was submitted
            return None
        if fault is not None and (fault.is_early or fault.replaces_work):
            instead = wire.instead(fault, call.request)
            if call.operation.id == "submit":
                self._record_unworked(call, instead)
            return instead
        try:
            if call.refused is not None:
                raise call.refused
            answer = work(call)
        except Refused as refused:
            if fault is not None and fault.spec.stage in ("instead", "body"):
                call.fault = None  # the refusal is sent unchanged, so no fault is recorded
            if call.operation.id == "submit":
                self._record_refused(call, refused)
            return refused.answer
        if fault is None:
            return answer
        if fault.spec.stage == "body":
            return distort(fault, answer, self._state.jobs)
        return wire.instead(fault, call.request) if fault.spec.stage == "instead" else answer

    def _record_unworked(self, call: Call, instead: Answer | None) -> None:
        self._state.ledger.append(
            "refused" if instead else "dropped",
            body=call.body,
            status=instead.status if instead else None,
            code=_error_code(instead),
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

    # -- before the response ---------------------------------------------------------------

    async def _before_answer(self, call: Call) -> None:
        """Wait for a callback that is to arrive before the submit's answer."""
        if call.operation.id == "submit" and call.job is not None:
            await self._state.webhooks.overtake(call.job, self._state.jobs)

    def _log(
        self, operation: str, request: web.Request, status: int | None, fault: str | None
    ) -> None:
        self._state.requests.record(operation, request.method, request.raw_path, status, fault)


def _lenient_json(raw: bytes) -> dict[str, Any] | None:
    """The body if it is a JSON object; not if it is nested too deeply or has huge numbers."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error_code(answer: Answer | None) -> str | None:
    detail = answer.data.get("error") if answer and answer.data else None
    return detail.get("code") if isinstance(detail, dict) else None
