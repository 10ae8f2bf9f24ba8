"""The service of a universe: the emulator's rules in a few lines, faults by plan, and a ledger.

The ledger is the truth that the judge compares everything with. The transport in here is what a
session sends through; it keeps the contract of `seedance_async.api.transport`, and the answers go
through the same function as those of the real transports.
"""

import asyncio
import contextlib
import json
import math
import random

import attrs

from seedance_async import TransportError
from seedance_async.api.protocol import WireResponse
from seedance_async.api.transport import MediaResponse
from seedance_async.api.transport.answers import answer
from seedance_async.api.transport.failures import Secrets

KEY = "sd2_live_k=y/never+to/be=seen"
BASE_URL = "https://api.example"
HOOKS = "https://app.example/hooks"

#: Seconds that a submit and any other call may take, as `Timeouts` has it.
SUBMIT_SECONDS, REQUEST_SECONDS = 120.0, 30.0

#: Statuses that say nothing about whether the job was accepted.
_AMBIGUOUS = {"408", "409", "499", "500", "502", "503", "504", "302"}


@attrs.define(eq=False)
class Charge:
    """A job that the server has accepted, and charged.

    Attributes:
        told_at: when an answer that accepts it, with its id, came to its process.
        named_at: when any answer that has its id came to its process.
        priced: whether such an answer had the charge, too.
        surprise: what a limit could not have known: above the dearest price told for its kind.
    """

    request_id: str
    prompt: str
    kind: tuple
    process: object
    credits: int
    at: float
    ends: float
    outcome: str
    callback_url: str | None = None
    told_at: float = math.inf
    named_at: float = math.inf
    priced: bool = False
    cancelled: bool = False
    spent_before: int = 0
    surprise: bool = False


@attrs.define(eq=False)
class _Call:
    process: object
    request: object
    fault: str | None
    rng: random.Random
    future: asyncio.Future | None = None
    charge: Charge | None = None
    over: bool = False

    @property
    def operation(self):
        if self.request.charges:
            return "create"
        return "cancel" if self.request.method == "POST" else "get"


class Server:
    """Accepts, charges, makes videos, forgets nothing."""

    def __init__(self, world):
        self.world, self.plan = world, world.plan
        self.ledger = []
        self.posts = 0
        self.sent = set()  # prompts whose bytes have left a process
        self._queries = self._callbacks = 0
        self._by_id = {}
        self._prices_told = {}  # the dearest of each kind
        self._secrets = Secrets(KEY)

    def find(self, request_id):
        """The charge with this id."""
        return self._by_id.get(request_id)

    def begin(self, process, request):
        """A call of a process, and what will become of it."""
        if request.charges:
            number, faults = self.posts, self.plan.submit_faults
            self.posts += 1
        else:
            number, faults = self._queries, self.plan.query_faults
            self._queries += 1
        fault = faults[number] if number < len(faults) else None
        return _Call(process, request, fault, random.Random(f"{self.plan.seed} {number}"))

    # --- a request arrives ------------------------------------------------------------------

    def arrive(self, call):
        """The whole request is here."""
        if call.fault == "lost before":
            return self._later(call, lambda: self._break(call))
        status, headers, body, broken = getattr(self, f"_{call.operation}")(call)
        if call.fault in ("silent", "silent and charged"):
            return None
        if call.fault in ("lost after", "hangs up with key"):
            return self._later(call, lambda: self._break(call))
        response = WireResponse(status, headers, body, broken)
        return self._later(call, lambda: self._deliver(call, response))

    def _later(self, call, callback):
        delay = call.rng.choice((0.0, 0.01, 0.05, 0.3, 2.0))
        if call.fault == "slow":
            delay = call.rng.uniform(5.0, 29.0)
        if call.fault == "very slow":
            delay = call.rng.uniform(100.0, 400.0)
        self.world.at(self.world.clock + delay, callback)

    def _break(self, call):
        told = (
            f"server hung up on {KEY}" if call.fault == "hangs up with key" else "connection reset"
        )
        self.fail(call, OSError(told))

    def fail(self, call, error):
        """There will be no answer."""
        if not call.over and call.process.alive and not call.future.done():
            call.future.set_exception(self._secrets.failure(error, "maybe"))
            call.process.poke()

    def _deliver(self, call, response):
        if call.over or not call.process.alive or call.future.done():
            return
        headers, broken = response.headers, response.broken
        shown = answer(response.status, headers, response.body, broken, self._secrets)
        self._note_told(call, response)
        call.future.set_result(shown)
        call.process.poke()

    def _note_told(self, call, response):
        """Remember what the process knows from now on."""
        charge, process, now = call.charge, call.process, self.world.clock
        if call.operation != "create":
            return
        if charge is not None and f'"{charge.request_id}"'.encode() in response.body:
            charge.named_at = now
            if 200 <= response.status < 300 and call.fault in _ACCEPTANCES:
                charge.told_at = now
                charge.priced = b'"creditsCharged": %d' % charge.credits in response.body
            if charge.priced:
                told = self._prices_told.get(charge.kind, 0)
                self._prices_told[charge.kind] = max(told, charge.credits)
        asked = response.headers.get("retry-after")
        if process.stopped_until < now:
            if asked is not None and float(asked) <= 60 and charge is None:
                process.held = (now, now + float(asked))
            if response.status in (401, 402) and charge is None:
                process.held = (now, now + 29.0)

    # --- submits ----------------------------------------------------------------------------

    def _create(self, call):
        data, fault = json.loads(call.request.body), call.fault
        refusal = _REFUSALS.get(fault)
        if refusal is not None:
            return refusal(call)
        if fault in _AMBIGUOUS | {"html", "silent"} and call.rng.random() < 0.5:
            return _ambiguous(fault)
        charge = call.charge = self._charge(call, data)
        if fault in _AMBIGUOUS | {"html"}:
            return _ambiguous(fault)
        return self._answer(call, charge)

    def _charge(self, call, data):
        world, plan, ledger = self.world, self.plan, self.ledger
        kind = data["model"], data.get("duration"), data.get("resolution")
        price = plan.prices[min(len(ledger), len(plan.prices) - 1)]
        if plan.ratio_costs and data.get("aspectRatio") == "16:9":
            price *= 10
        begins = world.clock
        charge = Charge(
            request_id=f"req_{len(ledger):04d}z",
            prompt=data["prompt"],
            kind=kind,
            process=call.process,
            credits=price,
            at=begins,
            ends=begins + call.rng.choice((1.0, 10.0, 30.0, 90.0, 300.0)),
            outcome=call.rng.choice(("succeeded",) * 5 + ("failed",)),
            callback_url=data.get("webhookUrl"),
            spent_before=sum(each.credits for each in ledger),
            surprise=price > self._prices_told.get(kind, -1),
        )
        ledger.append(charge)
        self._by_id[charge.request_id] = charge
        if charge.callback_url is not None:
            self._announce(charge)
        return charge

    def _answer(self, call, charge):
        fault, rng = call.fault, call.rng
        body = {"success": True, "requestId": charge.request_id, "status": "queued"}
        body["creditsCharged"] = charge.credits
        if fault == "error with charge":
            status = rng.choice((400, 402, 422, 500))
            return _json(status, {**body, "success": False, "error": _error("odd", "but charged")})
        if fault == "429 with charge":
            return _json(429, {**body, "success": False}, retry_after="3")
        if fault == "not a success":
            return _json(200, {**body, "success": False})
        if fault == "nested id":
            return _json(200, {"success": True, "data": body})
        if fault == "no id":
            return _json(200, {"success": True, "status": "queued"})
        if fault == "another id":
            known = [each for each in self.ledger if each.told_at < self.world.clock]
            known = [each for each in known if self.plan.journal or each.process is call.process]
            if known:
                return _json(200, {**body, "requestId": rng.choice(known).request_id})
        if fault == "no charge told":
            del body["creditsCharged"]
        if fault == "odd charge":
            body["creditsCharged"] = rng.choice((-1, "many", 1e300, None, [40], True))
        if fault == "echo":
            body["you_sent"] = f"Bearer {KEY}"
        if fault == "cut short":
            return self._cut(call, body, broken="the connection broke")
        if fault == "cut short unseen":
            return self._cut(call, body, broken=None)
        return _json(200, body)

    def _cut(self, call, body, broken):
        status, headers, raw, _ = _json(200, body)
        return status, headers, raw[: call.rng.randrange(len(raw))], broken

    # --- queries and cancellations ----------------------------------------------------------

    def _get(self, call):
        charge = self._by_id.get(call.request.path.rsplit("/", 1)[1])
        fault = _QUERY_ANSWERS.get(call.fault)
        if fault is not None:
            return fault(call, charge)
        if charge is None:
            return _json(404, {"success": False, "error": _error("not_found", "no such job")})
        body = self._state(charge)
        if call.fault == "cut short":
            return self._cut(call, body, broken="the connection broke")
        return _json(200, body)

    def _cancel(self, call):
        charge = self._by_id.get(call.request.path.split("/")[-2])
        if call.fault in ("500", "503", "401", "429", "404"):
            return _QUERY_ANSWERS[call.fault](call, charge)
        if charge is None:
            return _json(404, {"success": False, "error": _error("not_found", "no such job")})
        if self.state(charge) in ("succeeded", "failed"):
            return _json(409, {"success": False, "error": _error("conflict", "it has ended")})
        charge.cancelled = True
        return _json(200, self._state(charge))

    def state(self, charge):
        """The state of a job now."""
        if charge.cancelled:
            return "cancelled"
        if self.world.clock >= charge.ends:
            return charge.outcome
        return "processing" if self.world.clock > charge.at + 5 else "queued"

    def _state(self, charge):
        state = self.state(charge)
        body = {"success": True, "requestId": charge.request_id, "status": state, "error": None}
        body["prompt"] = charge.prompt
        if state == "succeeded":
            url = f"https://media.example/{charge.request_id}.mp4"
            body["output"] = {"type": "video", "url": url}
        if state == "failed":
            body["error"] = _error("moderation", "not allowed")
        return body

    # --- callbacks --------------------------------------------------------------------------

    def _announce(self, charge):
        number, faults = self._callbacks, self.plan.callback_faults
        self._callbacks += 1
        fault = faults[number] if number < len(faults) else None
        rng = random.Random(f"{self.plan.seed} callback {number}")
        when = {"late": 200.0, "very late": 4000.0}.get(fault, 0.0) + charge.ends
        url, named = charge.callback_url, charge.request_id
        if fault == "forged":
            url = f"{HOOKS}/{rng.randrange(10**9)}"
        if fault == "another id":
            named = rng.choice(self.ledger).request_id
        body = json.dumps({"requestId": named, "status": "failed"}).encode()
        if fault == "garbage":
            body = body[: rng.randrange(len(body))]
        times = {"lost": (), "doubled": (when, when), "early": (self.world.clock,)}
        for time in times.get(fault, (when,)):
            self.world.at(time, lambda: self._call_back(url, body))

    def _call_back(self, url, body):
        for program in self.world.programs:
            process = program.process
            if program.receiver is not None and process.alive and process.session_open:
                process.loop.call_soon(program.receiver.receive, url, body)
                process.poke()


#: Faults after which the answer still is a plain acceptance with the true id.
_ACCEPTANCES = {
    None,
    "slow",
    "very slow",
    "no charge told",
    "odd charge",
    "echo",
    "no route",
    "exit",
}


def _json(status, body, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps(body).encode(), None


def _error(code, message):
    return {"code": code, "message": message}


def _refusal(status, code="some_code", **headers):
    def answer_of(call):
        return _json(status, {"success": False, "error": _error(code, "no")}, **headers)

    return answer_of


def _refused_for(status):
    def answer_of(call):
        asked = str(call.rng.choice((1, 7, 40, 100000)))
        body = {"success": False, "error": _error("slow_down", "not now")}
        return _json(status, body, retry_after=asked)

    return answer_of


def _echoed(call):
    key = json.dumps(f"the key {KEY}").replace("/", "\\/").replace("=", "\\u003d")
    text = key if call.fault == "escaped echo" else json.dumps(f"the key {KEY} is odd")
    raw = f'{{"success": false, "error": {{"code": "odd", "message": {text}}}}}'
    return 422, {"x-echo": KEY}, raw.encode(), None


def _traced(call):
    body = {"success": False, "error": {**_error("bad", "no"), "requestId": "req_trace"}}
    return _json(422, body)


def _ambiguous(fault):
    if fault == "html":
        return 200, {}, b"<html>ok</html>", None
    headers = {"location": "https://elsewhere.example/"} if fault == "302" else {}
    return 500 if fault == "silent" else int(fault), headers, b"<html>sorry</html>", None


_REFUSALS = {
    "400": _refusal(400), "401": _refusal(401, "unauthorized"), "402": _refusal(402),
    "403": _refusal(403, "moderated"), "404": _refusal(404), "422": _refusal(422),
    "429": _refusal(429), "429 later": _refused_for(429), "503 later": _refused_for(503),
    "trace id": _traced, "escaped echo": _echoed,
}  # fmt: skip


def _status_of(status):
    def answer_of(call, charge):
        named = charge.request_id if charge is not None else "req_none"
        return _json(200, {"success": True, "requestId": named, "status": status})

    return answer_of


_QUERY_ANSWERS = {
    "404": lambda call, charge: _refusal(404, "not_found")(call),
    "401": lambda call, charge: _refusal(401, "unauthorized")(call),
    "403": lambda call, charge: _refusal(403, "moderated")(call),
    "429": lambda call, charge: _refusal(429)(call),
    "429 later": lambda call, charge: _refusal(429, retry_after="9")(call),
    "500": lambda call, charge: _refusal(500)(call),
    "503": lambda call, charge: _ambiguous("503"),
    "unknown status": _status_of("dreaming"),
    "queued again": _status_of("queued"),
    "another id": lambda call, charge: _json(
        200, {"success": True, "requestId": "req_other", "status": "failed"}
    ),
    "html": lambda call, charge: _ambiguous("html"),
    "echo": lambda call, charge: _echoed(call),
}


class UniverseTransport:
    """What the sessions of one process send through."""

    def __init__(self, process):
        self._process, self._world = process, process.world
        self._server, self._secrets = process.world.server, Secrets(KEY)
        self._calls, self._closed = [], False
        if process.world.plan.reports_sending:
            self.reports_sending = True

    async def send(self, request, *, on_sent=None):
        """See `Transport.send`."""
        if self._closed or not self._process.alive:
            raise TransportError("it is closed", delivered="no", transient=False)
        call = self._server.begin(self._process, request)
        if request.charges:
            self._check_held()
        await self._connect(call)
        if on_sent is not None and self._world.plan.reports_sending:
            on_sent()
        return await self._exchange(call)

    async def _connect(self, call):
        await asyncio.sleep(call.rng.choice((0.0, 0.0, 0.01, 0.2)))
        if call.fault == "refused connection":
            raise self._secrets.failure(OSError(f"nobody listens for {KEY}"), "no")
        if call.fault == "no route":
            raise self._secrets.failure(ValueError("a bad certificate"), "no")

    async def _exchange(self, call):
        world, process = self._world, self._process
        call.future = asyncio.get_running_loop().create_future()
        seconds = SUBMIT_SECONDS if call.request.charges else REQUEST_SECONDS
        if process.effect():
            if call.request.charges:
                self._server.sent.add(json.loads(call.request.body)["prompt"])
            way = call.rng.choice((0.0, 0.01, 0.1))
            world.at(world.clock + way, lambda: self._server.arrive(call))
            over = TimeoutError("no answer in time")
            world.at(world.clock + seconds, lambda: self._server.fail(call, over))
            process.effect()
        if call.fault == "exit" and call.request.charges:
            call.over = True
            raise SystemExit(1)
        self._calls.append(call)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._note_cut_off(call)
            raise
        finally:
            call.over = True
            self._calls.remove(call)

    async def aclose(self):
        """See `Transport.aclose`."""
        self._closed = True
        for call in self._calls:
            self._server.fail(call, OSError("the transport was closed"))
        await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def open_media(self, url, headers):
        """See `Transport.open_media`."""
        raise TransportError("there are no media here", delivered="no", transient=False)
        yield MediaResponse(404, {}, None)

    def _note_cut_off(self, call):
        process = self._process
        if call.request.charges and process.session_open and process.alive and not process.exiting:
            self._world.problems.append(f"{process} cut off a submit that was under way")

    def _check_held(self):
        since, until = getattr(self._process, "held", (math.inf, -math.inf))
        if since < self._world.clock < until - 0.001 and self._process.alive:
            self._world.problems.append(f"{self._process} submitted while it was told to wait")
