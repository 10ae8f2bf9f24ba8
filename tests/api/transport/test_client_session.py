"""What the default transport does by itself: with aioresponses, and in which sessions."""

import asyncio
import copy
from contextlib import suppress

import aiohttp
import pytest

from seedance_async import (
    AiohttpTransport,
    GenerationCancelledError,
    GenerationRequest,
    SeedanceSession,
    Timeouts,
    TransportError,
)
from tests.conftest import QUICK_POLL
from tests.support.http_mock import MockedHTTP
from tests.support.raw_server import RawServer
from tests.support.transports import KEY, PATIENT, QUERY, SUBMIT, close_after_reading, failure

API = "https://api.example"
JOBS = f"{API}/api/open/v1/video/generations"
VIDEO = "https://media.example/v.mp4"
MP4 = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08moov" + b"\0\0\0\x0cmdatxxxx"


@pytest.fixture
def make_transport(make):
    return lambda url, *arguments, **options: make(AiohttpTransport, url, *arguments, **options)


def job(name, status, **more):
    return {"success": True, "requestId": name, "status": status, "error": None, **more}


@pytest.fixture(params=["ours", "the user's"])
async def http(request):
    """The `http` option: None for sessions of the SDK."""
    if request.param == "ours":
        yield None
    else:
        async with aiohttp.ClientSession() as made:
            yield made


async def test_with_aioresponses_a_session_does_all_that_it_does(tmp_path, http):
    with MockedHTTP() as mocked:
        mocked.post(JOBS, payload=job("req_1", "queued", creditsCharged=40))
        mocked.get(f"{JOBS}/req_1", payload=job("req_1", "processing"))
        video = {"type": "video", "url": VIDEO}
        mocked.get(f"{JOBS}/req_1", payload=job("req_1", "succeeded", output=video))
        mocked.get(VIDEO, body=MP4, content_type="video/mp4")
        mocked.post(JOBS, payload=job("req_2", "queued", creditsCharged=40))
        mocked.post(f"{JOBS}/req_2/cancel", payload=job("req_2", "cancelled"))
        mocked.get(f"{JOBS}/req_2", payload=job("req_2", "cancelled"), repeat=True)
        async with SeedanceSession(
            api_key=KEY, base_url=API, poll=QUICK_POLL, http=http
        ) as session:
            made = await session.submit(GenerationRequest("a river"))
            path = await made.download(tmp_path / "v.mp4")
            other = await session.submit(GenerationRequest("a lake"))
            await other.cancel()
            with pytest.raises(GenerationCancelledError):
                await other
        media = [call for call in mocked.calls if "Authorization" not in call.kwargs["headers"]]
    assert path.read_bytes() == MP4
    assert len(media) == 1


async def test_aiohttp_repeats_a_query_once_and_a_submit_never(make_transport):
    for request, times in ((QUERY, 2), (SUBMIT, 1)):
        async with RawServer(close_after_reading) as server:
            error, sent = await failure(make_transport(server.url), request)
            assert (error.delivered, sent, len(server.received)) == ("maybe", 1, times)


async def test_a_call_whose_caller_is_cancelled_ends_with_it(make_transport):
    read = asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        read.set()
        await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url, PATIENT)
        sending = asyncio.ensure_future(transport.send(SUBMIT))
        await read.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert not transport._submits._calls
        assert not transport._submits._answering._due
        await transport.aclose()


async def test_closing_ends_a_submit_that_waits_for_a_connection_as_not_sent(make_transport):
    read = asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        read.set()
        await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url, PATIENT, max_connections=1)
        first = asyncio.ensure_future(failure(transport))
        await read.wait()
        second = asyncio.ensure_future(failure(transport))
        await asyncio.sleep(0)
        await transport.aclose()
        assert [(e.delivered, sent) for e, sent in (await first, await second)] == [
            ("maybe", 1),
            ("no", 0),
        ]


async def test_the_time_of_a_query_counts_from_its_start(make_transport, monkeypatch):
    async def never(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", never)
    transport = make_transport("http://127.0.0.1:1", Timeouts(connect=3600.0, request=0.05))
    error, _ = await failure(transport, QUERY)
    assert "in time" in str(error)


async def never_answer(connection):
    await connection.read_request()
    await connection.hang()


async def test_a_call_that_took_too_long_leaves_its_task_as_it_was(make_transport):
    """It cancels the task to end what aiohttp waits for, and must take that back."""
    task = asyncio.current_task()
    async with RawServer(never_answer) as server:
        transport = make_transport(server.url, Timeouts(request=0.05))
        for cancelled_before in (0, 1):
            error, _ = await failure(transport, QUERY)
            assert "in time" in str(error)
            assert task.cancelling() == cancelled_before
            if not cancelled_before:
                task.cancel()
                with suppress(asyncio.CancelledError):  # and a call of its clean-up goes on
                    await asyncio.sleep(0)
        task.uncancel()


async def test_a_cancellation_at_the_end_of_a_calls_time_is_not_lost(make_transport):
    read = asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        read.set()
        await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url, PATIENT)
        sending = asyncio.ensure_future(transport.send(QUERY))
        await read.wait()
        (call,) = transport._queries._calls
        call.end(TimeoutError("late"))
        call._cancel()  # as it does two turns later; somebody else at the same moment
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert sending.cancelling() == 1


async def test_the_options_are_parameters_of_their_own():
    with pytest.raises(TypeError, match="speed"):
        AiohttpTransport(None, speed=5)
    transport = AiohttpTransport.__init__.__signature__
    assert list(transport.parameters)[:3] == ["self", "endpoint", "timeouts"]
    assert all(p.kind is p.KEYWORD_ONLY for p in list(transport.parameters.values())[2:])


async def test_a_failure_can_be_copied_and_keeps_what_it_says(make_transport):
    with pytest.raises(TransportError) as caught:
        await make_transport("http://127.0.0.1:1").send(SUBMIT)
    again = copy.copy(caught.value)
    assert (again.delivered, str(again)) == ("no", str(caught.value))
