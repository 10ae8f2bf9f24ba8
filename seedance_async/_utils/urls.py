"""URLs: what may be shown of one, and whether its host is public. Nothing is resolved."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from functools import lru_cache
from urllib.parse import urlsplit

_BEFORE_AUTHORITY = r"(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?"
_BLANK = r"[\s\x00-\x1f\x7f]"
_HOST_AND_PORT = r"(?:\[[^\]]*\]|[^:\\]*)(?::[0-9]*)?"


def redact_url(url: str | None) -> str:
    """A URL without the parts that may hold a signature or a secret: userinfo, query, fragment.

    If the text is so odd that a user name or password cannot be located, everything after the
    scheme is left out.
    """
    if not url:
        return repr(url)
    place = re.split("[?#]", url, maxsplit=1)[0]
    hint = "?…" if "?" in url else ""
    before = re.match(_BEFORE_AUTHORITY, place)
    start = before.end() if before else 0
    authority, slash, path = place[start:].partition("/")
    host = authority.rpartition("@")[2]
    if not re.fullmatch(_HOST_AND_PORT, host):
        return f"{place[:start]}…"
    return f"{place[:start]}{host}{slash}{path}{hint}"


def broken_url_rule(url: str, *, allow_local: bool) -> str | None:
    """The first rule that a media or webhook URL breaks, or None if it breaks none."""
    if re.search(_BLANK, url):
        return "must not contain white space or control characters"
    if "\\" in url:  # some parsers read it as a slash, and so another host
        return "must not contain a backslash"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "must be a valid URL"
    if "@" in parts.netloc:
        return "must not contain a user name or a password"
    local = allow_local and host is not None and is_local_host(host)
    if parts.scheme != "https" and not (local and parts.scheme == "http"):
        return "must be a public https:// URL"
    if not host or not host.strip("."):
        return "must name a host"
    if is_local_host(host) and not allow_local:
        return "must be public, not a loopback, private or link-local host"
    return None


_LOCAL_NAMES = frozenset({"localhost.localdomain"})
_LOCAL_DOMAINS = (".localhost", ".local", ".internal")

# IPv6 networks whose addresses contain an IPv4 address, and the number of bits after it.
_IPV4_INSIDE = (
    (ipaddress.IPv6Network("::/96"), 0),  # compatible
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)


@lru_cache(maxsize=1024)  # called for every request, mostly with the same few hosts
def is_local_host(host: str) -> bool:
    """Whether a host name or IP literal, in any spelling, is not on the public internet.

    A name without a dot belongs to the local network. Only the text is examined: a public name that
    resolves to a private address is not detected.
    """
    host = _ascii_host(host).rstrip(".").lower()
    address = _address(host)
    if address is not None:
        return not address.is_global or address.is_multicast
    return (bool(host) and "." not in host) or host in _LOCAL_NAMES or host.endswith(_LOCAL_DOMAINS)


def _ascii_host(host: str) -> str:
    """The host as HTTP libraries see it, with characters such as full-width digits made ASCII."""
    if host.isascii():
        return host
    try:
        return unicodedata.normalize("NFKC", host).encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that an IP literal stands for; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:  # old spellings that resolvers still accept: 127.1, 0x7f000001, 2130706433
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    for network, shift in _IPV4_INSIDE:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return address
