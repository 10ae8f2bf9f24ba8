"""A `Transport` in memory: an API of a few lines whose answers a test can script."""

import asyncio
import contextlib
import json
from collections import Counter, defaultdict, deque

from seedance_async import TransportError
from seedance_async.api.protocol import WireRequest, WireResponse


def reply(status=200, body=None, headers=None, *, broken=None):
    """A `WireResponse` with a JSON body, or with the bytes given."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WireResponse(status, headers or {}, raw, broken)


def error_reply(status, code="some_code", message="some words", **headers):
    """An answer in the API's error shape; underscores in header names become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"success": False, "error": {"code": code, "message": message}}
    return reply(status, body, named)


NOT_SENT = TransportError("connection refused", delivered="no")
LOST = TransportError("the connection broke", delivered="maybe")


class FakeAPI:
    """Accepts every submit and makes each job succeed `seconds` after it.

    A job is queued for the first half of them; if `queues` is False, it is processed at once.
    `script[operation]` holds answers, exceptions or coroutine functions that come first;
    operations are "create", "get", "cancel", "models".
    """

    def __init__(self, *, seconds=10.0, answer_after=0.0):
        self.seconds, self.answer_after = seconds, answer_after
        self.script = defaultdict(deque)
        self.sent = []
        self.jobs = {}
        self.cancelled = set()
        self.active_peak = 0
        self.closed = False
        self.queues = True

    def count(self, operation):
        return sum(1 for request in self.sent if operation_of(request) == operation)

    @property
    def prompts(self):
        """How often each prompt was submitted."""
        bodies = (json.loads(r.body) for r in self.sent if operation_of(r) == "create")
        return Counter(body["prompt"] for body in bodies)

    reports_sending = True

    async def send(self, request: WireRequest, *, on_sent=None) -> WireResponse:
        operation = operation_of(request)
        scripted = self.script[operation].popleft() if self.script[operation] else None
        if isinstance(scripted, TransportError) and scripted.delivered == "no":
            raise scripted
        if on_sent is not None:
            on_sent()
        self.sent.append(request)
        if callable(scripted):
            scripted = await scripted(request)
        if isinstance(scripted, BaseException):
            raise scripted
        if scripted is not None:
            return scripted
        answer = getattr(self, operation)(request)
        if self.answer_after:
            await asyncio.sleep(self.answer_after)
        return answer

    def create(self, request):
        request_id = f"req_{len(self.jobs)}"
        self.jobs[request_id] = asyncio.get_running_loop().time()
        self.active_peak = max(self.active_peak, self.active)
        return accepted(request_id, status="queued" if self.queues else "processing")

    @property
    def active(self):
        now = asyncio.get_running_loop().time()
        running = (r for r in self.jobs if r not in self.cancelled)
        return sum(1 for r in running if now < self.jobs[r] + self.seconds)

    def get(self, request):
        request_id = request.path.rsplit("/", 1)[1]
        age = asyncio.get_running_loop().time() - self.jobs[request_id]
        if request_id in self.cancelled:
            return told(request_id, "cancelled")
        if age >= self.seconds:
            return told(request_id, "succeeded")
        queued = self.queues and age <= self.seconds / 2
        return told(request_id, "queued" if queued else "processing")

    def cancel(self, request):
        request_id = request.path.split("/")[-2]
        self.cancelled.add(request_id)
        return told(request_id, "cancelled")

    def models(self, request):
        return reply(body={"success": True, "data": [{"id": "seedance-2.0"}]})

    @contextlib.asynccontextmanager
    async def open_media(self, url, headers):
        raise TransportError("the fake has no media", delivered="no", transient=False)
        yield

    async def aclose(self):
        self.closed = True


def accepted(request_id, credits_charged=40, status="queued"):
    """The answer to a submit."""
    body = {"success": True, "requestId": request_id, "status": status}
    return reply(body={**body, "creditsCharged": credits_charged})


def told(request_id, status, **more):
    """The answer to a status query."""
    body = {"success": True, "requestId": request_id, "status": status, "error": None, **more}
    if status == "succeeded":
        url = f"https://media.example/{request_id}.mp4"
        body.setdefault("output", {"type": "video", "url": url})
    return reply(body=body)


def operation_of(request):
    if request.charges:
        return "create"
    if request.method == "POST":
        return "cancel"
    return "models" if request.path.endswith("/models") else "get"
