"""What the exceptions of aiohttp, of sockets and of TLS mean to a caller, without his secrets."""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import Any

import aiohttp
from aiohttp.http import HttpProcessingError

#: How a request can fail.
FAILURES = (
    aiohttp.ClientError,
    aiohttp.EofStream,
    HttpProcessingError,  # an answer that is no HTTP
    TimeoutError,
    OSError,
    ValueError,
    zlib.error,
)


class LocalAddressError(OSError):
    """A public name that leads to an address which is not on the public internet."""


_PERMANENT = (
    aiohttp.ClientSSLError,  # a bad certificate, or TLS to a plain port
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    ValueError,
)
_NO_HEADERS: Any = MappingProxyType({})


def is_transient(error: Exception) -> bool:
    """Whether the same request may fare better later."""
    cause = getattr(error, "os_error", None)
    return not isinstance(error, _PERMANENT) and not isinstance(cause, LocalAddressError)


def told(error: Exception) -> str:
    """An exception in words. Those of an answer are cut: their text holds the request's headers."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{name}: {error.status} {error.message}"
    text = str(error)
    return f"{name}: {text}" if text else name


def without_secrets(error: Exception) -> Exception:
    """The same exception; aiohttp puts the request's headers and URL, key and all, into some."""
    if isinstance(error, aiohttp.ClientResponseError):
        asked = error.request_info
        place = asked.url.with_query(None)
        error.request_info = asked._replace(url=place, real_url=place, headers=_NO_HEADERS)
        error.args = (error.request_info, error.history)
    return error


def holds(error: BaseException | None, secret: str) -> bool:
    """Whether an exception, or one that led to it, tells this; a server may have echoed it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if secret in str(error) or secret in repr(error):
            return True
        error = error.__cause__ or error.__context__
    return False
