"""What every HTTP transport promises, against raw sockets: one suite, run over each of them.

What each failure says of whether the request was delivered, and what each broken answer becomes.
What a transport relies on in aiohttp has a test here, so that a new release that changes it is
found.
"""

import asyncio
import gzip
import socket
import threading
import time
import traceback
import zlib

import aiohttp
import pytest

from seedance_async import Timeouts, TransportError
from seedance_async.api.protocol import MAX_BODY, WireRequest
from tests.support.raw_server import RawServer
from tests.support.transports import (
    BODY,
    KEY,
    PATIENT,
    QUERY,
    SUBMIT,
    answer_always,
    answer_once,
    certificates,
    close_after_reading,
    failure,
    free_port,
    media,
)

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
    async with RawServer(answer_once, certificates("127.0.0.1")[0]) as server:
        error, sent = await failure(make_transport(server.url))
        assert not server.received
    assert isinstance(error.__cause__, aiohttp.ClientConnectorCertificateError)
    assert (error.delivered, error.transient, sent) == ("no", False, 0)


async def test_a_private_authority_can_be_trusted_and_verification_switched_off(make_transport):
    server_side, client_side = certificates("127.0.0.1")
    async with RawServer(answer_once, server_side) as server:
        for ssl in (client_side, False):
            transport = make_transport(server.url, ssl=ssl)
            assert (await transport.send(QUERY)).body == b"{}"
            await transport.aclose()


# --- may have been delivered ---------------------------------------------------------------------


async def close_unread(connection):
    await connection.reader.read(1)
    connection.reset()


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


async def test_an_answer_that_cannot_be_unpacked_is_broken_and_kept(make_transport):
    """Some proxies unpack a body and leave the header: the id of a paid job is readable in it."""

    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", BODY, "Content-Encoding: gzip")

    response = await answered(make_transport, behave)
    assert response.body == BODY
    assert "not gzip" in response.broken


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


async def test_nothing_is_sent_if_it_must_not_be_at_the_last_moment(make_transport):
    """As where a process was stopped after it had made sure that it may send."""

    def too_late():
        raise TransportError("too late", delivered="no", transient=True)

    async with RawServer(answer_once) as server:
        transport = make_transport(server.url)
        with pytest.raises(TransportError, match="too late") as caught:
            await transport.send(SUBMIT, on_sent=too_late)
        assert caught.value.delivered == "no"
        assert (await transport.send(SUBMIT)).status == 200
        assert [received.startswith(b"POST") for received in server.received] == [True]


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
        assert not any(b"\r\ncontent-type:" in r.lower() for r in (query, cancel))
        assert f"\r\nContent-Length: {len(SUBMIT.body)}\r\n".encode() in submit
        await transport.aclose()


async def test_what_would_end_a_request_line_is_refused(make_transport):
    transport = make_transport("http://127.0.0.1:1")
    for path in ("query", "/a b", "/a\r\nX: y", "/ä", "", "/a\n"):
        with pytest.raises(ValueError, match="path"):
            await transport.send(WireRequest("GET", path))


async def test_what_charges_is_a_post_which_nothing_repeats(make_transport):
    with pytest.raises(ValueError, match="POST"):
        await make_transport("http://127.0.0.1:1").send(WireRequest("GET", "/", charges=True))


async def test_the_headers_of_the_user_go_with_every_call_and_not_with_media(make_transport):
    async with RawServer(answer_always) as server:
        transport = make_transport(server.url, headers={"X-Team": "films", "User-Agent": "ours"})
        for request in (SUBMIT, QUERY):
            await transport.send(request)
        await media(transport, server.url)
        submit, query, video = server.received
    for request in (submit, query):
        assert b"\r\nX-Team: films\r\n" in request
        assert b"\r\nUser-Agent: ours\r\n" in request
    assert b"X-Team" not in video
    assert b"ours" not in video


async def test_a_call_that_waits_for_a_free_connection_was_not_delivered(make_transport):
    read = asyncio.Event()

    async def behave(connection):
        await connection.read_request()
        read.set()
        await connection.hang()

    async with RawServer(behave) as server:
        times = Timeouts(connect=0.1, submit=3600.0)
        transport = make_transport(server.url, times, max_connections=1)
        first = asyncio.ensure_future(transport.send(SUBMIT))
        await read.wait()
        error, sent = await failure(transport)
        assert (error.delivered, error.transient, sent) == ("no", True, 0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


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


async def test_an_answer_in_the_socket_is_taken_though_the_loop_was_blocked_past_its_time(
    make_transport,
):
    received = threading.Event()

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            received.set()
            time.sleep(0.1)  # until nobody looks
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n"
            connection.sendall(head.encode() + BODY)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=[listener])
        server.start()
        transport = make_transport(f"http://127.0.0.1:{listener.getsockname()[1]}")
        submitting = asyncio.ensure_future(transport.send(SUBMIT))
        await asyncio.get_running_loop().run_in_executor(None, received.wait)
        time.sleep(0.8)  # noqa: ASYNC251 - longer than the answer may take
        assert (await submitting).body == BODY
    server.join()


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


@pytest.mark.parametrize("request_", [SUBMIT, QUERY], ids=["submit", "query"])
async def test_the_key_is_in_no_local_variable_that_a_traceback_shows(make_transport, request_):
    async with RawServer(close_after_reading) as server:
        error, _ = await failure(make_transport(server.url), request_)
    chain = error, error.__cause__, error.__context__
    frames = [frame for each in chain if each for frame, _ in traceback.walk_tb(each.__traceback__)]
    assert frames
    for frame in frames:
        assert KEY not in repr(frame.f_locals), frame
