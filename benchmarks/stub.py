"""A server that costs next to nothing, so that a benchmark measures the client.

    python -m benchmarks.stub [--port 0] [--polls 4 | --seconds 2]

It prints its port and ends at SIGTERM. It speaks the submit and the query of Seedance and of the
peers, with answers of about the same size, and believes everything. A job ends with the query
number `--polls`, or `--seconds` after its submit. `GET /stats` tells what was served.

Answers are filled in from bytes; nothing is parsed but the request's head. HTTP/1.1 with
Content-Length or chunked bodies, kept alive or closed as the client asks; no pipelining.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs

_PROMPT = "A river in autumn, drifting leaves, low sun"
_MADE = "2026-01-01T00:00:00.000Z"
_VIDEO = "https://media.example/videos/@ID@.mp4"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@attrs.frozen
class Dialect:
    """The paths of one API, and its answers as templates; `@ID@` is the job's id.

    `result` is for an API that has the end told by the status and fetched by one query more. That
    one counts as a query too, so a job takes as many requests as with the others.
    """

    submit: bytes
    query: bytes
    accepted: bytes
    running: bytes
    ended: bytes
    result: bytes | None = None


def _template(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode()


def _seedance() -> Dialect:
    path = b"/api/open/v1/video/generations"
    job = {
        "success": True,
        "requestId": "@ID@",
        "status": "processing",
        "model": "seedance-2-0",
        "prompt": _PROMPT,
        "duration": 5,
        "aspectRatio": "16:9",
        "output": None,
        "error": None,
    }
    accepted = {"success": True, "requestId": "@ID@", "status": "queued", "creditsCharged": 40}
    ended = {**job, "status": "succeeded", "output": {"type": "video", "url": _VIDEO}}
    return Dialect(path, path, _template(accepted), _template(job), _template(ended))


def _fal(origin: str) -> Dialect:
    here = f"{origin}/fal-ai/seedance/requests/@ID@"
    job = {
        "status": "IN_QUEUE",
        "request_id": "@ID@",
        "response_url": here,
        "status_url": f"{here}/status",
        "cancel_url": f"{here}/cancel",
        "queue_position": 0,
    }
    running = {**job, "status": "IN_PROGRESS", "logs": None}
    ended = {**running, "status": "COMPLETED", "metrics": {"inference_time": 41.5}}
    result = {"video": {"url": _VIDEO, "content_type": "video/mp4"}, "seed": 42, "prompt": _PROMPT}
    return Dialect(
        b"/fal-ai/seedance",
        b"/fal-ai/seedance/requests",
        _template(job),
        _template(running),
        _template(ended),
        _template(result),
    )


def _openai() -> Dialect:
    job = {
        "id": "@ID@",
        "object": "video",
        "model": "sora-2",
        "status": "queued",
        "progress": 0,
        "created_at": 1767225600,
        "size": "1280x720",
        "seconds": "4",
        "prompt": _PROMPT,
    }
    running = {**job, "status": "in_progress", "progress": 33}
    ended = {**job, "status": "completed", "progress": 100, "completed_at": 1767225660}
    answers = (_template(job), _template(running), _template(ended))
    return Dialect(b"/v1/videos", b"/v1/videos", *answers)


def _runway() -> Dialect:
    accepted = {"id": "@ID@", "estimatedCost": {"credits": 40}}
    job = {"id": "@ID@", "createdAt": _MADE}
    running = {**job, "status": "RUNNING", "progress": 0.33, "estimatedCost": {"credits": 40}}
    ended = {**job, "status": "SUCCEEDED", "output": [_VIDEO], "cost": {"credits": 40}}
    answers = (_template(accepted), _template(running), _template(ended))
    return Dialect(b"/v1/image_to_video", b"/v1/tasks", *answers)


def _replicate(origin: str) -> Dialect:
    here = f"{origin}/v1/predictions/@ID@"
    job = {
        "id": "@ID@",
        "model": "bytedance/seedance",
        "version": "hidden",
        "input": {"prompt": _PROMPT, "duration": 5},
        "logs": "",
        "output": None,
        "error": None,
        "status": "starting",
        "created_at": _MADE,
        "urls": {"get": here, "cancel": f"{here}/cancel"},
    }
    running = {**job, "status": "processing", "started_at": _MADE}
    ended = {**running, "status": "succeeded", "output": _VIDEO, "completed_at": _MADE}
    answers = (_template(job), _template(running), _template(ended))
    return Dialect(b"/v1/models/bytedance/seedance/predictions", b"/v1/predictions", *answers)


def dialects(origin: str) -> dict[str, Dialect]:
    """Every API that is spoken, by name; `origin` stands in the URLs that some of them tell."""
    return {
        "seedance": _seedance(),
        "fal": _fal(origin),
        "openai": _openai(),
        "runway": _runway(),
        "replicate": _replicate(origin),
    }


class Stub:
    """The jobs of all dialects, and what was served.

    Args:
        polls: a job ends with its query of this number.
        seconds: instead, a job ends this long after its submit.
    """

    def __init__(self, *, polls: int = 4, seconds: float | None = None) -> None:
        self._polls, self._seconds = polls, seconds
        self._jobs: dict[bytes, float] = {}
        self._accepted = self.connections = self.running_most = 0
        self.submits: Counter[str] = Counter()
        self.queries: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._by_submit: dict[bytes, tuple[str, Dialect]] = {}
        self._by_query: dict[bytes, tuple[str, Dialect]] = {}

    def bind(self, origin: str) -> None:
        """Speak all dialects at this origin."""
        for name, dialect in dialects(origin).items():
            self._by_submit[dialect.submit] = name, dialect
            self._by_query[dialect.query] = name, dialect

    def answer(self, method: bytes, path: bytes) -> bytes | None:
        """The body of the answer, or None where there is no such thing."""
        path = path.partition(b"?")[0]
        if method == b"POST":
            return self._submit(path)
        if path == b"/stats":
            return json.dumps(self.stats()).encode()
        asks_status = path.endswith(b"/status")
        place, _, name = path.removesuffix(b"/status").rpartition(b"/")
        return self._query(place, name, asks_status=asks_status)

    def stats(self) -> dict[str, Any]:
        """What was served so far."""
        return {
            "submits": dict(self.submits),
            "queries": dict(self.queries),
            "ended": dict(self.ended),
            "connections": self.connections,
            "running_most": self.running_most,
        }

    def _submit(self, path: bytes) -> bytes | None:
        if path not in self._by_submit:
            return None
        kind, dialect = self._by_submit[path]
        self.submits[kind] += 1
        self._accepted += 1
        name = b"req_%016x" % self._accepted
        self._jobs[name] = self._polls if self._seconds is None else _now() + self._seconds
        self.running_most = max(self.running_most, len(self._jobs))
        return dialect.accepted.replace(b"@ID@", name)

    def _query(self, place: bytes, name: bytes, *, asks_status: bool) -> bytes | None:
        if place not in self._by_query or name not in self._jobs:
            return None
        kind, dialect = self._by_query[place]
        self.queries[kind] += 1
        if dialect.result is not None and not asks_status:
            return self._end(kind, name, dialect.result)
        if not self._is_due(name, dialect):
            return dialect.running.replace(b"@ID@", name)
        if dialect.result is not None:
            return dialect.ended.replace(b"@ID@", name)
        return self._end(kind, name, dialect.ended)

    def _end(self, kind: str, name: bytes, body: bytes) -> bytes:
        del self._jobs[name]
        self.ended[kind] += 1
        return body.replace(b"@ID@", name)

    def _is_due(self, name: bytes, dialect: Dialect) -> bool:
        if self._seconds is not None:
            return _now() >= self._jobs[name]
        self._jobs[name] -= 1
        return self._jobs[name] <= (0 if dialect.result is None else 1)


class _Connection(asyncio.Protocol):
    """One connection: one request after the other."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes | None], stub: Stub) -> None:
        self._answer, self._stub = answer, stub
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._stub.connections += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or not _is_whole(self._buffer, end):
            return
        head, self._buffer = self._buffer[:end], b""
        method, path, _ = head.split(b" ", 2)
        body = self._answer(method, path)
        closes = _CLOSE.search(head) is not None
        status = b"404 Not Found" if body is None else b"200 OK"
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b\r\n%b"
            % (status, len(body or b""), b"Connection: close\r\n" if closes else b"", body or b"")
        )
        if closes:
            self._transport.close()


def _is_whole(request: bytes, end: int) -> bool:
    """Whether the body behind the head that ends at `end` is all there."""
    if request.startswith(b"GET"):
        return True
    length = _LENGTH.search(request, 0, end)
    if length is not None:
        return len(request) >= end + 4 + int(length[1])
    chunked = _CHUNKED.search(request, 0, end) is not None
    return not chunked or request.endswith(b"\r\n0\r\n\r\n")


def _now() -> float:
    return asyncio.get_running_loop().time()


async def serve(stub: Stub, port: int = 0) -> tuple[asyncio.Server, str]:
    """Start serving on loopback; the server, and its origin."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(stub.answer, stub), "127.0.0.1", port, backlog=4096
    )
    origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    stub.bind(origin)
    return server, origin


async def main(port: int, polls: int, seconds: float | None) -> None:
    server, origin = await serve(Stub(polls=polls, seconds=seconds), port)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(origin.rpartition(":")[2], flush=True)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--polls", type=int, default=4)
    parser.add_argument("--seconds", type=float)
    asyncio.run(main(**vars(parser.parse_args())))
