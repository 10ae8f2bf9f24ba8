"""The default `Transport`, on aiohttp's `ClientSession`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from seedance_async._utils.version import __version__
from seedance_async.api.errors import TransportError
from seedance_async.api.option_fields import takes
from seedance_async.api.options import TransportArguments
from seedance_async.api.protocol import WireRequest, WireResponse
from seedance_async.api.transport.contract import MediaResponse
from seedance_async.api.transport.failures import Secrets
from seedance_async.api.transport.proxies import Proxies
from seedance_async.api.transport.session_calls import SETTINGS, SessionCalls, sent_trace

if TYPE_CHECKING:
    from seedance_async.api.transport.media import MediaHosts

_HEADERS = {"User-Agent": f"seedance-async/{__version__}", "Accept-Encoding": "identity"}


class APICalls(Protocol):
    """Calls of one kind, submits or others, on connections of their own."""

    async def send(
        self, request: WireRequest, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """See `Transport.send`."""

    async def aclose(self) -> None:
        """End what is in progress; close all connections."""


class AiohttpTransport:
    """`Transport` on aiohttp's `ClientSession`.

    It takes the options of `TransportOptions`.
    """

    reports_sending = True

    @takes(TransportArguments)
    def __init__(self, *args: Any, **options: Any) -> None:
        self._options = TransportArguments(*args, **options)
        self._endpoint = self._options.endpoint
        self._proxies = Proxies(self._options.proxy, self._options.trust_env)
        # That of the environment is looked up now, so that a bad one is found before a submit.
        self._proxy = None if self._has_own_proxy() else self._proxies.of(self._endpoint.base_url)
        # Made when first needed: aiohttp's belong to a running event loop.
        self._submits: APICalls | None = None
        self._queries: APICalls | None = None
        self._media: MediaHosts | None = None
        self._closed = False
        _keep_receive_buffers()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._endpoint.base_url}>"

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
                self._submits = self._make_calls(self._options.timeouts.submit, fresh=True)
            return await self._submits.send(request, on_sent)
        if self._queries is None:
            self._queries = self._make_calls(self._options.timeouts.request, fresh=False)
        return await self._queries.send(request, on_sent)

    def open_media(
        self, url: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[MediaResponse]:
        """See `Transport.open_media`. Follows up to five redirects, checking each target."""
        self._check_open()
        if self._media is None:
            from seedance_async.api.transport.media import MediaHosts  # imported only if it is used

            self._media = MediaHosts(_HEADERS, self._options, self._proxies)
        return self._media.open(url, headers)

    async def aclose(self) -> None:
        """Close all connections; nothing can be sent after this. A session of yours stays open."""
        self._closed = True
        async with AsyncExitStack() as stack:  # if the closing of one is cancelled, all are closed
            for part in (self._media, self._queries, self._submits):
                if part is not None:
                    stack.push_async_callback(part.aclose)

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("the transport is closed", delivered="no", transient=False)

    def _has_own_proxy(self) -> bool:
        """Whether a session of the user's decides about the proxy."""
        return self._options.http is not None and self._options.proxy is None

    def _api_headers(self) -> dict[str, str]:
        """What goes with every API call."""
        key = {"Authorization": f"Bearer {self._endpoint.api_key}"}
        return {**_HEADERS, **(self._options.headers or {}), **key}

    def _secrets(self) -> Secrets:
        credentials = self._proxy.credentials if self._proxy else None
        return Secrets(self._endpoint.api_key, *([credentials] if credentials else []))

    def _make_calls(self, seconds: float, *, fresh: bool) -> APICalls:
        options, proxy = self._options, self._proxy
        headers, arguments = self._api_headers(), {}
        if proxy is not None:
            headers |= proxy.headers(self._endpoint.base_url.partition(":")[0])
            arguments = proxy.arguments()
        # aiohttp sends a session's own headers to a proxy too, and that must not see the key.
        defaults = headers if proxy is None and options.http is None else {}
        if options.ssl is not True:
            arguments["ssl"] = options.ssl
        return SessionCalls(
            options.http or self._make_session(defaults, fresh=fresh),
            traced=fresh and options.http is None,
            owned=options.http is None,
            base_url=self._endpoint.base_url,
            headers={} if defaults else headers,
            arguments=arguments,
            secrets=self._secrets(),
            seconds=seconds,
            connect_seconds=options.timeouts.connect,
        )

    def _make_session(self, headers: Mapping[str, str], *, fresh: bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._options.max_connections, force_close=fresh),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            trace_configs=[sent_trace()] if fresh else None,  # it costs a poll a fifth of its time
            **SETTINGS,
        )


def _keep_receive_buffers() -> None:
    """Have glibc serve asyncio's receive buffers from its heap.

    asyncio receives into a block of 256 KiB. glibc maps and unmaps one for every answer, until a
    larger block was freed once: then it takes such blocks to be worth keeping. Elsewhere, this does
    nothing.
    """
    bytes(1 << 19)
