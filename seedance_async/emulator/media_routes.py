"""The media routes: they serve files, with ranges, validators and the faults of both.

No credentials are needed here; any that are sent are recorded, as evidence of a leak.
"""

import asyncio
import mimetypes
import re
import time
from collections import deque

from aiohttp import web

from seedance_async.emulator import wire
from seedance_async.emulator.answers import Answer, error
from seedance_async.emulator.faults import Fault
from seedance_async.emulator.jobs import SimulatedJob
from seedance_async.emulator.media import OUTPUT_PATH, MediaFile
from seedance_async.emulator.request_log import MediaRequest
from seedance_async.emulator.state import State

MOVED_PATH = "/media/moved/"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class Unsatisfiable(Exception):  # noqa: N818 -- becomes a 416, which is a response
    """No byte of the file lies in the range."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop of a ``Range`` header; ``None`` if the whole file is to be sent.

    Several ranges and malformed ones are ignored, as RFC 9110 section 14.2 allows.

    Raises:
        Unsatisfiable: if the range is beyond the file's end.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size:
        raise Unsatisfiable
    return start, stop


class MediaRoutes:
    """Serves outputs and samples, and records the requests for ``emulator.media_requests``."""

    def __init__(self, state: State, keep: int = 10_000) -> None:
        self._state = state
        self.requests: deque[MediaRequest] = deque(maxlen=keep)

    def add_routes(self, app: web.Application) -> None:
        """Add GET and HEAD for outputs and samples."""
        for prefix in (OUTPUT_PATH, MOVED_PATH):
            app.router.add_get(prefix + "{requestId}.mp4", self._output)
        app.router.add_get("/media/samples/{name}", self._sample)

    def _record(self, request: web.Request) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(
            MediaRequest(
                time=time.time(), method=request.method, path=request.raw_path, headers=headers
            )
        )

    async def _sample(self, request: web.Request) -> web.StreamResponse:
        self._record(request)
        name = request.match_info["name"]
        file = await self._state.media.sample(name)
        answer = error(404, f"No such sample: {name}")
        if file is not None:
            answer = await _file_answer(request, file, None)
        return await self._finish(request, answer, None)

    async def _output(self, request: web.Request) -> web.StreamResponse:
        self._record(request)
        job = self._state.jobs.get(request.match_info["requestId"])
        fault = self._draw(request, job, early=True)
        if fault is None:
            fault = self._draw(request, job, early=False)
            if fault is not None:
                await wire.delay(fault, self._state.clock)
        answer = await self._answer(request, job, fault)
        return await self._finish(request, answer, fault)

    def _draw(self, request: web.Request, job: SimulatedJob | None, *, early: bool) -> Fault | None:
        moved = request.path.startswith(MOVED_PATH)
        subjects = (request.match_info["requestId"], job.prompt if job else "")
        return self._state.faults.draw(
            "media",
            *subjects,
            early=early,
            applies=lambda fault: not (moved and fault.kind == "redirect"),
        )

    async def _answer(
        self, request: web.Request, job: SimulatedJob | None, fault: Fault | None
    ) -> Answer | None:
        if fault is not None and fault.kind == "redirect" and fault.value is None:
            return _moved(request, fault)
        if fault is not None and fault.spec.stage in ("arrival", "instead"):
            return wire.instead(fault, request)
        if job is None or job.status != "succeeded":
            return error(404, "No such file")
        state = self._state
        if not state.media.may_read(job.request_id, request.query, state.clock.now()):
            return error(403, "The URL has expired or its signature is wrong")
        return await _file_answer(request, await state.media.output(job), fault)

    async def _finish(
        self, request: web.Request, answer: Answer | None, fault: Fault | None
    ) -> web.StreamResponse:
        status = wire.status(answer, fault)
        name = fault.kind if fault else None
        self._state.requests.record("media", request.method, request.raw_path, status, name)
        return await wire.send(request, answer, fault)


def _moved(request: web.Request, fault: Fault) -> Answer:
    location = MOVED_PATH + request.raw_path.removeprefix(OUTPUT_PATH)
    return Answer(fault.status or 302, headers={"Location": location}, content_type="text/plain")


async def _file_answer(request: web.Request, file: MediaFile, fault: Fault | None) -> Answer:
    kind = fault.kind if fault else ""
    etag = f'"{time.monotonic_ns():x}"' if kind == "etag_changed" else file.etag
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    wanted = request.headers.get("Range")
    if kind == "range_ignored" or request.headers.get("If-Range", etag) != etag:
        wanted = None
    try:
        found = parse_range(wanted, file.size)
    except Unsatisfiable:
        headers["Content-Range"] = f"bytes */{file.size}"
        return error(416, "No byte of the file lies in that range", **headers)
    if found and kind == "wrong_range":
        found = 0, found[1]
    start, stop = found or (0, file.size)
    if found:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    body = await asyncio.to_thread(file.read, start, stop)
    guessed, _ = mimetypes.guess_type(request.path)
    return Answer(
        206 if found else 200,
        body=body,
        content_type=guessed or "application/octet-stream",
        headers=headers,
    )
