"""What the emulator's tests share: a started emulator and a plain client to it."""

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from attrs import define, frozen

from seedance_async.emulator import Emulator, EmulatorOptions

SEED = int(os.environ.get("EMULATOR_SEED", "20"))
GENERATIONS = "/api/open/v1/video/generations"
BODY = {"model": "seedance-2.0", "prompt": "A river in autumn"}


@frozen
class Reply:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        assert self.data["success"] is False
        return self.data["error"]


@define
class Api:
    """A plain client: no retries, no redirects, nothing hidden."""

    emulator: Emulator
    http: aiohttp.ClientSession

    async def call(self, method: str, path: str, **kwargs: Any) -> Reply:
        kwargs.setdefault("headers", {"Authorization": f"Bearer {self.emulator.api_key}"})
        url = path if path.startswith("http") else self.emulator.url + path
        async with self.http.request(method, url, allow_redirects=False, **kwargs) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def submit(self, **fields: Any) -> Reply:
        body = {**BODY, **fields}
        return await self.call("POST", GENERATIONS, json=body)

    async def post(self, data: Any, content_type: str = "application/json") -> Reply:
        """Submit a body of any bytes."""
        headers = {
            "Authorization": f"Bearer {self.emulator.api_key}",
            "Content-Type": content_type,
        }
        return await self.call("POST", GENERATIONS, data=data, headers=headers)

    async def accepted(self, **fields: Any) -> str:
        reply = await self.submit(**fields)
        assert reply.status == 200, reply
        return reply.data["requestId"]

    async def poll(self, request_id: str) -> Reply:
        return await self.call("GET", f"{GENERATIONS}/{request_id}")

    async def cancel(self, request_id: str) -> Reply:
        return await self.call("POST", f"{GENERATIONS}/{request_id}/cancel")

    async def models(self) -> Reply:
        return await self.call("GET", "/api/open/v1/models")

    async def succeeded(self, **fields: Any) -> str:
        request_id = await self.accepted(**fields)
        if not self.emulator.jobs[request_id].is_terminal:
            self.emulator.jobs.finish(request_id)
        return request_id

    async def output_url(self, **fields: Any) -> str:
        return (await self.poll(await self.succeeded(**fields))).data["output"]["url"]


Start = Callable[..., Any]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts an emulator with the given options and returns a plain client to it."""
    async with AsyncExitStack() as exits:

        async def begin(**options: Any) -> Api:
            options = {"seed": SEED, "hold": True, "media": "shared", **options}
            emulator = await exits.enter_async_context(Emulator(EmulatorOptions(**options)))
            print(emulator)
            return Api(emulator, await exits.enter_async_context(aiohttp.ClientSession()))

        yield begin


@pytest.fixture
async def api(start: Start) -> Api:
    """A client to an emulator whose jobs end only when the test says so."""
    return await start()
