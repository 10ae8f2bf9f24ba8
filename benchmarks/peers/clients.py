"""The same work through each client: owns how each is set up and how it waits for a job.

Each is used as its own documentation says, at its best: on aiohttp where it can be, its waits at
the given interval, its limit of connections the given one, its timeouts long enough for a queue.
What a client imports, it imports when it is made, so that no process holds more than one.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from enum import Enum
from typing import Any

import attrs

PROMPT = "A river in autumn, drifting leaves, low sun"
_PATIENCE = 600.0
_KEY = "no-key"


@attrs.frozen
class Work:
    """What is to be done.

    Args:
        origin: of the stub.
        concurrency: jobs in flight at once.
        connections: at the most.
        interval: seconds between the polls of one job.
    """

    origin: str
    concurrency: int
    connections: int
    interval: float


#: Makes that many jobs and waits for all of them.
Run = Callable[[int], Awaitable[None]]


class Role(Enum):
    """What a client's figures are for."""

    OURS = "ours"
    #: Ours with another transport than the default.
    TUNED_OURS = "tuned ours"
    BY_HAND = "by hand"
    PEER = "peer"
    #: A peer with another transport than its documentation names.
    TUNED_PEER = "tuned peer"


@attrs.frozen
class Client:
    """One way to do the work.

    Args:
        label: what the table calls it; `{}` becomes the package's version.
        package: whose version that is.
        module: imported before anything is measured.
        opened: the client, ready to run.
        role: what its figures are for.
    """

    label: str
    package: str
    module: str
    opened: Callable[[Work], AbstractAsyncContextManager[Run]]
    role: Role = Role.PEER


async def _gathered(job: Callable[[], Awaitable[None]], work: Work, jobs: int) -> None:
    """One coroutine a job, the usual way to bound how many run at once."""
    slots = asyncio.Semaphore(work.concurrency)

    async def in_slot() -> None:
        async with slots:
            await job()

    await asyncio.gather(*(in_slot() for _ in range(jobs)))


@asynccontextmanager
async def seedance(work: Work, transport: str = "aiohttp") -> AsyncIterator[Run]:
    """This SDK."""
    sdk = importlib.import_module("seedance_async")
    session = sdk.SeedanceSession(
        transport=transport,
        api_key=_KEY,
        base_url=work.origin,
        max_in_flight=work.concurrency,
        max_connections=work.connections,
        poll=sdk.Backoff(initial=work.interval, multiplier=1, jitter=0),
        poll_rate=1e6,
    )

    async def run(jobs: int) -> None:
        batch = await session.run(sdk.GenerationRequest(PROMPT, duration=5) for _ in range(jobs))
        batch.raise_for_failures()

    async with session:
        yield run


def seedance_direct(work: Work) -> AbstractAsyncContextManager[Run]:
    """This SDK on its direct transport."""
    return seedance(work, "direct")


@asynccontextmanager
async def by_hand(work: Work, *, fresh: bool = False) -> AsyncIterator[Run]:
    """What one would write without any SDK, with nothing that can go wrong taken care of.

    With `fresh`, it sends each submit on a connection of its own, as this SDK does.
    """
    aiohttp = importlib.import_module("aiohttp")
    url = f"{work.origin}/api/open/v1/video/generations"
    body = {"prompt": PROMPT, "model": "seedance-2-0", "duration": 5}
    connector = aiohttp.TCPConnector(limit=work.connections)
    headers = {"Authorization": f"Bearer {_KEY}"}
    close = {"Connection": "close"} if fresh else None

    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:

        async def job() -> None:
            async with http.post(url, json=body, headers=close) as response:
                accepted = await response.json()
            status = accepted["status"]
            while status in ("queued", "processing"):
                await asyncio.sleep(work.interval)
                async with http.get(f"{url}/{accepted['requestId']}") as response:
                    status = (await response.json())["status"]
            assert status == "succeeded"

        yield lambda jobs: _gathered(job, work, jobs)


def by_hand_on_fresh(work: Work) -> AbstractAsyncContextManager[Run]:
    """As `by_hand`, each submit on a connection of its own."""
    return by_hand(work, fresh=True)


@asynccontextmanager
async def fal(work: Work) -> AsyncIterator[Run]:
    """fal-client's `subscribe`. Its address is not an option, its limit of 100 connections neither.

    Its status is asked for at once and its result is a query of its own.
    """
    module: Any = importlib.import_module("fal_client.client")
    module.QUEUE_URL_FORMAT = f"{work.origin}/"
    client = module.AsyncClient(key=_KEY, default_timeout=_PATIENCE)

    async def job() -> None:
        arguments = {"prompt": PROMPT, "duration": 5}
        told = await client.subscribe(
            "fal-ai/seedance", arguments=arguments, interval=work.interval
        )
        assert told["video"]["url"]

    yield lambda jobs: _gathered(job, work, jobs)


@asynccontextmanager
async def openai(work: Work) -> AsyncIterator[Run]:
    """openai's `videos.create_and_poll`, on its aiohttp client. Its first poll comes at once."""
    module = importlib.import_module("openai")
    limits = _limits(importlib.import_module("httpx2"), work)
    http = module.DefaultAioHttpClient(limits=limits, timeout=_PATIENCE)
    async with module.AsyncOpenAI(
        api_key=_KEY, base_url=f"{work.origin}/v1", http_client=http
    ) as client:

        async def job() -> None:
            video = await client.videos.create_and_poll(
                prompt=PROMPT,
                model="sora-2",
                seconds="4",
                poll_interval_ms=round(work.interval * 1000),
            )
            assert video.status == "completed"

        yield lambda jobs: _gathered(job, work, jobs)


@asynccontextmanager
async def runway(work: Work) -> AsyncIterator[Run]:
    """runwayml's `wait_for_task_output`, on its aiohttp client. Its interval is a constant."""
    module = importlib.import_module("runwayml")
    polling: Any = importlib.import_module("runwayml.lib.polling")
    polling.POLL_TIME, polling.POLL_JITTER = work.interval, 0
    limits = _limits(importlib.import_module("httpx"), work)
    http = module.DefaultAioHttpClient(limits=limits, timeout=_PATIENCE)
    async with module.AsyncRunwayML(api_key=_KEY, base_url=work.origin, http_client=http) as client:

        async def job() -> None:
            task = await client.image_to_video.create(
                model="gen4_turbo",
                prompt_image="https://media.example/photo.jpg",
                prompt_text=PROMPT,
                ratio="1280:720",
                duration=5,
            )
            done = await task.wait_for_task_output()
            assert done.status == "SUCCEEDED"

        yield lambda jobs: _gathered(job, work, jobs)


@asynccontextmanager
async def replicate(work: Work) -> AsyncIterator[Run]:
    """replicate's `async_create` and `async_wait`, on httpx's transport with a higher limit."""
    httpx = importlib.import_module("httpx")
    async with _replicate(work, httpx.AsyncHTTPTransport(limits=_limits(httpx, work))) as run:
        yield run


@asynccontextmanager
async def replicate_on_aiohttp(work: Work) -> AsyncIterator[Run]:
    """The same on httpx-aiohttp's transport, of which replicate's documentation does not speak."""
    httpx = importlib.import_module("httpx")
    transport = importlib.import_module("httpx_aiohttp").AiohttpTransport(
        limits=_limits(httpx, work)
    )
    async with _replicate(work, transport) as run, aclosing(transport):
        yield run


@asynccontextmanager
async def _replicate(work: Work, transport: Any) -> AsyncIterator[Run]:
    client = importlib.import_module("replicate.client").Client(
        api_token=_KEY,
        base_url=work.origin,
        timeout=importlib.import_module("httpx").Timeout(_PATIENCE),
        transport=transport,
    )
    client.poll_interval = work.interval

    async def job() -> None:
        prediction = await client.models.predictions.async_create(
            model="bytedance/seedance", input={"prompt": PROMPT, "duration": 5}
        )
        await prediction.async_wait()
        assert prediction.status == "succeeded"

    yield lambda jobs: _gathered(job, work, jobs)


def _limits(httpx: Any, work: Work) -> Any:
    """Of httpx or of httpx2: connections, all of them kept alive."""
    return httpx.Limits(
        max_connections=work.connections, max_keepalive_connections=work.connections
    )


CLIENTS = {
    "seedance": Client("seedance_async", "seedance_async", "seedance_async", seedance, Role.OURS),
    "seedance direct": Client(
        "seedance_async, direct",
        "seedance_async",
        "seedance_async",
        seedance_direct,
        Role.TUNED_OURS,
    ),
    "by hand": Client("aiohttp {} by hand", "aiohttp", "aiohttp", by_hand, Role.BY_HAND),
    "by hand on fresh": Client(
        "aiohttp {} by hand, POSTs on fresh connections",
        "aiohttp",
        "aiohttp",
        by_hand_on_fresh,
        Role.BY_HAND,
    ),
    "fal": Client("fal-client {}", "fal_client", "fal_client", fal),
    "openai": Client("openai {} (aiohttp)", "openai", "openai", openai),
    "runway": Client("runwayml {} (aiohttp)", "runwayml", "runwayml", runway),
    "replicate": Client("replicate {}", "replicate", "replicate", replicate),
    "replicate on aiohttp": Client(
        "replicate {}, httpx-aiohttp",
        "replicate",
        "replicate",
        replicate_on_aiohttp,
        Role.TUNED_PEER,
    ),
}
