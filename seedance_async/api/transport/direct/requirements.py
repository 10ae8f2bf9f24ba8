"""What the direct transport relies on in aiohttp and aiohttp does not document."""

from __future__ import annotations

import inspect
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

_ATTRIBUTES: dict[type[Any], tuple[str, ...]] = {
    aiohttp.BaseConnector: ("close", "closed", "connect", "force_close"),
    Connection: ("close", "closed", "protocol", "transport"),
    ResponseHandler: ("read", "set_exception", "set_response_params", "should_close"),
    aiohttp.StreamReader: ("at_eof", "is_eof", "readany", "set_exception"),
}
_PARAMETERS: dict[Any, tuple[str, ...]] = {
    aiohttp.ClientRequest: ("method", "url", "headers", "loop"),
    aiohttp.BaseConnector.connect: ("req", "traces", "timeout"),
    ResponseHandler.set_response_params: ("read_until_eof", "auto_decompress"),
}


def check_needs() -> None:
    """Look whether all of it is there.

    Raises:
        AttributeError: something is not; the message names it.
    """
    for owner, names in _ATTRIBUTES.items():
        for name in names:
            if not hasattr(owner, name):
                raise AttributeError(f"{owner.__name__}.{name}")
    for function, names in _PARAMETERS.items():
        there = inspect.signature(function).parameters
        for name in names:
            if name not in there:
                raise AttributeError(f"{function.__qualname__}({name})")
