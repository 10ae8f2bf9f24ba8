"""Bytes to the API and from its media hosts, and back. The only importer of aiohttp's client.

It says of each failure whether the request can have been delivered. It knows nothing of the API's
fields and repeats no submit.
"""

from __future__ import annotations

from typing import Literal

from seedance_async.api.options import Endpoint, TransportOptions
from seedance_async.api.transport.client_session import AiohttpTransport
from seedance_async.api.transport.contract import MediaResponse, Transport

__all__ = ["AiohttpTransport", "MediaResponse", "Transport", "make_transport"]


def make_transport(
    choice: Transport | Literal["aiohttp", "direct"], endpoint: Endpoint, options: TransportOptions
) -> Transport:
    """The transport that was asked for, by name, or itself."""
    if choice == "aiohttp":
        return AiohttpTransport(endpoint, options)
    assert not isinstance(choice, str)
    return choice
