"""What the environment says of how a URL is reached: through which proxy, with what credentials.

It is read here and not by aiohttp's `trust_env`, which would also send what a .netrc says, and
looks both up again for each request.
"""

from __future__ import annotations

import base64
import netrc
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs
from yarl import URL

from seedance_async._utils.urls import is_local_host
from seedance_async.api.errors import TransportError
from seedance_async.api.options import checked_proxy

_HEADER = "Proxy-Authorization"


@attrs.frozen
class Proxy:
    """An HTTP proxy. `credentials` is what its Proxy-Authorization header says, or None."""

    url: URL
    credentials: str | None = attrs.field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """The proxy at a URL that was checked, with a user name and a password or without."""
        parts = urlsplit(url)
        place = URL(url).with_user(None)
        if parts.username is None:
            return cls(place)
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(place, f"Basic {base64.b64encode(pair.encode()).decode()}")

    def arguments(self) -> dict[str, Any]:
        """What aiohttp is to be given with each request.

        The password is not left in the URL, which errors show. For an https:// URL it is sent with
        CONNECT; for an http:// URL it is one of the request's own headers.
        """
        headers = {_HEADER: self.credentials} if self.credentials else {}
        return {"proxy": self.url, "proxy_headers": headers}

    def headers(self, scheme: str) -> dict[str, str]:
        """What a request itself has to say to the proxy."""
        plain = scheme == "http" and self.credentials
        return {_HEADER: self.credentials} if plain and self.credentials else {}


class Proxies:
    """The proxies of one transport.

    Args:
        given: the URL of the proxy for all requests, or None.
        trust_env: whether HTTPS_PROXY, HTTP_PROXY and NO_PROXY count where none was given.
    """

    def __init__(self, given: str | None, trust_env: bool) -> None:
        self._given = None if given is None else Proxy.parse(given)
        self._trust_env = trust_env
        self._found: dict[tuple[str, str], Proxy | None] = {}

    def of(self, url: str) -> Proxy | None:
        """The proxy for a URL; None where its host is reached directly.

        Raises:
            ConfigurationError: the environment names one that cannot be used.
        """
        if self._given is not None or not self._trust_env:
            return self._given
        parts = urlsplit(url)
        place = parts.scheme, parts.hostname or ""
        if place not in self._found:
            if len(self._found) > 1000:
                self._found.clear()
            self._found[place] = _from_environment(*place)
        return self._found[place]


def _from_environment(scheme: str, host: str) -> Proxy | None:
    if is_local_host(host) or proxy_bypass(host):
        return None
    url = getproxies().get(scheme)
    if not url:
        return None
    if "://" not in url:
        url = f"http://{url}"
    return Proxy.parse(checked_proxy(url, f"{scheme.upper()}_PROXY in the environment"))


def check_netrc(host: str) -> None:
    """Refuse a host for which a user's session with `trust_env` would send what a .netrc says.

    Raises:
        TransportError: it would.
    """
    name = "_netrc" if sys.platform == "win32" else ".netrc"
    try:
        known = netrc.netrc(os.environ.get("NETRC") or str(Path.home() / name)).authenticators(host)
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return
    if known is not None:
        raise TransportError(
            f"a .netrc has credentials for {host}, which the ClientSession given as http= would"
            " send: make it with trust_env=False, and with the proxy that it needs",
            delivered="no",
            transient=False,
        )
