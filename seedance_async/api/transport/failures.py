"""What the exceptions of aiohttp, of sockets and of TLS mean to a caller, without the secrets.

Nothing here decides what is sent again; it says whether a request can have been delivered, and
whether another attempt can help.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Literal

import aiohttp
from aiohttp.http import HttpProcessingError

from seedance_async.api.errors import TransportError

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

# What is raised only before the request itself is written. Redirects are off, so none of them can
# come from a later hop.
_BEFORE_SENDING = (
    aiohttp.ClientConnectorError,  # DNS, TCP, TLS, and the connection to a proxy
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,  # the proxy refused the tunnel
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
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
_HIDDEN_KEY = "[api key]"


#: A shorter key is a placeholder, as for an emulator, and no secret.
SHORTEST_KEY = 8


class Secrets:
    """What is shown by no error: the API key, and what opens a proxy.

    Args:
        key: the API key; no answer shows it either, should a server echo it.
        others: hidden in errors alone.
    """

    def __init__(self, key: str, *others: str) -> None:
        self._key, self._all = key, (key, *others)
        self._key_bytes = key.encode()
        self._escaped: re.Pattern[bytes] | None = None

    def hide(self, text: str) -> str:
        """A text without any of them."""
        for secret in self._all:
            text = text.replace(secret, _HIDDEN_KEY if secret == self._key else "[password]")
        return text

    def hide_key(self, body: bytes) -> bytes:
        """A body without the API key, be it escaped as JSON allows, or in UTF-16 or UTF-32."""
        if len(self._key) < SHORTEST_KEY:  # it would be found in ids and ordinary words
            return body
        body = body.replace(self._key_bytes, _HIDDEN_KEY.encode())
        if b"\\" in body:
            self._escaped = self._escaped or _escaped(self._key)
            body = self._escaped.sub(_HIDDEN_KEY.encode(), body)
        if b"\0" in body:
            for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
                body = body.replace(self._key.encode(encoding), _HIDDEN_KEY.encode(encoding))
        return body

    def hide_key_in_headers(self, headers: Any) -> dict[str, str]:
        """Headers by lower-case name, without the API key."""
        key = self._key
        return {
            name.lower(): value.replace(key, _HIDDEN_KEY) if key in value else value
            for name, value in headers.items()
        }

    def failure(self, error: Exception, delivered: Literal["no", "maybe"]) -> TransportError:
        """The error of a request that got no answer.

        Its cause has no traceback: aiohttp's frames have the key in their local variables, and some
        reports show those.
        """
        text, transient = self.hide(describe(error)), is_transient(error)
        failure = TransportError(text, delivered=delivered, transient=transient)
        cause = without_secrets(error)
        shown = any(_holds(cause, secret) for secret in self._all)
        failure.__cause__ = None if shown else cause
        for each in _chain(cause):
            each.__traceback__ = None
        return failure


def _escaped(secret: str) -> re.Pattern[bytes]:
    """A pattern of an ASCII secret in which any character may be escaped as JSON allows."""
    forms = (rf"(?:{re.escape(c)}|\\u00(?i:{ord(c):02x})|\\{re.escape(c)})" for c in secret)
    return re.compile("".join(forms).encode())


def was_before_sending(error: Exception) -> bool:
    """Whether the class of an error proves that the server saw nothing of the request."""
    return isinstance(error, _BEFORE_SENDING)


def is_transient(error: Exception) -> bool:
    """Whether the same request may fare better later."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return error.status >= 500 or error.status == 429
    cause = getattr(error, "os_error", None)
    return not isinstance(error, _PERMANENT) and not isinstance(cause, LocalAddressError)


def describe(error: Exception) -> str:
    """An exception in words. Those of an answer are cut: their text holds the request's headers."""
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{name}: {error.status} {error.message}"
    text = str(error).replace(" ssl:default", "")  # which aiohttp says of plain HTTP, too
    return f"{name}: {text}" if text else name


def without_secrets(error: Exception) -> Exception:
    """The same exception; aiohttp puts the request's headers and URL, key and all, into some.

    Others have the proxy of a session, and its password, in their `repr`.
    """
    if isinstance(error, aiohttp.ClientResponseError):
        asked = error.request_info
        place = asked.url.with_query(None)
        error.request_info = asked._replace(url=place, real_url=place, headers=_NO_HEADERS)
        error.args = (error.request_info, error.history)
    if isinstance(error, aiohttp.ClientConnectorError) and error.args:
        place, *rest = error.args
        if hasattr(place, "_replace"):
            error.args = (place._replace(proxy=None, proxy_auth=None), *rest)
    return error


def _holds(error: BaseException | None, secret: str) -> bool:
    """Whether an exception, or one that led to it, shows this; a server may have echoed it."""
    return any(secret in str(each) or secret in repr(each) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
