"""The wire: how an answer, whole or broken, is written to the connection.

It carries faults out and chooses none. Broken answers are written straight to the transport,
because a server library refuses to send less than it announced.
"""

import asyncio
import gzip
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from time import time

from aiohttp import web

from seedance_async.emulator.answers import Answer, error
from seedance_async.emulator.clock import Clock
from seedance_async.emulator.faults import Fault, Framing

HTML = "<!doctype html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
_PADDING = 64 * 1024
_DROPS = frozenset({"drop_before_read", "drop_before_accept", "drop_after_accept"})
_PIECES = 16
_BROTLI_BLOCK = 64 * 1024
_ZSTD_BLOCK = 128 * 1024
_MESSAGES = {
    "unauthorized": "Invalid API key",
    "not_found": "No such request",
    "expired": "The URL has expired",
    "gone": "The file is gone",
}


def instead(fault: Fault, request: web.Request) -> Answer | None:
    """What a fault answers instead of the truth; ``None`` if it closes the connection."""
    kind, message = fault.kind, fault.message or "Something went wrong, try again"
    match kind:
        case "drop_before_read" | "drop_before_accept" | "drop_after_accept":
            return None
        case "500":
            return error(500, message, fault.code)
        case "503_refused":
            return error(503, message, fault.code, **_retry_after(fault))
        case "rate_limited":
            headers = _retry_after(fault)
            return error(429, fault.message or "Too many requests", fault.code, **headers)
        case "unauthorized" | "not_found" | "expired" | "gone":
            status = {"unauthorized": 401, "not_found": 404, "expired": 403, "gone": 410}[kind]
            return error(status, fault.message or _MESSAGES[kind], fault.code)
        case "error":
            answer = error(fault.status or 400, message, fault.code)
            answer.data = answer.data if fault.value is None else fault.value
            return answer
        case "success_false":
            return Answer(200, error(500, message, fault.code).data)
        case "key_echo":
            key = request.headers.get("Authorization", "none")
            return error(fault.status or 500, f"Cannot authorize {key}", fault.code)
    return _foreign(fault)


def _foreign(fault: Fault) -> Answer:
    """An answer that is not the API's own: a gateway's, a captive portal's, a redirect."""
    if fault.kind == "redirect":
        target = str(fault.value or "http://127.0.0.1:9/elsewhere")
        return Answer(fault.status or 307, headers={"Location": target}, content_type="text/plain")
    if fault.kind == "503":
        return Answer(503, content_type="text/plain")
    status = (fault.status or 200) if fault.kind == "html" else int(fault.kind)
    title = "Sign in to continue" if status == 200 else f"{status} {_phrase(status)}"
    return Answer(status, body=HTML.format(title).encode(), content_type="text/html")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # gateways have statuses of their own, such as 520
        return "Unknown Error"


def _retry_after(fault: Fault) -> dict[str, str]:
    match fault.retry_form:
        case "seconds":
            return {"Retry-After": f"{fault.retry_after:.15g}"}
        case "date":
            now = time() + fault.skew
            retry_at = formatdate(now + fault.retry_after, usegmt=True)
            return {"Date": formatdate(now, usegmt=True), "Retry-After": retry_at}
        case "garbage":
            return {"Retry-After": str(fault.value or "soon; nan")}
    return {}


def status(answer: Answer | None, fault: Fault | None) -> int | None:
    """The status for the records: ``None`` if the connection is closed without an answer."""
    if answer is None or (fault and fault.kind in _DROPS):
        return None
    return _wrong_status(fault) if fault and fault.kind == "wrong_status" else answer.status


def _wrong_status(fault: Fault) -> int:
    return fault.status or 429


async def send(
    request: web.Request, answer: Answer | None, fault: Fault | None
) -> web.StreamResponse:
    """Send the answer in the way that the fault demands; ``None`` closes the connection."""
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
        case "wrong_status":
            answer.status = _wrong_status(fault)
            answer.headers.update(_retry_after(fault) if answer.status in (429, 503) else {})
            return _whole(answer, answer.payload())
        case "compressed":
            encoding = str(fault.value or "gzip")
            answer.headers["Content-Encoding"] = encoding
            return _whole(answer, _COMPRESSORS[encoding](answer.payload()))
        case "bad_gzip":
            answer.headers["Content-Encoding"] = "gzip"
            return _whole(answer, answer.payload())
        case "closes_after":
            return await _closed_after(request, answer)
    return await _padded(request, answer, fault)


async def delay(fault: Fault, clock: Clock) -> None:
    """Wait as long as the fault says."""
    if fault.seconds and fault.kind != "slow_body":
        await asyncio.sleep(clock.real_delay(fault.seconds, virtual=fault.virtual))


def _headers(answer: Answer) -> dict[str, str]:
    return {"Content-Type": answer.content_type, **answer.headers}


def _whole(answer: Answer, body: bytes) -> web.Response:
    return web.Response(status=answer.status, body=body, headers=_headers(answer))


def _drop(request: web.Request, *, reset: bool) -> web.Response:
    transport = request.transport
    if transport is not None and reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    elif transport is not None:
        transport.close()
    return web.Response()  # is never sent: the connection is closed


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
    """The header that announces the body, and the bytes that are sent."""
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


async def _closed_after(request: web.Request, answer: Answer) -> web.StreamResponse:
    """A whole answer on a connection that then closes, as at the end of a keep-alive timeout."""
    response = _whole(answer, answer.payload())
    with suppress(ConnectionError):  # the client has disconnected
        await response.prepare(request)
        await response.write_eof()
    if request.transport is not None:
        request.transport.close()
    return response


async def _slow(request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
    body = answer.payload()
    size = max(1, len(body) // _PIECES)
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.content_length = len(body)
    with suppress(ConnectionError):  # the client has disconnected
        await response.prepare(request)
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(fault.seconds)
    return response


async def _padded(request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
    """The true answer followed by blanks: still JSON, but far more than a client should read."""
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    squeeze = fault.kind == "gzip_bomb"
    if squeeze:
        response.headers["Content-Encoding"] = "gzip"
    with suppress(ConnectionError):  # the client has disconnected
        await response.prepare(request)
        async for piece in _pieces(answer.payload(), fault.size):
            # A gzip file may consist of several members: each piece is one.
            await response.write(gzip.compress(piece) if squeeze else piece)
    return response


async def _pieces(payload: bytes, size: int) -> AsyncIterator[bytes]:
    yield payload
    blank = b" " * _PADDING
    for start in range(len(payload), size, _PADDING):
        yield blank[: size - start]


def _brotli(content: bytes) -> bytes:
    """A Brotli stream (RFC 7932) of stored blocks, which needs no library."""
    stream = b""
    for start in range(0, len(content), _BROTLI_BLOCK):
        block = content[start : start + _BROTLI_BLOCK]
        # From the lowest bit: not last (1), length in 4 nibbles (2), length - 1 (16), stored (1).
        header = (len(block) - 1) << 3 | 1 << 19
        window = 0 if stream else 1  # the stream begins with one bit for the window's size
        stream += (header << window).to_bytes(3, "little") + block
    return stream + b"\x03"  # an empty last block


def _zstd(content: bytes) -> bytes:
    """A Zstandard frame (RFC 8878) of raw blocks, which needs no library."""
    frame = bytes.fromhex("28b52ffda0") + len(content).to_bytes(4, "little")
    for start in range(0, len(content), _ZSTD_BLOCK):
        block = content[start : start + _ZSTD_BLOCK]
        is_last = start + _ZSTD_BLOCK >= len(content)
        frame += (len(block) << 3 | is_last).to_bytes(3, "little") + block
    return frame


_COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": _brotli,
    "zstd": _zstd,
}
