"""What the sessions of a process send through: it keeps the contract of the SDK's transports."""

import asyncio
import contextlib
import json
import math

from seedance_async import TransportError
from seedance_async.api.transport import MediaResponse
from seedance_async.api.transport.failures import Secrets
from tests.universes.answers import KEY

#: Seconds that a submit and any other call may take, as `Timeouts` has it.
SUBMIT_SECONDS, REQUEST_SECONDS = 120.0, 30.0

#: Seconds from the gate to the transport, at most.
GATE_TO_SOCKET = 0.2


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
        try:
            await self._connect(call)
            if on_sent is not None and self._world.plan.reports_sending:
                on_sent()
            return await self._exchange(call)
        finally:
            call.over = True

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
        # One that is through the gate may be writing its intent to the disk.
        since = max(since, self._process.stopped_until)
        if since + GATE_TO_SOCKET < self._world.clock < until and self._process.alive:
            self._world.problems.append(f"{self._process} submitted while it was told to wait")
