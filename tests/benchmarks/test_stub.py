"""The benchmarks' stub answers as the SDK expects, so that the benchmarks keep working."""

import asyncio

import aiohttp
import pytest

from benchmarks.peers.clients import Work, by_hand, seedance
from benchmarks.stub import Stub, serve
from seedance_async import Backoff, GenerationRequest, JobState, SeedanceSession


@pytest.fixture
async def stub():
    stub = Stub(polls=3)
    server, stub.origin = await serve(stub)
    yield stub
    server.close()
    await server.wait_closed()


def session_with(stub):
    poll = Backoff(initial=0.01, multiplier=1, jitter=0)
    return SeedanceSession(api_key="key", base_url=stub.origin, poll=poll, poll_rate=1e6)


async def connected_to(stub):
    return await asyncio.open_connection(*stub.origin.removeprefix("http://").split(":"))


async def test_twenty_jobs_succeed_after_three_polls_each(stub):
    requests = [GenerationRequest(f"prompt {number}") for number in range(20)]
    async with session_with(stub) as session:
        batch = await session.run(requests)
    assert [job.state for job in batch] == [JobState.SUCCEEDED] * 20
    stats = stub.stats()
    assert stats["submits"] == {"seedance": 20}
    assert stats["queries"] == {"seedance": 60}
    assert stats["ended"] == {"seedance": 20}


@pytest.mark.parametrize("opened", [seedance, by_hand])
async def test_the_sdk_and_the_loop_by_hand_do_the_same_work_in_the_peers_benchmark(stub, opened):
    async with opened(Work(stub.origin, concurrency=4, connections=2, interval=0.01)) as run:
        await run(8)
    stats = stub.stats()
    assert stats["ended"] == {"seedance": 8}
    assert stats["queries"] == {"seedance": 24}
    assert stats["running_most"] == 4


async def test_the_stub_has_statistics_and_answers_404_to_unknown_jobs(stub):
    async with aiohttp.ClientSession(stub.origin) as http:
        async with http.get("/stats") as response:
            assert (await response.json())["submits"] == {}
        async with http.get("/api/open/v1/video/generations/req_unknown") as response:
            assert response.status == 404
        assert stub.connections == 1


async def test_a_chunked_body_is_read_to_its_end(stub):
    reader, writer = await connected_to(stub)
    writer.write(b"POST /v1/videos HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{  }\r\n")
    await writer.drain()
    async with aiohttp.ClientSession(stub.origin) as http, http.get("/stats") as response:
        assert (await response.json())["submits"] == {}
    writer.write(b"0\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await writer.wait_closed()


async def test_a_connection_is_closed_at_the_request_of_the_client(stub):
    reader, writer = await connected_to(stub)
    writer.write(b"GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in answer
    writer.close()
    await writer.wait_closed()
