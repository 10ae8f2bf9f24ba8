"""The service of a universe: the emulator's rules in a few lines, faults by plan, and a ledger.

The ledger is the truth that the judge compares everything with. The answers go through the same
function as those of the real transports, which hides the key.
"""

import asyncio
import json
import math
import random

import attrs

from seedance_async.api.protocol import WireResponse
from seedance_async.api.transport.answers import answer
from seedance_async.api.transport.failures import Secrets
from tests.universes.answers import (
    ACCEPTANCES,
    AMBIGUOUS,
    HOOKS,
    KEY,
    QUERY_ANSWERS,
    REFUSALS,
    ambiguous,
    error_body,
    json_answer,
)


@attrs.define(eq=False)
class Charge:
    """A job that the server has accepted, and charged.

    Attributes:
        told_at: when an answer that accepts it, with its id, came to its process.
        named_at: when any answer that has its id came to its process.
        priced: whether such an answer had the charge, too.
        surprise: whether a limit could not know its price: above the dearest told for its kind.
        estimable: whether any price was told before, so that a limit went by an estimate.
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
    estimable: bool = False


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
    def prompt(self):
        return json.loads(self.request.body)["prompt"]

    @property
    def is_under_way(self):
        return self.process.alive and not self.over

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
        self.at_once = []  # prompts that two processes were sending, with what happened
        self._under_way = []
        self._queries = self._callbacks = 0
        self._by_id = {}
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
        call = _Call(process, request, fault, random.Random(f"{self.plan.seed} {number}"))
        if request.charges:
            self._note_at_once(call)
        return call

    def _note_at_once(self, call):
        """Whether another process is sending a submit of the same prompt.

        One that was stopped until just now may not know yet what the others have done meanwhile.
        """
        self._under_way = [each for each in self._under_way if each.is_under_way]
        for other in self._under_way:
            awake = max(other.process.stopped_until, call.process.stopped_until) + 1.0
            same = other.prompt == call.prompt and other.process is not call.process
            if same and awake < self.world.clock:
                told = f"{call.process} and {other.process} were sending {call.prompt!r}"
                self.at_once.append((call.prompt, told))
        self._under_way.append(call)

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
            read = max(now, process.stopped_until)  # until then it lies in the socket
            charge.named_at = read
            if 200 <= response.status < 300 and call.fault in ACCEPTANCES:
                charge.told_at = read
                charge.priced = b'"creditsCharged": %d' % charge.credits in response.body
        asked = response.headers.get("retry-after")
        if process.stopped_until < now:
            if asked is not None and float(asked) <= 60 and charge is None:
                process.held = (now, now + float(asked) - 0.001)
            if response.status in (401, 402) and charge is None:
                process.held = (now, now + 29.0)

    # --- submits ----------------------------------------------------------------------------

    def _create(self, call):
        data, fault = json.loads(call.request.body), call.fault
        refusal = REFUSALS.get(fault)
        if refusal is not None:
            return refusal(call)
        if fault in AMBIGUOUS | {"html", "silent"} and call.rng.random() < 0.5:
            return ambiguous(fault)
        charge = call.charge = self._charge(call, data)
        if fault in AMBIGUOUS | {"html"}:
            return ambiguous(fault)
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
            spent_before=sum(each.credits for each in self._counted_with(call.process)),
            surprise=price > max(self._prices_known(call.process, kind), default=-1),
            estimable=bool(self._prices_known(call.process)),
        )
        self._check_slots(call.process)
        ledger.append(charge)
        self._by_id[charge.request_id] = charge
        if charge.callback_url is not None:
            self._announce(charge)
        return charge

    def _counted_with(self, process):
        """The charges that count for the limit of a process: without a journal, its own."""
        return [each for each in self.ledger if self.plan.journal or each.process is process]

    def _check_slots(self, process):
        """No more jobs of a process run than it was told to have in flight."""
        if "404" in self.plan.query_faults:
            return  # it was told that the server does not know a job
        now = self.world.clock
        running = [
            each
            for each in self.ledger
            if each.process is process and each.told_at < now < each.ends and not each.cancelled
        ]
        most = self.plan.max_in_flight
        if len(running) >= most and process.session_open:
            self.world.problems.append(f"{process} has {len(running) + 1} jobs at once, not {most}")

    def _prices_known(self, process, kind=None):
        """The prices that a process was told, or finds on the disk."""
        if self.plan.limit is None:
            return []
        attempts = self.world.disk.attempts()
        on_disk = {each.request_id for each in attempts if each.credits is not None}
        return [
            each.credits
            for each in self.ledger
            if kind in (None, each.kind) and each.priced
            if each.process is process or each.request_id in on_disk
        ]

    def _answer(self, call, charge):
        fault, rng = call.fault, call.rng
        body = {"success": True, "requestId": charge.request_id, "status": "queued"}
        body["creditsCharged"] = charge.credits
        if fault == "error with charge":
            status = rng.choice((400, 402, 422, 500))
            return json_answer(
                status, {**body, "success": False, "error": error_body("odd", "but charged")}
            )
        if fault == "429 with charge":
            return json_answer(429, {**body, "success": False}, retry_after="3")
        if fault == "not a success":
            return json_answer(200, {**body, "success": False})
        if fault == "nested id":
            return json_answer(200, {"success": True, "data": body})
        if fault == "no id":
            return json_answer(200, {"success": True, "status": "queued"})
        if fault == "another id":
            known = [each for each in self.ledger if each.told_at < self.world.clock]
            known = [each for each in known if self._knows(call.process, each)]
            if known:
                return json_answer(200, {**body, "requestId": rng.choice(known).request_id})
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
        return json_answer(200, body)

    def _knows(self, process, charge):
        """Whether a process can know that an id is another job's.

        One that was attached by its id alone may be that of any job, as far as the journal knows.
        """
        if self.plan.journal and process.life.disk_full is None:
            return self.world.disk.holds(charge.request_id, attached=False)
        return charge.process is process

    def _cut(self, call, body, broken):
        status, headers, raw, _ = json_answer(200, body)
        return status, headers, raw[: call.rng.randrange(len(raw))], broken

    # --- queries and cancellations ----------------------------------------------------------

    def _get(self, call):
        charge = self._by_id.get(call.request.path.rsplit("/", 1)[1])
        fault = QUERY_ANSWERS.get(call.fault)
        if fault is not None:
            return fault(call, charge)
        if charge is None:
            return json_answer(
                404, {"success": False, "error": error_body("not_found", "no such job")}
            )
        body = self._state(charge)
        if call.fault == "cut short":
            return self._cut(call, body, broken="the connection broke")
        return json_answer(200, body)

    def _cancel(self, call):
        charge = self._by_id.get(call.request.path.split("/")[-2])
        if call.fault in ("500", "503", "401", "429", "404"):
            return QUERY_ANSWERS[call.fault](call, charge)
        if charge is None:
            return json_answer(
                404, {"success": False, "error": error_body("not_found", "no such job")}
            )
        if self.state(charge) in ("succeeded", "failed"):
            return json_answer(
                409, {"success": False, "error": error_body("conflict", "it has ended")}
            )
        charge.cancelled = True
        return json_answer(200, self._state(charge))

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
            body["error"] = error_body("moderation", "not allowed")
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
            others = [each for each in self.ledger if each is not charge]
            untold = [each for each in others if each.told_at == math.inf]
            named = rng.choice(untold or others or [charge]).request_id
        body = json.dumps({"requestId": named, "status": "failed"}).encode()
        if fault == "garbage":
            body = body[: rng.randrange(len(body))]
        times = {"lost": (), "doubled": (when, when), "early": (self.world.clock,)}
        for time in times.get(fault, (when,)):
            self.world.at(time, lambda: self._call_back(url, body, rng))

    def _call_back(self, url, body, rng):
        """Sessions that share a journal are behind one address: one of them is called."""
        there = [
            program
            for program in self.world.programs
            if program.receiver is not None
            and program.process.alive
            and program.process.session_open
        ]
        for program in [rng.choice(there)] if there and self.plan.shared else there:
            program.process.loop.call_soon(program.receiver.receive, url, body)
            program.process.poke()
