"""Bytes to the API and from its media hosts, and back. The only importer of aiohttp's client.

It says of each failure whether the request can have been delivered. It knows nothing of the API's
fields and repeats no submit.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from seedance_async.api.errors import ConfigurationError
from seedance_async.api.options import Endpoint, TransportOptions
from seedance_async.api.transport.aiohttp_transport import AiohttpTransport
from seedance_async.api.transport.contract import MediaResponse, Transport
from seedance_async.api.transport.direct import DirectTransport

__all__ = ["AiohttpTransport", "DirectTransport", "MediaResponse", "Transport", "make_transport"]

_BY_NAME = {"aiohttp": AiohttpTransport, "direct": DirectTransport}


def make_transport(
    choice: Transport | Literal["aiohttp", "direct"], endpoint: Endpoint, options: TransportOptions
) -> Transport:
    """The transport that was asked for, by name, or itself.

    Raises:
        ConfigurationError: it is neither, or it does not have one of the options.
    """
    if not isinstance(choice, str) and hasattr(choice, "send"):
        return choice
    kind = _BY_NAME.get(choice) if isinstance(choice, str) else None
    if kind is None:
        rule = 'must be "aiohttp", "direct" or a Transport'
        raise ConfigurationError(f"transport {rule}, not {choice!r:.40}")
    named: dict[str, Any] = {
        field.name: getattr(options, field.name) for field in attrs.fields(TransportOptions)
    }
    return kind(endpoint, **named)
