"""Media by GET, without the API key, from public hosts only unless others are allowed."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from seedance_async._utils.urls import is_local_host, redact_url
from seedance_async.api.errors import TransportError
from seedance_async.api.options import TransportArguments
from seedance_async.api.transport.contract import MediaResponse
from seedance_async.api.transport.failures import (
    FAILURES,
    LocalAddressError,
    describe,
    is_transient,
    without_secrets,
)
from seedance_async.api.transport.proxies import Proxies, check_netrc

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUFFER = 1 << 18  # bytes that may wait for the disk before the server is held back
_HOW = "allow_private_media=True allows it; the video itself is made, and can be fetched then"


class MediaHosts:
    """The hosts that media are fetched from. An answer may take as long as it delivers.

    Args:
        headers: sent with every request.
        options: see `TransportOptions`. Hosts on this machine are allowed, and plain HTTP to them,
            where the API itself is there.
        proxies: which proxy a host is reached through.
    """

    def __init__(
        self, headers: Mapping[str, str], options: TransportArguments, proxies: Proxies
    ) -> None:
        self._headers, self._options, self._proxies = headers, options, proxies
        self._local = options.endpoint.is_local
        # Where a proxy connects, its own address may be private; where the name leads, it knows.
        self._guarded: aiohttp.ClientSession | None = None
        self._unguarded: aiohttp.ClientSession | None = None
        self._arguments: dict[str, Any] = {
            "allow_redirects": False,
            "auto_decompress": False,
            "raise_for_status": False,
            "read_bufsize": _BUFFER,
            "timeout": aiohttp.ClientTimeout(
                total=None,
                sock_connect=options.timeouts.connect,
                sock_read=options.timeouts.download_idle,
            ),
        }
        if options.ssl is not True:
            self._arguments["ssl"] = options.ssl

    @asynccontextmanager
    async def open(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[MediaResponse]:
        """See `Transport.open_media`. Follows up to five redirects, checking each target."""
        response = await self._get(url, headers)
        received = {name.lower(): value for name, value in response.headers.items()}
        try:
            yield MediaResponse(response.status, received, _Chunks(response))
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close all connections that are not those of a user's session."""
        for http in (self._guarded, self._unguarded):
            if http is not None:
                await http.close()

    async def _get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            try:
                response = await self._request(url, headers)
            except FAILURES as error:
                raise _media_error(url, error) from without_secrets(error)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = _redirected(url, location)
        raise TransportError("too many redirects", delivered="maybe", transient=False)

    async def _request(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        sent, arguments = {**self._headers, **headers}, self._arguments
        own = self._options.http
        proxy = None if own is not None and not self._options.proxy else self._proxies.of(url)
        if proxy is not None:
            arguments = {**arguments, **proxy.arguments()}
            sent.update(proxy.headers(urlsplit(url).scheme))
        if own is None:
            own = self._session(guarded=proxy is None)
        elif own.closed:
            raise aiohttp.ClientConnectionError("the ClientSession given as http= is closed")
        elif own.trust_env:
            check_netrc(urlsplit(url).hostname or "")
        return await own.get(URL(url), headers=sent, **arguments)

    def _session(self, *, guarded: bool) -> aiohttp.ClientSession:
        if guarded and not self._local and not self._options.allow_private_media:
            if self._guarded is None:
                self._guarded = self._make_session(socket_factory=public_socket)
            return self._guarded
        if self._unguarded is None:
            self._unguarded = self._make_session()
        return self._unguarded

    def _make_session(self, **named: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._options.max_connections, **named),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            host = ""
        local = is_local_host(host)
        private = self._local or self._options.allow_private_media
        allowed = host and (
            (parts.scheme == "https" and (private or not local))
            or (parts.scheme == "http" and local and self._local)
        )
        if not allowed:
            hint = f" ({_HOW})" if host and local and parts.scheme == "https" else ""
            raise TransportError(
                f"{redact_url(url)} is not fetched: media must be on a public https:// host{hint}",
                delivered="no",
                transient=False,
            )


class _Chunks:
    """The body of a media answer in pieces, with aiohttp's exceptions made ours."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._url = str(response.url)
        self._chunks = response.content.iter_chunks()  # as they came: nothing is copied together

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            return (await anext(self._chunks))[0]
        except FAILURES as error:
            raise _media_error(self._url, error) from without_secrets(error)


def _redirected(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no URL, and refused as such


def public_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that a name was resolved to, unless that is not a public one.

    A check of the name alone is not enough: whoever owns it decides where it leads, and when.
    """
    family, kind, protocol, _, address = info
    if is_local_host(str(address[0])):
        reason = f"the host's address, {address[0]}, is not a public one ({_HOW})"
        raise LocalAddressError(errno.EACCES, reason)
    return socket.socket(family, kind, protocol)


def _media_error(url: str, error: Exception) -> TransportError:
    return TransportError(
        f"{redact_url(url)}: {describe(error)}", delivered="maybe", transient=is_transient(error)
    )
