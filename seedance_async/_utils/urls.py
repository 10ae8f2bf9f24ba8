"""Addresses: what a URL shows and where it leads. Text in, text or a verdict out; no look-ups."""

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
    """A URL without what may be a signature or a secret in it: no userinfo, query, fragment.

    Where the text is so odd that its user name or password cannot be told apart, all of it goes.
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
    """The first rule that a media or webhook URL breaks, in words; None when it is good."""
    if re.search(_BLANK, url):
        return "must not contain white space or control characters"
    if "\\" in url:  # some readers take it for a slash, and so see another host
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

# IPv6 networks whose addresses lead to an IPv4 address, and where in the 128 bits that stands.
_IPV4_INSIDE = (
    (ipaddress.IPv6Network("::/96"), 0),  # compatible
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # mapped
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4
)


@lru_cache(maxsize=1024)  # it is asked for every request, mostly about the same few hosts
def is_local_host(host: str) -> bool:
    """Whether a host name or IP literal, in any spelling, is not on the public internet.

    A name without a dot is one of the own network. Only the text is looked at: a public name that
    resolves to a private address is not found.
    """
    host = _ascii_host(host).rstrip(".").lower()
    address = _address(host)
    if address is not None:
        return not address.is_global or address.is_multicast
    return (bool(host) and "." not in host) or host in _LOCAL_NAMES or host.endswith(_LOCAL_DOMAINS)


def _ascii_host(host: str) -> str:
    """The host as HTTP libraries come to see it: full-width digits and their like made ASCII."""
    if host.isascii():
        return host
    try:
        return unicodedata.normalize("NFKC", host).encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that an IP literal leads to; None for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:  # the old spellings, which resolvers still accept: 127.1, 0x7f000001, 2130706433
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    for network, shift in _IPV4_INSIDE:
        if address in network:
            return ipaddress.IPv4Address(int(address) >> shift & 0xFFFFFFFF)
    return address
