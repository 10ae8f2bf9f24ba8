"""Media hosts: which are fetched from, what they are sent, and what a failure shows."""

import asyncio
import socket

import aiohttp
import pytest

from seedance_async import (
    AiohttpTransport,
    DownloadError,
    GenerationRequest,
    JobState,
    SeedanceSession,
    TransportError,
)
from seedance_async.api.options import Endpoint
from tests.conftest import QUICK_POLL
from tests.support.fakes import FakeAPI, told
from tests.support.http_mock import MockedHTTP
from tests.support.http_proxy import HTTPProxy, relay
from tests.support.raw_server import RawServer
from tests.support.transports import KEY, answer_always, certificates, free_port, media


@pytest.fixture
def make_transport(make):
    return lambda url, **options: make(AiohttpTransport, url, **options)


async def test_media_are_fetched_without_the_key_across_redirects(make_transport):
    async def behave(connection):
        request = await connection.read_request()
        if b"GET /first" in request:
            await connection.answer("302 Found", b"", "Location: /second")
        else:
            await connection.answer("200 OK", b"video")

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        assert await media(transport, server.url + "/first") == (200, b"video")
        assert len(server.received) == 2
        assert not any(KEY.encode() in request for request in server.received)
        assert not any(b"authorization" in request.lower() for request in server.received)
        await transport.aclose()


async def test_public_hosts_may_redirect_to_each_other_and_nowhere_else(make_transport):
    first, second = "https://media.example/a", "https://cdn.example/b"
    transport = make_transport("https://api.example")
    with MockedHTTP() as http:
        http.get(first, status=302, headers={"Location": second}, repeat=True)
        http.get(second, body=b"video")
        assert await media(transport, first) == (200, b"video")
        http.get(second, status=302, headers={"Location": "http://cdn.example/plain"})
        with pytest.raises(TransportError, match="not fetched"):
            await media(transport, first)
        http.get(second, status=302, headers={"Location": "https://169.254.169.254/"})
        with pytest.raises(TransportError, match="not fetched"):
            await media(transport, first)
        assert http.call_count == 6


async def test_a_circle_of_redirects_ends(make_transport):
    async def behave(connection):
        while True:
            await connection.read_request()
            await connection.answer("302 Found", b"", "Location: /again")

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        with pytest.raises(TransportError, match="too many redirects"):
            await media(transport, server.url)
        assert len(server.received) == 6
        await transport.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "http://media.example/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://10.0.0.8/a.mp4",
        "https://[::1]/a.mp4",
        "https://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://media.example/a.mp4",
        "https://[broken/a.mp4",
        "",
    ],
)
async def test_media_on_another_than_a_public_https_host_are_not_fetched(make_transport, url):
    with pytest.raises(TransportError, match="not fetched") as caught:
        await media(make_transport("https://api.example"), url)
    assert (caught.value.delivered, caught.value.transient) == ("no", False)


async def test_a_redirect_off_the_public_internet_is_not_followed(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("302 Found", b"", "Location: file:///etc/passwd")

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        with pytest.raises(TransportError, match="not fetched"):
            await media(transport, server.url)
        await transport.aclose()


async def test_a_signed_url_is_not_told_in_errors(make_transport):
    url = f"http://127.0.0.1:{free_port()}/a.mp4?signature=topsecret"
    with pytest.raises(TransportError) as caught:
        await media(make_transport("http://127.0.0.1:1"), url)
    assert "topsecret" not in str(caught.value)


async def test_a_media_body_that_breaks_off_is_a_transport_error(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"vid", length=100)

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        with pytest.raises(TransportError, match="ClientPayloadError"):
            await media(transport, server.url)
        await transport.aclose()


async def test_an_error_of_the_consumer_is_not_taken_for_one_of_the_transport(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"video")

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        with pytest.raises(OSError, match="disk full"):
            async with transport.open_media(server.url, {}):
                raise OSError("disk full")
        await transport.aclose()


# --- private hosts -------------------------------------------------------------------------------


class AiohttpTransportOf(AiohttpTransport):
    """Its API is a fake; its media hosts are real."""

    def __init__(self, api, **options):
        super().__init__(Endpoint("https://api.example", KEY), **options)
        self._api = api

    async def send(self, request, *, on_sent=None):
        return await self._api.send(request, on_sent=on_sent)


@pytest.fixture
async def names_lead_here(monkeypatch):
    """Every name resolves to this machine, as with a VPN that gives out addresses of its own."""

    async def resolve(host, port, *, family=0, type=0, proto=0, flags=0):
        place = "127.0.0.1", port
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)


async def video(connection):
    while True:
        await connection.read_request()
        await connection.answer("200 OK", b"video")


async def test_a_name_that_leads_to_a_private_address_is_fetched_from_where_that_is_allowed(
    make_transport, names_lead_here
):
    server_side, client_side = certificates("media.example")
    async with RawServer(video, server_side) as server:
        url = f"https://media.example:{server.port}/v.mp4"
        with pytest.raises(TransportError, match="allow_private_media=True"):
            await media(make_transport("https://api.example", ssl=client_side), url)
        assert server.connections == 0
        transport = make_transport("https://api.example", ssl=client_side, allow_private_media=True)
        assert await media(transport, url) == (200, b"video")
        await transport.aclose()


async def test_a_private_host_is_never_asked_in_plain_text(make_transport):
    transport = make_transport("https://api.example", allow_private_media=True)
    for url in ("http://10.0.0.8/a.mp4", "http://minio.internal/a.mp4"):
        with pytest.raises(TransportError, match="not fetched"):
            await media(transport, url)
    with pytest.raises(TransportError, match="allow_private_media"):
        await media(make_transport("https://api.example"), "https://minio.internal/a.mp4")


async def test_a_proxy_may_be_on_a_private_address(make_transport):
    """The guard is about where names lead; behind a proxy, that is the proxy's to know."""
    server_side, client_side = certificates("media.example")

    async def behave(connection):
        await relay(connection.reader, connection.writer, ("127.0.0.1", origin.port))

    async with (
        RawServer(video, server_side) as origin,
        RawServer(behave) as hop,
        HTTPProxy(("127.0.0.1", hop.port)) as proxy,
    ):
        transport = make_transport("https://api.example", ssl=client_side, proxy=proxy.url)
        assert await media(transport, "https://media.example/v.mp4") == (200, b"video")
        await transport.aclose()
    assert proxy.lines == ["CONNECT media.example:443"]


async def test_the_key_of_a_session_of_the_users_goes_to_no_media_host(make_transport):
    async with RawServer(answer_always) as server, aiohttp.ClientSession() as http:
        transport = make_transport(server.url, http=http)
        await media(transport, server.url)
        assert KEY.encode() not in server.received[0]


async def test_a_video_on_a_private_host_is_not_lost(names_lead_here, tmp_path):
    """It is paid for: the job has succeeded, and says how its file can be fetched."""
    server_side, client_side = certificates("media.example")
    api = FakeAPI(seconds=0.01)
    guard = AiohttpTransportOf(api, ssl=client_side)
    async with RawServer(video, server_side) as server:
        url = f"https://media.example:{server.port}/v.mp4"
        api.get = lambda request: told("req_0", "succeeded", output={"type": "video", "url": url})
        async with SeedanceSession(
            api_key=KEY, base_url="https://api.example", transport=guard, poll=QUICK_POLL
        ) as session:
            job = await session.submit(GenerationRequest("a river"))
            with pytest.raises(DownloadError, match="allow_private_media=True") as caught:
                await job.download(tmp_path / "v.mp4")
    assert job.state is JobState.SUCCEEDED
    assert caught.value.request_id == job.request_id
