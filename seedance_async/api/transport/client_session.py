"""`Transport` on aiohttp: the API's origin, which gets the key, and media hosts, which do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import aiohttp

from seedance_async._utils.version import __version__
from seedance_async.api.errors import TransportError
from seedance_async.api.options import Endpoint, TransportOptions
from seedance_async.api.protocol import WireRequest, WireResponse
from seedance_async.api.transport.contract import MediaResponse
from seedance_async.api.transport.direct import Line

if TYPE_CHECKING:
    from seedance_async.api.transport.media import MediaHosts

_HEADERS = {"User-Agent": f"seedance-async/{__version__}", "Accept-Encoding": "identity"}


class AiohttpTransport:
    """`Transport` on aiohttp.

    Args:
        endpoint: the API's origin and key.
        timeouts: see `Timeouts`.
        max_connections: connections for submits, and as many again for the other calls.
        ssl: an `ssl.SSLContext` for a private certificate authority; default verification
            otherwise.
    """

    reports_sending = True

    def __init__(
        self,
        endpoint: Endpoint,
        options: TransportOptions | None = None,
        **named: Any,
    ) -> None:
        options = options or TransportOptions(**named)
        self._endpoint = endpoint
        self._timeouts = options.timeouts
        self._max_connections = options.max_connections
        self._ssl = options.ssl
        # Made when first needed: aiohttp's belong to a running event loop.
        self._submits: Line | None = None
        self._queries: Line | None = None
        self._media: MediaHosts | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<AiohttpTransport {self._endpoint.base_url}>"

    async def send(
        self, request: WireRequest, *, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """See `Transport.send`.

        Submits never use a connection again: a POST on one that the server is just closing fails
        without anybody knowing whether it was read, and that would leave a paid job uncertain.
        """
        self._check_open()
        if request.charges:
            if self._submits is None:
                self._submits = self._line(self._timeouts.submit, reuse=False)
            return await self._submits.send(request, on_sent)
        if self._queries is None:
            self._queries = self._line(self._timeouts.request, reuse=True)
        return await self._queries.send(request, on_sent)

    def open_media(
        self, url: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[MediaResponse]:
        """See `Transport.open_media`. Follows up to five redirects, checking each target."""
        self._check_open()
        if self._media is None:
            from seedance_async.api.transport.media import MediaHosts  # imported only if it is used

            self._media = MediaHosts(
                _HEADERS,
                local=self._endpoint.is_local,
                max_connections=self._max_connections,
                connect_seconds=self._timeouts.connect,
                idle_seconds=self._timeouts.download_idle,
                ssl=self._ssl,
            )
        return self._media.open(url, headers)

    async def aclose(self) -> None:
        """Close all connections; nothing can be sent after this."""
        self._closed = True
        for part in (self._submits, self._queries, self._media):
            if part is not None:
                await part.aclose()

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("the transport is closed", delivered="no", transient=False)

    def _line(self, seconds: float, *, reuse: bool) -> Line:
        key = self._endpoint.api_key
        return Line(
            self._endpoint.base_url,
            {**_HEADERS, "Authorization": f"Bearer {key}"},
            secret=key,
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, force_close=not reuse, ssl=self._ssl
            ),
            seconds=seconds,
            connect_seconds=self._timeouts.connect,
        )
