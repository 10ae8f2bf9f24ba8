"""Transports that are closed when the test is over."""

import pytest

from seedance_async import AiohttpTransport, DirectTransport
from tests.support import transports


@pytest.fixture
async def make():
    """Makes a transport of a kind, to a URL, with options."""
    made = []

    def made_of(kind, url, *arguments, **options):
        made.append(transports.to(kind, url, *arguments, **options))
        return made[-1]

    yield made_of
    for transport in made:
        await transport.aclose()


@pytest.fixture(params=[AiohttpTransport, DirectTransport])
def make_transport(request, make):
    """Makes a transport of each kind in turn: the contract holds for both."""
    return lambda url, *arguments, **options: make(request.param, url, *arguments, **options)
