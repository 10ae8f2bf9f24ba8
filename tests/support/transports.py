"""What the tests of the transports share: requests, time limits, and what a failure shows."""

import json
import socket
import ssl

import pytest
import trustme

from seedance_async import Timeouts, TransportError
from seedance_async.api.options import Endpoint
from seedance_async.api.protocol import WireRequest

KEY = "sd2_live_secret"
SUBMIT = WireRequest("POST", "/submit", b'{"prompt": "x"}', charges=True)
QUERY = WireRequest("GET", "/query")
PATIENT = Timeouts(connect=3600.0, submit=3600.0, request=3600.0)
QUICK = Timeouts(connect=0.5, submit=0.5, request=0.5, download_idle=0.5)
BODY = json.dumps({"requestId": "req_1", "status": "queued"}).encode()


def to(kind, url, timeouts=QUICK, **options):
    """A transport of this kind, to the API at this URL."""
    return kind(Endpoint(url, KEY), timeouts=timeouts, **options)


class Sent:
    """An `on_sent` that remembers."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


async def failure(transport, request=SUBMIT):
    """How sending fails, and how often the transport said that bytes went out."""
    sent = Sent()
    with pytest.raises(TransportError) as caught:
        await transport.send(request, on_sent=sent)
    assert KEY not in str(caught.value) + repr(caught.value)
    return caught.value, sent.count


async def media(transport, url, **headers):
    """The status and the body of a media URL."""
    async with transport.open_media(url, headers) as response:
        return response.status, b"".join([chunk async for chunk in response.chunks])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certificates(*names):
    """The TLS contexts of a server with these names and of a client that trusts it."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority = trustme.CA()
    authority.issue_cert(*names).configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def answer_once(connection):
    await connection.read_request()
    await connection.answer("200 OK", b"{}")


async def answer_always(connection):
    while True:
        await answer_once(connection)


async def close_after_reading(connection):
    await connection.read_request()
