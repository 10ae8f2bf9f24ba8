"""What the direct transport does by itself: idle connections, repeated queries, falling back."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from seedance_async import (
    AiohttpTransport,
    ConfigurationError,
    DirectTransport,
    SeedanceClient,
    SeedanceSession,
    TransportError,
)
from seedance_async.api.transport.direct import pool, requirements
from seedance_async.api.transport.direct.pool import ConnectionPool
from tests.support.raw_server import RawServer
from tests.support.transports import BODY, KEY, QUERY, SUBMIT, Sent, answer_always, failure


@pytest.fixture
def make_transport(make):
    return lambda url, **options: make(DirectTransport, url, **options)


# --- connections ---------------------------------------------------------------------------------


async def test_what_came_unasked_on_a_kept_connection_answers_nothing(make_transport):
    """Some proxies send a 408 before they close an idle connection."""
    unasked = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
    idle, came = asyncio.Event(), asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"{}")
        if connection.number == 1:
            await idle.wait()
            await connection.send(unasked)
            came.set()
            await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        assert (await transport.send(QUERY)).status == 200
        idle.set()
        await came.wait()
        for _ in range(3):  # what has come is read in the loop's next turns
            await asyncio.sleep(0)
        assert (await transport.send(QUERY)).status == 200
        assert server.connections == 2
        await transport.aclose()


async def test_what_is_sent_again_goes_over_no_other_kept_connection(make_transport):
    """A server that was restarted has closed them all."""
    both, closed = asyncio.Barrier(2), []

    async def behave(connection):
        await connection.read_request()
        if connection.number <= 2:
            await both.wait()
        await connection.answer("200 OK", b"{}", "Connection: keep-alive")
        if connection.number <= 2:
            await connection.read_request()
            closed.append(connection.number)  # and closes without a word

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        await asyncio.gather(transport.send(QUERY), transport.send(QUERY))
        assert (await transport.send(QUERY)).status == 200
        assert (server.connections, len(closed)) == (3, 1)
        await transport.aclose()


async def closed_by_the_client(connection):
    await connection.read_request()
    await connection.answer("200 OK", b"{}")
    assert await connection.reader.read() == b""


async def test_an_old_idle_connection_is_not_used(make_transport, monkeypatch):
    """Servers close theirs after a while, and one that is too old is likely to be closed soon."""
    monkeypatch.setattr(pool, "KEPT_SECONDS", 0.0)
    async with RawServer(closed_by_the_client) as server:
        transport = make_transport(server.url)
        for _ in range(3):
            assert (await transport.send(QUERY)).status == 200
        assert server.connections == 3
        await transport.aclose()


async def test_idle_connections_are_closed_by_a_timer(make_transport, monkeypatch):
    monkeypatch.setattr(pool, "KEPT_SECONDS", 0.05)
    left, all_of_them = [], asyncio.Barrier(10)

    async def behave(connection):
        await connection.read_request()
        await all_of_them.wait()
        await connection.answer("200 OK", b"{}")
        assert await connection.reader.read() == b""
        left.append(connection.number)
        if len(left) == 10:
            over.set()

    over = asyncio.Event()
    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        await asyncio.gather(*(transport.send(QUERY) for _ in range(10)))
        await asyncio.wait_for(over.wait(), 10)
        assert not transport._queries._idle
        assert transport._queries._closing is None


FEW_FILES = """
import asyncio, resource, sys
from seedance_async import Endpoint, GenerationRequest, RetryPolicy, SeedanceClient
from seedance_async.api.transport.direct import pool
pool.KEPT_SECONDS = 0.3
async def main(url):
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    async with SeedanceClient("key", url, transport="direct", max_connections=33) as client:
        await asyncio.gather(*(client.get("req_1") for _ in range(33)))
        ids = await asyncio.gather(*(client.create(GenerationRequest("x")) for _ in range(33)))
        print(len(ids))
asyncio.run(main(sys.argv[1]))
"""


async def test_idle_connections_do_not_starve_the_submits_of_files():
    """33 polls at once leave 33 idle connections; 40 files are all that the process may open."""
    all_of_them = asyncio.Barrier(33)

    async def behave(connection):
        request = await connection.read_request()
        if request.startswith(b"GET"):
            await all_of_them.wait()
        await connection.answer("200 OK", BODY)
        await connection.reader.read()

    async with RawServer(behave) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FEW_FILES, server.url, cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
    assert out.decode().split() == ["33"], err.decode()


class SpeakingFirst:
    """A connector on whose every connection something has come before anything was sent."""

    force_close = closed = False

    def __init__(self):
        self.connections = self.dropped = 0

    async def connect(self, *_):
        self.connections += 1
        return SimpleNamespace(
            protocol=SimpleNamespace(should_close=True), closed=False, close=self._drop
        )

    async def close(self):
        self.closed = True

    def _drop(self):
        self.dropped += 1


async def test_a_server_that_always_speaks_first_is_not_connected_to_for_ever(
    make_transport, monkeypatch
):
    connector, sent = SpeakingFirst(), Sent()
    monkeypatch.setattr(pool.aiohttp, "TCPConnector", lambda **_: connector)
    transport = make_transport("http://127.0.0.1:1")
    with pytest.raises(TransportError, match="before it is asked") as caught:
        await transport.send(SUBMIT, on_sent=sent)
    assert (caught.value.delivered, caught.value.transient, sent.count) == ("no", True, 0)
    assert connector.connections == connector.dropped == 1


# --- where it cannot be used ---------------------------------------------------------------------


async def test_it_is_chosen_by_name_and_never_by_default():
    async with SeedanceSession(api_key=KEY, base_url="https://api.example") as session:
        assert type(session.client.transport) is AiohttpTransport
    async with SeedanceSession(
        api_key=KEY, base_url="https://api.example", transport="direct", max_connections=7
    ) as session:
        assert type(session.client.transport) is DirectTransport
        assert session.client.transport._options.max_connections == 7
    for unknown in ("fast", None, 1, AiohttpTransport.open_media):
        with pytest.raises(ConfigurationError, match="transport must be"):
            SeedanceClient(KEY, "https://api.example", transport=unknown)


async def test_it_takes_neither_a_proxy_nor_a_session():
    async with aiohttp.ClientSession() as http:
        for options in ({"proxy": "http://proxy.example:3128"}, {"http": http}):
            (name,) = options
            with pytest.raises(ConfigurationError, match=f"^{name} must not be given"):
                SeedanceClient(KEY, "https://api.example", transport="direct", **options)


@pytest.mark.parametrize(
    ("table", "place"),
    [("_ATTRIBUTES", aiohttp.BaseConnector), ("_PARAMETERS", aiohttp.BaseConnector.connect)],
)
async def test_without_what_it_needs_in_aiohttp_it_is_the_default_one(
    make_transport, monkeypatch, caplog, table, place
):
    monkeypatch.setattr(requirements, table, {place: ("teleport",)})
    async with RawServer(answer_always) as server:
        transport = make_transport(server.url)
        for request in (SUBMIT, QUERY, QUERY):
            assert (await transport.send(request)).status == 200
        assert not isinstance(transport._queries, ConnectionPool)
        await transport.aclose()
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "teleport" in record.getMessage()


async def test_with_a_proxy_in_the_environment_it_is_the_default_one(
    make_transport, monkeypatch, caplog
):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    transport = make_transport("https://api.example")
    error, _ = await failure(transport)
    assert "127.0.0.1:1" in str(error)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "proxy" in record.getMessage()
