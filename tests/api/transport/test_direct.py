"""aiohttp against raw sockets: what each failure tells of whether the request was delivered.

What `transport` relies on in aiohttp has a test of its own here, so that a new release that
changes it is found.
"""

import asyncio
import gzip
import json
import socket
import ssl
import time
import traceback
import zlib
from types import SimpleNamespace

import aiohttp
import pytest
import trustme

from seedance_async import AiohttpTransport, Timeouts, TransportError
from seedance_async.api.options import Endpoint
from seedance_async.api.protocol import MAX_BODY, WireRequest
from seedance_async.api.transport import direct as exchange
from seedance_async.api.transport.direct import Line
from tests.support.http_mock import MockedHTTP
from tests.support.raw_server import RawServer

KEY = "sd2_live_secret"
SUBMIT = WireRequest("POST", "/submit", b'{"prompt": "x"}', charges=True)
QUERY = WireRequest("GET", "/query")
PATIENT = Timeouts(connect=3600.0, submit=3600.0, request=3600.0)
QUICK = Timeouts(connect=0.5, submit=0.5, request=0.5, download_idle=0.5)


def transport_to(url, timeouts=QUICK, **options):
    return AiohttpTransport(Endpoint(url, KEY), timeouts=timeouts, **options)


@pytest.fixture
async def make_transport():
    made = []

    def make(url, *arguments, **options):
        made.append(transport_to(url, *arguments, **options))
        return made[-1]

    yield make
    for transport in made:
        await transport.aclose()


class Sent:
    """An `on_sent` that remembers."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


async def failure(transport, request=SUBMIT):
    """How sending fails, and whether the trace said that bytes went out."""
    sent = Sent()
    with pytest.raises(TransportError) as caught:
        await transport.send(request, on_sent=sent)
    assert KEY not in str(caught.value) + repr(caught.value)
    return caught.value, sent.count


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def answer_once(connection):
    await connection.read_request()
    await connection.answer("200 OK", b"{}")


async def answer_always(connection):
    while True:
        await answer_once(connection)


# --- certainly not delivered ---------------------------------------------------------------------


async def test_a_refused_connection_was_not_delivered(make_transport):
    error, sent = await failure(make_transport(f"http://127.0.0.1:{free_port()}"))
    assert (error.delivered, error.transient, sent) == ("no", True, 0)


async def test_a_name_that_does_not_resolve_was_not_delivered(make_transport):
    error, sent = await failure(make_transport("https://no-such-host.invalid"))
    assert (error.delivered, error.transient, sent) == ("no", True, 0)
    assert isinstance(error.__cause__, aiohttp.ClientConnectorDNSError)


async def test_a_connection_that_is_never_made_was_not_delivered(make_transport):
    """A listener with a full backlog does not answer a SYN."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        port = listener.getsockname()[1]
        error, sent = await failure(make_transport(f"http://127.0.0.1:{port}"))
        for filler in fillers:
            filler.close()
    assert (error.delivered, error.transient, sent) == ("no", True, 0)


async def test_a_tls_handshake_that_hangs_was_not_delivered(make_transport):
    async with RawServer(lambda connection: connection.hang()) as server:
        url = server.url.replace("http://", "https://")
        error, sent = await failure(make_transport(url))
    assert (error.delivered, error.transient, sent) == ("no", True, 0)


async def test_tls_to_a_plain_port_is_not_tried_again(make_transport):
    async def plain(connection):
        await connection.reader.read(10)
        await connection.answer(400)

    async with RawServer(plain) as server:
        error, sent = await failure(make_transport(server.url.replace("http://", "https://")))
    assert (error.delivered, error.transient, sent) == ("no", False, 0)


async def test_a_certificate_that_nobody_vouches_for_is_never_tried_again(make_transport):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    received = []

    async def serve(reader, writer):
        received.append(await reader.read(1))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    error, sent = await failure(make_transport(f"https://127.0.0.1:{port}"))
    server.close()
    await server.wait_closed()
    assert isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError)
    assert (error.delivered, error.transient, sent) == ("no", False, 0)
    assert not any(received)


async def test_a_private_authority_can_be_trusted(make_transport):
    context, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(client)

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    transport = make_transport(f"https://127.0.0.1:{port}", ssl=client)
    assert (await transport.send(QUERY)).body == b"{}"
    await transport.aclose()
    server.close()
    await server.wait_closed()


# --- may have been delivered ---------------------------------------------------------------------


async def close_unread(connection):
    await connection.reader.read(1)
    connection.reset()


async def close_after_reading(connection):
    await connection.read_request()


async def reset_after_reading(connection):
    await connection.read_request()
    connection.reset()


async def hang_after_reading(connection):
    await connection.read_request()
    await connection.hang()


async def close_within_the_status_line(connection):
    await connection.read_request()
    await connection.send(b"HTTP/1.1 20")


async def answer_with_garbage(connection):
    await connection.read_request()
    await connection.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


async def answer_with_huge_headers(connection):
    await connection.read_request()
    await connection.answer("200 OK", b"{}", "X-Padding: " + "x" * 100_000)


@pytest.mark.parametrize(
    "behave",
    [
        close_unread,
        close_after_reading,
        reset_after_reading,
        hang_after_reading,
        close_within_the_status_line,
        answer_with_garbage,
        answer_with_huge_headers,
    ],
)
async def test_without_a_status_line_a_request_sent_may_have_been_delivered(make_transport, behave):
    async with RawServer(behave) as server:
        error, sent = await failure(make_transport(server.url))
        assert server.connections == 1, "aiohttp never repeats a POST"
    assert (error.delivered, error.transient, sent) == ("maybe", True, 1)


# --- answers that are broken ---------------------------------------------------------------------

BODY = json.dumps({"requestId": "req_1", "status": "queued"}).encode()


async def answered(make_transport, behave, request=SUBMIT):
    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        response = await transport.send(request)
        await transport.aclose()
        return response


@pytest.mark.parametrize("cut", [0, 10, len(BODY) - 1])
async def test_what_arrived_of_a_body_cut_short_is_kept(make_transport, cut):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", BODY[:cut], length=len(BODY))

    response = await answered(make_transport, behave)
    assert (response.status, response.body) == (200, BODY[:cut])
    assert response.broken


async def test_a_chunked_body_cut_short_is_told_as_broken(make_transport):
    async def behave(connection):
        await connection.read_request()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(head + b"%x\r\n" % len(BODY) + BODY + b"\r\n")

    response = await answered(make_transport, behave)
    assert response.body == BODY
    assert response.broken


async def test_a_body_without_a_length_that_is_cut_short_looks_whole(make_transport):
    """Nothing tells; that is why `protocol` must find it out from the JSON."""

    async def behave(connection):
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY[:20])

    response = await answered(make_transport, behave)
    assert (response.body, response.broken) == (BODY[:20], None)


async def test_a_body_that_stalls_keeps_what_arrived(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", BODY[:30], length=len(BODY))
        await connection.hang()

    response = await answered(make_transport, behave)
    assert response.body == BODY[:30]
    assert "Timeout" in response.broken


async def test_a_body_that_never_ends_is_bounded(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            await connection.send(b"x" * 65536)

    response = await answered(make_transport, behave)
    assert len(response.body) == MAX_BODY + 1
    assert str(MAX_BODY) in response.broken


async def test_a_gzip_bomb_is_bounded(make_transport):
    bomb = gzip.compress(b"\0" * (64 << 20))

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", bomb, "Content-Encoding: gzip")

    response = await answered(make_transport, behave)
    assert len(response.body) <= MAX_BODY + 1
    assert response.broken


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_proxy_that_compresses_unasked_is_understood(make_transport, encoding, pack):
    async def behave(connection):
        request = await connection.read_request()
        assert b"Accept-Encoding: identity" in request
        await connection.answer("200 OK", pack(BODY), f"Content-Encoding: {encoding}")

    response = await answered(make_transport, behave)
    assert (response.body, response.broken) == (BODY, None)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_an_encoding_that_cannot_be_read_is_a_broken_answer(make_transport, encoding):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"not that encoding", f"Content-Encoding: {encoding}")

    assert (await answered(make_transport, behave)).broken


async def test_a_compressed_stream_that_ends_early_is_a_broken_answer(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", gzip.compress(BODY)[:-8], "Content-Encoding: gzip")

    assert "early" in (await answered(make_transport, behave)).broken


# --- the key, redirects, connections -------------------------------------------------------------


async def test_api_calls_follow_no_redirect(make_transport):
    async def other(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"{}")

    async with RawServer(other) as thief:

        async def behave(connection):
            await connection.read_request()
            await connection.answer("307 Away", b"", f"Location: {thief.url}/steal")

        for request in (SUBMIT, QUERY):
            assert (await answered(make_transport, behave, request)).status == 307
        assert not thief.received


async def test_the_key_and_the_body_go_to_the_api(make_transport):
    async with RawServer(answer_once) as server:
        transport = make_transport(server.url)
        await transport.send(SUBMIT)
        assert f"Authorization: Bearer {KEY}".encode() in server.received[0]
        assert b"Content-Type: application/json" in server.received[0]
        assert server.received[0].endswith(SUBMIT.body)
        assert KEY not in repr(transport)
        await transport.aclose()


async def test_a_server_that_echoes_the_key_does_not_get_it_into_an_answer(make_transport):
    async def behave(connection):
        await connection.read_request()
        body = f'{{"error": "{KEY} is not valid"}}'.encode()
        await connection.answer("401 Unauthorized", body, f"X-Echo: Bearer {KEY}")

    response = await answered(make_transport, behave)
    assert KEY.encode() not in response.body
    assert response.headers["x-echo"] == "Bearer [api key]"


async def test_submits_never_reuse_a_connection_and_queries_do(make_transport):
    async with RawServer(answer_always) as server:
        transport = make_transport(server.url)
        for _ in range(3):
            await transport.send(SUBMIT)
        assert server.connections == 3
        for _ in range(3):
            await transport.send(QUERY)
        assert server.connections == 4
        await transport.aclose()


async def test_a_connection_that_the_server_just_closed_does_not_fail_a_submit(make_transport):
    """The stale keep-alive race: on a reused connection this POST would be lost."""

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"{}", "Connection: keep-alive")

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        for _ in range(3):
            assert (await transport.send(SUBMIT)).status == 200
        assert len(server.received) == 3
        await transport.aclose()


async def test_a_closed_transport_sends_nothing(make_transport):
    transport = make_transport("http://127.0.0.1:1")
    await transport.aclose()
    error, sent = await failure(transport)
    assert (error.delivered, error.transient, sent) == ("no", False, 0)
    with pytest.raises(TransportError, match="closed"):
        await media(transport, "http://127.0.0.1:1/x.mp4")


@pytest.mark.parametrize("request_", [SUBMIT, QUERY])
async def test_closing_ends_what_waits_for_an_answer(make_transport, request_):
    read = asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        read.set()
        await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url, PATIENT)
        sending = asyncio.ensure_future(failure(transport, request_))
        await read.wait()
        await transport.aclose()
        error, sent = await sending
    assert "was closed" in str(error)
    assert (error.delivered, sent) == ("maybe", 1)


async def test_closing_keeps_what_has_come_of_an_answer(make_transport, monkeypatch):
    begun, readany = asyncio.Event(), aiohttp.StreamReader.readany

    async def noted(reader):
        piece = await readany(reader)
        begun.set()
        return piece

    monkeypatch.setattr(aiohttp.StreamReader, "readany", noted)

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", BODY[:30], length=len(BODY))
        await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url, PATIENT)
        sending = asyncio.ensure_future(transport.send(SUBMIT))
        await begun.wait()
        await transport.aclose()
        response = await sending
    assert response.body == BODY[:30]
    assert "was closed" in response.broken


async def test_an_encoded_id_reaches_the_server_as_it_is(make_transport):
    async with RawServer(answer_once) as server:
        transport = make_transport(server.url + "/base")
        await transport.send(WireRequest("GET", "/jobs/%2E%2E%2Fx"))
        assert server.received[0].startswith(b"GET /base/jobs/%2E%2E%2Fx HTTP/1.1")
        await transport.aclose()


async def test_a_query_that_finds_its_kept_connection_closed_is_sent_on_another(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"{}", "Connection: keep-alive")
        if connection.number == 1:
            await connection.read_request()  # and closes without a word

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        assert (await transport.send(QUERY)).status == 200
        assert (await transport.send(QUERY)).status == 200
        assert len(server.received) == 3
        await transport.aclose()


@pytest.mark.parametrize("request_", [QUERY, WireRequest("POST", "/cancel")])
async def test_what_gets_no_answer_is_not_sent_for_ever(make_transport, request_):
    async with RawServer(close_after_reading) as server:
        error, sent = await failure(make_transport(server.url), request_)
        assert len(server.received) == (2 if request_.method == "GET" else 1)
    assert (error.delivered, error.transient, sent) == ("maybe", True, 1)


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


async def test_a_connection_is_not_kept_for_ever(make_transport, monkeypatch):
    """Servers close theirs after a while, and one that is too old is likely to be closed soon."""
    monkeypatch.setattr(exchange, "_KEPT_SECONDS", 0.0)

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", b"{}")
        assert await connection.reader.read() == b""

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        for _ in range(3):
            assert (await transport.send(QUERY)).status == 200
        assert server.connections == 3
        await transport.aclose()


async def test_an_answer_too_many_is_not_taken_for_the_next_ones(make_transport):
    async def behave(connection):
        await connection.read_request()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%d%d" % ((connection.number,) * 2)
        await connection.send(answer + answer)
        await connection.hang()

    async with RawServer(behave) as server:
        transport = make_transport(server.url)
        assert (await transport.send(QUERY)).body == b"11"
        assert (await transport.send(QUERY)).body == b"22"
        await transport.aclose()


async def test_interim_answers_are_passed_over(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await connection.answer("200 OK", BODY)

    assert (await answered(make_transport, behave)).body == BODY


async def test_a_change_of_protocol_that_nobody_asked_for_is_told_as_it_is(make_transport):
    async def behave(connection):
        await connection.read_request()
        await connection.send(
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        await connection.hang()

    assert (await answered(make_transport, behave)).status == 101


async def test_a_request_says_where_it_goes_and_how_long_it_is(make_transport):
    async with RawServer(answer_always) as server:
        transport = make_transport(server.url)
        for request in (QUERY, WireRequest("POST", "/cancel"), SUBMIT):
            await transport.send(request)
        query, cancel, submit = server.received
        assert all(f"\r\nHost: 127.0.0.1:{server.port}\r\n".encode() in r for r in server.received)
        assert query.startswith(b"GET /query HTTP/1.1\r\n")
        assert b"content-length" not in query.lower()
        assert b"\r\nContent-Length: 0\r\n" in cancel
        assert f"\r\nContent-Length: {len(SUBMIT.body)}\r\n".encode() in submit
        await transport.aclose()


@pytest.mark.parametrize("path", ["query", "/a b", "/a\r\nX: y", "/ä", "", "/a\n"])
async def test_what_would_end_a_request_line_is_refused(make_transport, path):
    with pytest.raises(ValueError, match="path"):
        await make_transport("http://127.0.0.1:1").send(WireRequest("GET", path))


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

    def _drop(self):
        self.dropped += 1


async def test_a_server_that_always_speaks_first_is_not_connected_to_for_ever():
    connector, sent = SpeakingFirst(), Sent()
    line = Line(
        "http://127.0.0.1:1", {}, secret=KEY, connector=connector, seconds=1, connect_seconds=1
    )
    with pytest.raises(TransportError, match="before it is asked") as caught:
        await line.send(SUBMIT, sent)
    assert (caught.value.delivered, caught.value.transient, sent.count) == ("no", True, 0)
    assert connector.connections == connector.dropped == 1


async def test_the_time_for_an_answer_begins_when_its_request_is_sent(make_transport, monkeypatch):
    """What a slow connection took must not be missing when a paid answer is waited for."""
    connect, loop, ahead = aiohttp.TCPConnector.connect, asyncio.get_running_loop(), 0.0

    async def slowly(*arguments, **named):
        nonlocal ahead
        connection = await connect(*arguments, **named)
        ahead = 1000.0
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", slowly)
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + ahead)

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", BODY)

    async with RawServer(behave) as server:
        transport = make_transport(server.url, Timeouts(submit=100.0))
        assert (await transport.send(SUBMIT)).body == BODY


@pytest.mark.parametrize(
    "head", [b"Connection: close\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(BODY)]
)
async def test_what_came_while_the_loop_stood_still_is_taken_though_its_time_is_over(
    make_transport, monkeypatch, head
):
    """The end of the answer is not there yet; the part with the id of a paid job is."""
    loop, ahead = asyncio.get_running_loop(), 0.0
    monkeypatch.setattr(loop, "time", lambda: time.monotonic() + ahead)

    async def behave(connection):
        nonlocal ahead
        await connection.read_request()
        connection.writer.write(b"HTTP/1.1 200 OK\r\n" + head + BODY)
        ahead = 10_000.0
        await connection.hang()

    async with RawServer(behave) as server:
        response = await make_transport(server.url, PATIENT).send(SUBMIT)
    assert (response.status, response.body) == (200, BODY)
    assert "Timeout" in response.broken


async def test_what_charges_is_sent_once_whatever_its_method(make_transport):
    async with RawServer(close_after_reading) as server:
        await failure(make_transport(server.url), WireRequest("GET", "/", charges=True))
        assert len(server.received) == 1


async def test_a_submit_says_that_its_connection_is_not_used_again(make_transport):
    async with RawServer(answer_once) as server:
        transport = make_transport(server.url)
        await transport.send(SUBMIT)
        await transport.send(QUERY)
        submit, query = server.received
        assert b"\r\nConnection: close\r\n" in submit
        assert b"\r\nConnection:" not in query
        await transport.aclose()


async def test_a_failure_that_nobody_thought_of_loses_nothing_that_came(
    make_transport, monkeypatch
):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", BODY)

    def broken(_):
        raise RuntimeError("Connection closed.")

    monkeypatch.setattr(aiohttp.StreamReader, "readany", broken)
    response = await answered(make_transport, behave)
    assert response.status == 200
    assert "Connection closed" in response.broken


@pytest.mark.parametrize(
    "answer",
    [
        f"XTTP/1.1 200 {KEY}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nAuthori zation: Bearer {KEY}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\nX: {KEY * 1000}\r\n\r\n",
    ],
)
async def test_a_key_that_is_echoed_in_a_broken_head_is_in_no_traceback(make_transport, answer):
    async def behave(connection):
        await connection.read_request()
        await connection.send(answer.encode())

    async with RawServer(behave) as server:
        error, _ = await failure(make_transport(server.url))
    assert KEY not in "".join(traceback.format_exception(error))


# --- media ---------------------------------------------------------------------------------------


async def media(transport, url, **headers):
    async with transport.open_media(url, headers) as response:
        return response.status, b"".join([chunk async for chunk in response.chunks])


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
