"""The wire: owns how an answer, whole or broken, gets onto the connection.

It carries faults out and decides none. Broken answers are written straight to the transport,
because a server library will not let one send less than it promised.
"""

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from time import time

from aiohttp import web

from .answers import Answer, error
from .clock import Clock
from .faults import Fault, Framing

HTML = "<!doctype html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
_PADDING = 64 * 1024
_DROPS = frozenset({"drop_before_read", "drop_before_accept", "drop_after_accept"})
_PIECES = 16


def instead(fault: Fault) -> Answer | None:
    """What a fault answers instead of the truth; ``None`` if it closes the connection."""
    kind, message = fault.kind, fault.message
    if kind in _DROPS:
        return None
    if kind in ("500", "503_refused"):
        status = int(kind[:3])
        answer = error(status, message or "Something went wrong, try again", fault.code)
        if kind == "503_refused":
            answer.headers.update(_retry_after(fault))
        return answer
    if kind == "rate_limited":
        return error(429, message or "Too many requests", fault.code, **_retry_after(fault))
    if kind in ("unauthorized", "not_found", "expired", "gone"):
        status = {"unauthorized": 401, "not_found": 404, "expired": 403, "gone": 410}[kind]
        return error(status, message or _MESSAGES[kind], fault.code)
    return _foreign(fault)


_MESSAGES = {
    "unauthorized": "Invalid API key",
    "not_found": "No such request",
    "expired": "The URL has expired",
    "gone": "The file is gone",
}


def _foreign(fault: Fault) -> Answer:
    """An answer that is not the API's own: a gateway's, a portal's, a redirect."""
    if fault.kind == "redirect":
        target = str(fault.value or "http://127.0.0.1:9/elsewhere")
        return Answer(fault.status or 307, headers={"Location": target}, content_type="text/plain")
    if fault.kind == "503":
        return Answer(503, content_type="text/plain")
    status = 200 if fault.kind == "html" else int(fault.kind)
    title = "Sign in to continue" if status == 200 else f"{status} {HTTPStatus(status).phrase}"
    return Answer(status, body=HTML.format(title).encode(), content_type="text/html")


def _retry_after(fault: Fault) -> dict[str, str]:
    match fault.retry_form:
        case "seconds":
            return {"Retry-After": f"{fault.retry_after:g}"}
        case "date":
            now = time() + fault.skew
            retry_at = formatdate(now + fault.retry_after, usegmt=True)
            return {"Date": formatdate(now, usegmt=True), "Retry-After": retry_at}
        case "garbage":
            return {"Retry-After": str(fault.value or "soon; nan")}
    return {}


def status(answer: Answer | None, fault: Fault | None) -> int | None:
    """The status for the records: ``None`` where the connection is closed without an answer."""
    return None if answer is None or (fault and fault.kind in _DROPS) else answer.status


async def send(
    request: web.Request, answer: Answer | None, fault: Fault | None
) -> web.StreamResponse:
    """Send the answer the way the fault wants it; ``None`` closes the connection."""
    kind = fault.kind if fault else ""
    if answer is None or kind in _DROPS:
        return _drop(request, reset=bool(fault and fault.reset))
    if fault is None or fault.spec.stage != "wire":
        return _whole(answer, answer.payload())
    match kind:
        case "truncated":
            return _truncated(request, answer, fault)
        case "slow_body":
            return await _slow(request, answer, fault)
        case "wrong_content_type":
            answer.content_type = str(fault.value or "text/plain")
            return _whole(answer, answer.payload())
        case "huge_headers":
            answer.headers["X-Padding"] = "x" * _PADDING
            return _whole(answer, answer.payload())
    return await _padded(request, answer, fault)


async def delay(fault: Fault, clock: Clock) -> None:
    """Wait as long as the fault says, in real or virtual seconds."""
    if fault.seconds and fault.kind != "slow_body":
        await asyncio.sleep(clock.real(fault.seconds) if fault.virtual else fault.seconds)


def _headers(answer: Answer) -> dict[str, str]:
    return {"Content-Type": answer.content_type, **answer.headers}


def _whole(answer: Answer, body: bytes) -> web.Response:
    return web.Response(status=answer.status, body=body, headers=_headers(answer))


def _drop(request: web.Request, *, reset: bool) -> web.Response:
    transport = request.transport
    if transport is not None and reset:
        found = transport.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif transport is not None:
        transport.close()
    return web.Response()  # goes nowhere: the connection is closed


def _truncated(request: web.Request, answer: Answer, fault: Fault) -> web.Response:
    body = answer.payload()
    at = len(body) // 2 if fault.at is None else min(fault.at, len(body) - 1)
    header, sent = _framed(body, max(at, 0), fault.framing)
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", header]
    lines += [f"{name}: {value}" for name, value in _headers(answer).items()]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    if request.transport is not None:
        request.transport.write(head[:at] if at < 0 else head + sent)
    return _drop(request, reset=fault.reset)


def _framed(body: bytes, at: int, framing: Framing) -> tuple[str, bytes]:
    """The header that announces the body, and what is sent of it."""
    cut = body[:at]
    match framing:
        case "length":
            return f"Content-Length: {len(body)}", cut
        case "close":
            return "Connection: close", cut
        case "chunked":
            return "Transfer-Encoding: chunked", f"{len(body):x}\r\n".encode() + cut
    chunk = f"{at:x}\r\n".encode() + cut + b"\r\n" if cut else b""
    return "Transfer-Encoding: chunked", chunk + b"0\r\n\r\n"  # ended


async def _slow(request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
    body = answer.payload()
    size = max(1, len(body) // _PIECES)
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.content_length = len(body)
    with suppress(ConnectionError):  # the client has had enough
        await response.prepare(request)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(fault.seconds)
    return response


async def _padded(request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
    """The true answer with blanks after it: still JSON, and far more than one should read."""
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    squeeze = fault.kind == "gzip_bomb"
    if squeeze:
        response.headers["Content-Encoding"] = "gzip"
    with suppress(ConnectionError):  # the client has had enough
        await response.prepare(request)
        async for piece in _pieces(answer.payload(), fault.size):
            # Members of a gzip file may follow one another, so each piece is one of its own.
            await response.write(gzip.compress(piece) if squeeze else piece)
    return response


async def _pieces(payload: bytes, size: int) -> AsyncIterator[bytes]:
    yield payload
    blank = b" " * _PADDING
    for start in range(len(payload), size, _PADDING):
        yield blank[: size - start]
