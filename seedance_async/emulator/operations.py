"""The operations: what the API does for each of its four endpoints.

They change the state and return the answer. They never await, so nothing can come between the check
of a balance and the charge. What goes wrong on the way to the client is not decided here.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from attrs import define

from seedance_async.emulator.accounts import Account
from seedance_async.emulator.answers import Answer, Refused
from seedance_async.emulator.contract import Operation
from seedance_async.emulator.distortions import evil_request_id
from seedance_async.emulator.faults import Fault
from seedance_async.emulator.jobs import Fate, SimulatedJob
from seedance_async.emulator.limits import Limits
from seedance_async.emulator.state import State


@define(eq=False)
class Call:
    """One API request while it is handled."""

    operation: Operation
    request: web.Request
    raw: bytes = b""
    body: dict[str, Any] | None = None
    job: SimulatedJob | None = None
    fault: Fault | None = None
    refused: Refused | None = None
    client_left: bool = False

    @property
    def fault_name(self) -> str | None:
        """The kind of its fault, for the records."""
        return self.fault.kind if self.fault else None

    @property
    def answered(self) -> bool:
        """Whether the client gets an answer that it can read."""
        transport = self.request.transport
        is_gone = transport is None or transport.is_closing()
        return not is_gone and not (self.fault and self.fault.hides_answer)


class Operations:
    """The four operations by ``operationId``. Each raises ``Refused`` for an error response."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._limits = Limits(state.options, state.jobs)

    def _account(self, call: Call) -> Account:
        account = self._state.accounts.by_header(call.request.headers.get("Authorization"))
        if account is None:
            raise Refused(401, "Invalid API key")  # API overview, "Authentication"
        return account

    def models(self, call: Call) -> Answer:
        """The models. API overview: durations, aspect ratios, resolutions and pricing metadata."""
        self._account(call)
        return Answer(
            200, {"success": True, "data": [dict(card.entry) for card in self._state.models]}
        )

    def submit(self, call: Call) -> Answer:
        """Charge, accept a job and record both; the caller records refusals.

        "Image to Video", "Endpoint", "Request Body" and "Success Response".
        """
        state, account = self._state, self._account(call)
        body = _validated_body(call, account)
        self._limits.admit(account.name)
        model = state.models[body["model"]]
        cost = _charge(model.price(body), call.fault)
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
        call.job = state.jobs.accept(
            request_id, account.name, body, cost, self._fate(body), model.defaults
        )
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
        self._state.requests.record_fault("job", fault.kind)
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

    def poll(self, call: Call) -> Answer:
        """The job as it is now. "Image to Video", "Query Result"."""
        job = self._job(call)
        job.end_was_reported = job.end_was_reported or job.is_terminal
        if call.fault is not None and call.fault.kind == "other_job":
            job = next(other for other in self._state.jobs.values() if other is not job)
        return Answer(200, self._state.status_body(job))

    def cancel(self, call: Call) -> Answer:
        """End a job that is queued or processing. "Image to Video", "Cancel Task"."""
        job = self._job(call)
        if job.is_terminal:  # ASSUMPTION: the vendor does not say how this is answered
            raise Refused(409, f"The request is already {job.status}")
        if call.fault is None or call.fault.kind != "not_cancelled":
            self._state.jobs.finish(job.request_id, "cancelled")
        return Answer(200, {"success": True, "requestId": job.request_id, "status": "cancelled"})


def _charge(price: int, fault: Fault | None) -> int:
    """What a submit costs, with a surprise if the fault says so."""
    if fault is None or fault.kind != "price_changed":
        return price
    return round(price * float(2 if fault.value is None else fault.value))


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
    # "Image to Video", table "Request Body"
    problem = call.operation.body_problem(call.body)
    if problem is not None:
        raise Refused(400, problem, account=account.name)
    return call.body
