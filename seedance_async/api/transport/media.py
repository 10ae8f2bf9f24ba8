"""Media by GET, without the API key, from public hosts only."""

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
from seedance_async.api.transport.contract import MediaResponse
from seedance_async.api.transport.failures import (
    FAILURES,
    LocalAddressError,
    is_transient,
    told,
    without_secrets,
)

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUFFER = 1 << 18  # bytes that may wait for the disk before the server is held back


class MediaHosts:
    """The hosts that media are fetched from. An answer may take as long as it delivers.

    Args:
        headers: sent with every request.
        local: whether hosts on this machine are allowed too, and plain HTTP to them.
        max_connections: at once.
        connect_seconds: for connecting alone.
        idle_seconds: how long an answer may deliver nothing.
        ssl: as aiohttp takes it.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        local: bool,
        max_connections: int,
        connect_seconds: float,
        idle_seconds: float,
        ssl: Any,
    ) -> None:
        self._local = local
        connector = aiohttp.TCPConnector(
            limit=max_connections, ssl=ssl, socket_factory=None if local else public_socket
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=connect_seconds, sock_read=idle_seconds
            ),
            auto_decompress=False,
            read_bufsize=_BUFFER,
        )

    @asynccontextmanager
    async def open(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[MediaResponse]:
        """See `Transport.open_media`. Follows up to five redirects, checking each target."""
        response = await self._get(url, headers)
        told = {name.lower(): value for name, value in response.headers.items()}
        try:
            yield MediaResponse(response.status, told, _Chunks(response))
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            try:
                response = await self._http.get(URL(url), headers=headers, allow_redirects=False)
            except FAILURES as error:
                raise _media_error(url, error) from without_secrets(error)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = _redirected(url, location)
        raise TransportError("too many redirects", delivered="maybe", transient=False)

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            host = ""
        local = is_local_host(host)
        allowed = host and (
            (parts.scheme == "https" and not local)
            or (parts.scheme in ("http", "https") and local and self._local)
        )
        if not allowed:
            raise TransportError(
                f"{redact_url(url)} is not fetched: media must be on a public https:// host",
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
        raise LocalAddressError(errno.EACCES, "the host's address is not a public one")
    return socket.socket(family, kind, protocol)


def _media_error(url: str, error: Exception) -> TransportError:
    return TransportError(
        f"{redact_url(url)}: {told(error)}", delivered="maybe", transient=is_transient(error)
    )
