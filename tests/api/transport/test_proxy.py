"""Through real proxies, with a private authority, and with a session of the user's own.

Each way: submit, poll, cancel and download against the emulator, which is behind a name that no
DNS knows and a TLS server of ours where the URL says https://.
"""

import asyncio
import base64
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from seedance_async import (
    AiohttpTransport,
    GenerationCancelledError,
    GenerationRequest,
    JobState,
    SeedanceSession,
    Timeouts,
    TransportError,
)
from seedance_async.emulator import Emulator, EmulatorOptions
from tests.conftest import QUICK_POLL, QUICK_RETRY
from tests.support import transports
from tests.support.http_proxy import HTTPProxy, relay
from tests.support.raw_server import RawServer
from tests.support.transports import QUERY, SUBMIT, certificates, failure

PASSWORD = "an engineer:p@ss:word"
IN_URL = "an%20engineer:p%40ss%3Aword"
PUBLIC = "https://api.example"
SMALL = {"duration": 4, "resolution": "480p"}


@pytest.fixture
async def emulator():
    async with Emulator(EmulatorOptions(hold=True, speed=2000, seed=7, media="shared")) as started:
        yield started


@asynccontextmanager
async def in_public(emulator):
    """The emulator as https://api.example: where it listens, and what trusts it."""
    server, client = certificates("api.example")
    here = target(emulator)
    emulator._state.origin = PUBLIC

    async def behave(connection):
        await relay(connection.reader, connection.writer, here)

    async with RawServer(behave, server) as front:
        yield ("127.0.0.1", front.port), client


async def use(emulator, folder, base_url=None, **options):
    """Everything that a session does, from a prompt to a file."""
    async with SeedanceSession(
        base_url=base_url or emulator.url, api_key=emulator.api_key, poll=QUICK_POLL,
        poll_rate=2000.0, retry=QUICK_RETRY, timeouts=Timeouts(submit=10, request=10), **options,
    ) as session:  # fmt: skip
        job = await session.submit(GenerationRequest("a river", **SMALL))
        emulator.jobs.finish(job.request_id)
        path = await job.download(folder / "river.mp4")
        other = await session.submit(GenerationRequest("a lake", **SMALL))
        await other.cancel()
        with pytest.raises(GenerationCancelledError):
            await other
    assert path.stat().st_size > 0
    assert (job.state, other.state) == (JobState.SUCCEEDED, JobState.CANCELLED)
    assert emulator.requests.count("submit") == 2
    assert not any(request.carried_credentials for request in emulator.media_requests)


def target(emulator):
    return "127.0.0.1", int(emulator.url.rpartition(":")[2])


# --- a proxy that was given ----------------------------------------------------------------------


@pytest.mark.parametrize("password", [None, PASSWORD])
async def test_http_through_a_proxy(emulator, tmp_path, password):
    async with HTTPProxy(target(emulator), password) as proxy:
        url = proxy.url if password is None else proxy.url.replace("//", f"//{IN_URL}@")
        await use(emulator, tmp_path, proxy=url)
    assert all(line.split()[1].startswith(emulator.url) for line in proxy.lines)
    assert {line.split()[0] for line in proxy.lines} == {"GET", "POST"}


@pytest.mark.parametrize("password", [None, PASSWORD])
async def test_https_through_a_proxy_which_never_sees_the_key(emulator, tmp_path, password):
    async with in_public(emulator) as (place, trusting), HTTPProxy(place, password) as proxy:
        url = proxy.url if password is None else proxy.url.replace("//", f"//{IN_URL}@")
        await use(emulator, tmp_path, PUBLIC, proxy=url, ssl=trusting)
    assert set(proxy.lines) == {"CONNECT api.example:443"}
    for head in proxy.requests:
        assert emulator.api_key.encode() not in head
        assert b"\r\nauthorization:" not in head.lower()


async def test_submits_through_a_proxy_have_tunnels_of_their_own(emulator):
    async with in_public(emulator) as (place, trusting), HTTPProxy(place) as proxy:
        transport = transports.to(AiohttpTransport, PUBLIC, proxy=proxy.url, ssl=trusting)
        for request in (SUBMIT, SUBMIT, QUERY, QUERY):
            await transport.send(request)
        await transport.aclose()
    assert len(proxy.lines) == 3


@pytest.mark.parametrize(
    ("refusal", "transient"),
    [
        ("407 Proxy Authentication Required", False),
        ("403 Forbidden", False),
        ("503 Busy", True),
    ],
)
async def test_a_tunnel_that_is_refused_delivered_nothing(make, refusal, transient):
    async with HTTPProxy(None, refuse=refusal) as proxy:
        url = proxy.url.replace("//", f"//{IN_URL}@")
        error, sent = await failure(make(AiohttpTransport, PUBLIC, proxy=url))
    assert (error.delivered, error.transient, sent) == ("no", transient, 0)
    assert refusal in str(error)


async def break_off(connection):
    await connection.reader.readuntil(b"\r\n\r\n")


async def answer_garbage(connection):
    await connection.reader.readuntil(b"\r\n\r\n")
    await connection.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


@pytest.mark.parametrize("behave", [break_off, answer_garbage])
async def test_a_proxy_that_breaks_off_before_the_tunnel_delivered_nothing(make, behave):
    async with RawServer(behave) as proxy:
        error, sent = await failure(make(AiohttpTransport, PUBLIC, proxy=proxy.url))
    assert (error.delivered, sent) == ("no", 0)


async def test_the_password_of_a_proxy_is_in_no_error(make):
    token = base64.b64encode(PASSWORD.encode()).decode()
    shown = []
    async with HTTPProxy(None, refuse="407 No") as proxy:
        for host in (f"127.0.0.1:{proxy.port}", f"127.0.0.1:{transports.free_port()}"):
            transport = make(AiohttpTransport, PUBLIC, proxy=f"http://{IN_URL}@{host}")
            error, _ = await failure(transport)
            with pytest.raises(TransportError) as caught:
                await transports.media(transport, "https://media.example/a.mp4")
            shown += [transport, error, error.__cause__, caught.value, caught.value.__cause__]
    text = "".join(f"{thing!r} {thing} {getattr(thing, '__dict__', '')}" for thing in shown[1:])
    assert not any(secret in text for secret in ("p@ss", "p%40ss", token))
    assert "engineer" not in repr(shown[0])


# --- the environment -----------------------------------------------------------------------------


async def test_the_environment_names_the_proxy(emulator, tmp_path, monkeypatch):
    async with in_public(emulator) as (place, trusting), HTTPProxy(place, PASSWORD) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", f"//{IN_URL}@"))
        await use(emulator, tmp_path, PUBLIC, ssl=trusting)
    assert set(proxy.lines) == {"CONNECT api.example:443"}


@pytest.mark.parametrize(
    ("no_proxy", "options"), [("api.example", {}), ("*", {}), ("", {"trust_env": False})]
)
async def test_the_environment_can_be_overruled(make, monkeypatch, no_proxy, options):
    async with HTTPProxy(None, refuse="503 Busy") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", no_proxy)
        transport = make(AiohttpTransport, "https://api.example.invalid", **options)
        if no_proxy == "api.example":
            monkeypatch.setenv("no_proxy", "api.example.invalid")
            transport = make(AiohttpTransport, "https://api.example.invalid", **options)
        error, _ = await failure(transport)
    assert isinstance(error.__cause__, aiohttp.ClientConnectorDNSError)
    assert not proxy.lines


async def test_nothing_on_this_machine_is_reached_through_the_environments_proxy(
    emulator, tmp_path, monkeypatch
):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{transports.free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    await use(emulator, tmp_path)


async def test_no_netrc_puts_credentials_on_any_request(emulator, tmp_path, monkeypatch):
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login thief password stolen\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(path))
    await use(emulator, tmp_path)


# --- a session of the user's ---------------------------------------------------------------------


async def test_a_session_of_the_users_is_used_for_everything_and_left_open(emulator, tmp_path):
    seen, trace = [], aiohttp.TraceConfig()

    async def note(_, __, parameters):
        seen.append((parameters.method, parameters.url.path))

    trace.on_request_start.append(note)
    async with aiohttp.ClientSession(
        "https://elsewhere.example", headers={"X-Team": "films"}, trace_configs=[trace],
        raise_for_status=True, timeout=aiohttp.ClientTimeout(total=0.001),
    ) as http:  # fmt: skip
        await use(emulator, tmp_path, http=http)
        assert not http.closed
        async with http.get(emulator.url + "/_emulator/stats", timeout=None) as response:
            assert response.status == 200
    methods = {method for method, _ in seen}
    assert methods == {"GET", "POST"}
    assert any(path.endswith(".mp4") for _, path in seen)


async def test_a_session_of_the_users_with_a_proxy_of_its_own(emulator, tmp_path):
    async with in_public(emulator) as (place, trusting), HTTPProxy(place) as proxy:
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with aiohttp.ClientSession(proxy=proxy.url, connector=connector) as http:
            await use(emulator, tmp_path, PUBLIC, http=http)
    assert set(proxy.lines) == {"CONNECT api.example:443"}
    assert not any(emulator.api_key.encode() in head for head in proxy.requests)


async def test_a_session_of_the_users_through_a_proxy_given_beside_it(emulator, tmp_path):
    async with HTTPProxy(target(emulator), PASSWORD) as proxy, aiohttp.ClientSession() as http:
        url = proxy.url.replace("//", f"//{IN_URL}@")
        await use(emulator, tmp_path, http=http, proxy=url)
    assert proxy.lines


async def test_a_session_of_the_users_that_was_closed_is_told_as_it_is(make):
    http = aiohttp.ClientSession()
    transport = make(AiohttpTransport, "http://127.0.0.1:1", http=http)
    await http.close()
    error, sent = await failure(transport)
    assert (error.delivered, error.transient, sent) == ("no", False, 0)
    with pytest.raises(TransportError, match="closed"):
        await transports.media(transport, "http://127.0.0.1:1/a.mp4")


async def test_a_netrc_that_a_session_of_the_users_would_send_is_refused(
    make, tmp_path, monkeypatch
):
    path = tmp_path / "netrc"
    path.write_text(
        "machine api.example login a password b\nmachine cdn.example login a password b"
    )
    monkeypatch.setenv("NETRC", str(path))
    async with aiohttp.ClientSession(trust_env=True) as http:
        transport = make(AiohttpTransport, PUBLIC, http=http)
        for _ in range(2):
            error, sent = await failure(transport)
            assert (error.delivered, error.transient, sent) == ("no", False, 0)
            assert "trust_env=False" in str(error)
        with pytest.raises(TransportError, match="trust_env=False"):
            await transports.media(transport, "https://cdn.example/a.mp4")


async def hang(connection):
    await connection.read_request()
    await connection.hang()


@pytest.mark.parametrize("request_", [SUBMIT, QUERY])
async def test_in_a_session_of_the_users_only_a_proven_failure_was_not_delivered(make, request_):
    """There is no trace of ours in it, so what is not known counts as sent."""
    async with RawServer(hang) as server, aiohttp.ClientSession() as http:
        transport = make(AiohttpTransport, server.url, http=http)
        error, sent = await failure(transport, request_)
        assert (error.delivered, error.transient, sent) == ("maybe", True, 1)
        transport = make(AiohttpTransport, f"http://127.0.0.1:{transports.free_port()}", http=http)
        error, sent = await failure(transport, request_)
        assert (error.delivered, error.transient, sent) == ("no", True, 1)


async def test_calls_in_a_session_of_the_users_end_when_the_transport_is_closed(make):
    read = asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        read.set()
        await connection.hang()

    async with RawServer(behave) as server, aiohttp.ClientSession() as http:
        transport = make(AiohttpTransport, server.url, transports.PATIENT, http=http)
        sending = asyncio.ensure_future(failure(transport))
        await read.wait()
        await transport.aclose()
        error, _ = await sending
    assert "was closed" in str(error)
    assert error.delivered == "maybe"


async def trickle(connection):
    await connection.read_request()
    with suppress(ConnectionError):
        for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 1000:
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.02)


async def test_an_answer_whose_head_trickles_has_an_end_in_every_kind_of_session(make):
    async with RawServer(trickle) as server, aiohttp.ClientSession() as http:
        for options in ({}, {"http": http}):
            times = Timeouts(connect=0.1, submit=0.2, request=0.2)
            for request in (SUBMIT, QUERY):
                transport = make(AiohttpTransport, server.url, times, **options)
                error, _ = await failure(transport, request)
                assert "in time" in str(error)
