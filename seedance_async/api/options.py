"""Limits, timeouts, retry and poll policies, and what the environment says of them.

Nothing here acts on an option; a value out of bounds is a `ConfigurationError` that names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from seedance_async._utils.urls import is_local_host, redact_url
from seedance_async.api.backoff import Backoff, is_finite
from seedance_async.api.errors import ConfigurationError

DEFAULT_BASE_URL = "https://www.seedance2.ink"


def positive(_: object, field: attrs.Attribute[float], value: float) -> None:
    """A number above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{field.name} must be a number, not {value!r}")
    if not (is_finite(value) and value > 0):
        raise ConfigurationError(f"{field.name} must be finite and above zero, not {value!r:.40}")


def whole(_: object, field: attrs.Attribute[int], value: int) -> None:
    """A whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{field.name} must be a whole number above zero, not {value!r}")


def is_a(*kinds: type) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """An instance of one of these classes."""
    names = " or a ".join(kind.__name__ for kind in kinds)

    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kinds):
            raise ConfigurationError(f"{field.name} must be a {names}, not {value!r:.40}")

    return check


def policy(default: Any) -> Any:
    """A field for a value of the class of its default."""
    return attrs.field(default=default, validator=is_a(type(default)))


def seconds(default: float) -> float:
    """A field for a number above zero."""
    return attrs.field(default=default, validator=positive)


def count(default: int) -> int:
    """A field for a whole number above zero."""
    return attrs.field(default=default, validator=whole)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When a call is tried again, and for how long.

    Args:
        attempts: how often a query, a cancellation or a download is sent in all. Refusals by a
            rate limit do not count.
        timeout: seconds after which a failing call is not tried again. For a submit, which is
            tried again only where it did not reach the server, it is the only bound; it also
            holds for those that wait because nothing gets through.
        backoff: the delays between attempts; full jitter, so that many do not retry in step.
        max_retry_after: a server that asks for a longer wait than this many seconds is not
            waited for: `RateLimitError`.
        throttle_timeout: seconds for which rate limits may take nothing at all before the calls
            that wait behind them fail. While others are taken, a call waits for its turn; it
            fails then only after a hundred refusals of its own and longer than this.
    """

    attempts: int = count(8)
    timeout: float = seconds(600.0)
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
        request: the same for every other call.
        submit_grace: how long a submit whose caller was cancelled may still wait for its id.
        download_idle: how long a download may deliver nothing.
        download_rate: bytes a second; a transfer that stays below, on average over
            `download_idle` seconds, counts as broken and is resumed on another connection.
        download: for one whole download, its retries included.
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
    """Where the API is and the key that opens it. The key is in no repr.

    Args:
        base_url: `https://host[:port][/path]`; plain HTTP only for this machine or its network.
        api_key: the whole key, without "Bearer".

    Raises:
        ConfigurationError: a key that no header can hold, or a bad base URL.
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
        """The endpoint from arguments, else SEEDANCE_API_KEY and SEEDANCE_BASE_URL.

        Raises:
            ConfigurationError: no key, a key that no header can hold, or a bad base URL.
        """
        key = api_key if api_key is not None else environ.get("SEEDANCE_API_KEY", "")
        # An empty argument is a mistake, and must not lead to where jobs cost money.
        url = environ.get("SEEDANCE_BASE_URL") or DEFAULT_BASE_URL
        return cls(url if base_url is None else base_url, key)

    def __reduce__(self) -> str:
        raise TypeError("an Endpoint holds the API key and is never pickled")

    @property
    def is_local(self) -> bool:
        """Whether the API is on this machine or its network, as an emulator is."""
        return is_local_host(urlsplit(self.base_url).hostname or "")
