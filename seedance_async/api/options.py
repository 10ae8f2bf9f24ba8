"""Where the API is, timeouts, retries, and how it is reached.

Nothing here acts on an option; a value out of bounds is a `ConfigurationError` that names it.
"""

from __future__ import annotations

import os
import re
import ssl as tls
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from seedance_async._utils.urls import is_local_host, redact_url
from seedance_async.api.backoff import Backoff
from seedance_async.api.errors import ConfigurationError
from seedance_async.api.option_fields import count, flag, is_a, policy, seconds

if TYPE_CHECKING:
    import aiohttp

DEFAULT_BASE_URL = "https://www.seedance2.ink"


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Whether a call is retried, and for how long.

    Args:
        attempts: how often a query, a cancellation or a download is sent in total. Refusals by a
            rate limit do not count.
        timeout: seconds after which a failing call is not retried. It is the only bound for a
            submit, which is retried only if it did not reach the server, and it also holds for
            submits that wait because none gets through.
        reach_timeout: the same while the API's host was never reached, if that is less: a submit
            then fails within a minute, and says what to check. The last attempt may take another
            `Timeouts.connect` seconds.
        backoff: the delays between attempts, with full jitter so that clients do not retry in step.
        max_retry_after: a call fails with `RateLimitError` if the server asks for a longer wait
            than this many seconds.
        throttle_timeout: seconds for which rate limits may refuse everything before the calls that
            wait behind them fail. While others are accepted, a call waits for its turn, and fails
            only after a hundred refusals of its own and longer than this.
    """

    attempts: int = count(8)
    timeout: float = seconds(600.0)
    reach_timeout: float = seconds(30.0)
    backoff: Backoff = policy(Backoff(initial=0.5, multiplier=2.0, maximum=20.0, jitter=1.0))
    max_retry_after: float = seconds(600.0)
    throttle_timeout: float = seconds(3600.0)


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds, on the monotonic clock, and the one rate that goes with them.

    Args:
        connect: for DNS, TCP and TLS of one connection.
        submit: from sending a submit to the end of its answer. Long on purpose: giving up on an
            answer that is on its way makes a paid job uncertain.
        request: the same for every other call; an answer that has begun by then may take as long
            again. In the default transport's own sessions it begins with the call, and so includes
            `connect`.
        submit_grace: how long a submit whose caller was cancelled may still wait for its id.
        download_idle: how long a download may receive nothing.
        download_rate: bytes per second; a slower transfer, averaged over `download_idle` seconds,
            counts as broken and is resumed on another connection.
        download: for one whole download, including its retries.
    """

    connect: float = seconds(15.0)
    submit: float = seconds(120.0)
    request: float = seconds(30.0)
    submit_grace: float = seconds(5.0)
    download_idle: float = seconds(60.0)
    download_rate: float = seconds(1000.0)
    download: float = seconds(3600.0)


def _checked_key(key: str) -> str:
    if not isinstance(key, str) or not key:
        raise ConfigurationError("no API key: pass api_key or set SEEDANCE_API_KEY")
    if not key.isascii() or any(c.isspace() or not c.isprintable() for c in key):
        raise ConfigurationError(
            "api_key must be printable ASCII without white space (its value is not shown)"
        )
    return key


def _checked_base_url(url: str) -> str:
    if not isinstance(url, str) or not url:
        raise ConfigurationError("base_url must be text and not empty")
    if not url.isascii() or "\\" in url or any(c.isspace() or not c.isprintable() for c in url):
        raise ConfigurationError(
            "base_url must be ASCII, other characters percent-encoded, without white space, control"
            f" characters or a backslash: {redact_url(url)!r}"
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"base_url is not a URL: {redact_url(url)}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError(f"base_url must be https://host, not {redact_url(url)}")
    if any(mark in url for mark in "@?#"):
        raise ConfigurationError(
            f"base_url must have no user name, query or fragment: {redact_url(url)}"
        )
    if parts.scheme == "http" and not is_local_host(host):
        raise ConfigurationError(
            "base_url must be https:// (http:// is for this machine and its network only): "
            f"{redact_url(url)}"
        )
    return url.rstrip("/")


@attrs.frozen
class Endpoint:
    """Where the API is, and the key for it. The key is in no repr.

    Args:
        base_url: `https://host[:port][/path]`; plain HTTP only for this machine or its network.
        api_key: the whole key, without "Bearer".

    Raises:
        ConfigurationError: a key that cannot stand in a header, or a bad base URL.
    """

    base_url: str = attrs.field(converter=_checked_base_url)
    api_key: str = attrs.field(repr=False, converter=_checked_key)

    @classmethod
    def resolve(
        cls,
        api_key: str | None = None,
        base_url: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Endpoint:
        """The endpoint from the arguments, else from SEEDANCE_API_KEY and SEEDANCE_BASE_URL.

        Raises:
            ConfigurationError: no key, a key that cannot stand in a header, or a bad base URL.
        """
        key = api_key if api_key is not None else environ.get("SEEDANCE_API_KEY", "")
        # An empty argument is a mistake, and must not fall back to the API that costs money.
        url = environ.get("SEEDANCE_BASE_URL") or DEFAULT_BASE_URL
        return cls(url if base_url is None else base_url, key)

    def __reduce__(self) -> str:
        raise TypeError("an Endpoint holds the API key and is never pickled")

    @property
    def is_local(self) -> bool:
        """Whether the API is on this machine or its network, like an emulator."""
        return is_local_host(urlsplit(self.base_url).hostname or "")


def checked_proxy(url: str, name: str = "proxy") -> str:
    """The URL of an HTTP proxy. A password in it is not shown.

    Raises:
        ConfigurationError: it is none.
    """
    rule = f"{name} must be http://[user:password@]host[:port] or the same with https://"
    if not isinstance(url, str):
        raise ConfigurationError(f"{rule}, not a {type(url).__name__}")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    blank = any(c.isspace() or not c.isprintable() for c in url)
    if not good or blank or "\\" in url or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"{rule}, not {redact_url(url)}")
    return url


#: What aiohttp writes itself, or what decides about the connection or the key.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "authorization", "connection", "content-encoding", "content-length"}
    | {"content-type", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)


def _checked_headers(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a mapping, not a {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ConfigurationError(f"headers must have names of HTTP, not {name!r:.80}")
        if name.lower() in _OWN_HEADERS:
            raise ConfigurationError(f"headers must not have {name}: the SDK sets it itself")
        if not isinstance(value, str) or not value.isascii() or not (value + " ").isprintable():
            raise ConfigurationError(
                f"headers must have printable ASCII as the value of {name} (it is not shown)"
            )
    return dict(headers)


def _check_http(_: object, field: attrs.Attribute[Any], value: object) -> None:
    import aiohttp  # only where a session was given: options alone must be light to import

    if not isinstance(value, aiohttp.ClientSession):
        kind = type(value).__name__
        raise ConfigurationError(f"{field.name} must be an aiohttp.ClientSession, not a {kind}")
    if value.auth is not None:  # aiohttp takes no Authorization header besides
        raise ConfigurationError(f"{field.name} must be a ClientSession without auth")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class TransportOptions:
    """How the API and the hosts of its media are reached.

    Args:
        timeouts: see `Timeouts`.
        max_connections: submits in progress at once, and as many other calls.
        proxy: the URL of an HTTP proxy for all calls, with a user name and a password if it asks
            for them.
        trust_env: take the proxy from HTTPS_PROXY, HTTP_PROXY and NO_PROXY where `proxy` is not
            given. A host on this machine or its network is never reached through one. No .netrc
            is read.
        ssl: an `ssl.SSLContext`, for a private certificate authority; False verifies no
            certificate.
        headers: sent with each API call, besides the SDK's own.
        allow_private_media: download videos from hosts that are not on the public internet or
            whose names lead to private addresses, as behind a VPN or a VPC endpoint.
        http: an `aiohttp.ClientSession` of yours for all calls, with its connector, proxy, headers
            and traces. The SDK does not close it. Its proxy, if any, is its own affair
            (`trust_env` here is ignored), and where the names of media lead is up to its connector.
            Submits get no fresh connection unless its connector has `force_close=True`: one that
            meets a kept connection which the server is just closing is then uncertain.

    Raises:
        ConfigurationError: a value out of bounds.
    """

    timeouts: Timeouts = policy(Timeouts())
    max_connections: int = count(50)
    proxy: str | None = attrs.field(
        default=None, converter=attrs.converters.optional(checked_proxy)
    )
    trust_env: bool = flag(True)
    ssl: tls.SSLContext | bool = attrs.field(default=True, validator=is_a(tls.SSLContext, bool))
    headers: Mapping[str, str] | None = attrs.field(default=None, converter=_checked_headers)
    allow_private_media: bool = flag(False)
    http: aiohttp.ClientSession | None = attrs.field(
        default=None, validator=attrs.validators.optional(_check_http)
    )


@attrs.frozen(eq=False, repr=False)
class TransportArguments(TransportOptions):
    """An HTTP transport of the SDK.

    Args:
        endpoint: the API's origin and key.

    Raises:
        ConfigurationError: an option out of bounds, or one that this transport does not have.
    """

    endpoint: Endpoint
