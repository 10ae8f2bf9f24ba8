"""The `Transport` seam and its aiohttp implementation: the only importer of aiohttp's client.

It moves bytes and says of each failure whether the request can have been delivered. It knows
nothing of the API's fields and repeats nothing. The API key goes to the configured origin only:
API calls follow no redirect, and media are fetched through a session that has no key.
"""

from __future__ import annotations

import errno
import socket
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import aiohttp
import attrs
from yarl import URL

from seedance_async._version import __version__
from seedance_async.addresses import is_local_host, redact_url
from seedance_async.errors import TransportError
from seedance_async.options import Endpoint, Timeouts
from seedance_async.protocol import MAX_BODY, WireRequest, WireResponse

MAX_REDIRECTS = 5
_MEDIA_BUFFER = 1 << 18  # bytes that may wait for the disk before the server is held back
_HIDDEN = "[api key]"
_USER_AGENT = f"seedance-async/{__version__}"


@attrs.frozen(eq=False, repr=False)
class MediaResponse:
    """The answer to a media request: status, headers in lower case, and the body in pieces."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """What the SDK needs of an HTTP library. A test double is one small class."""

    async def send(
        self, request: WireRequest, *, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """Send one API request, once.

        Args:
            request: what to send.
            on_sent: called when the first byte of the request may be on its way.

        Raises:
            TransportError: there is no status line; `delivered` says whether the server can have
                seen the request.
        """

    def open_media(
        self, url: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[MediaResponse]:
        """GET a media URL without credentials.

        Raises:
            TransportError: it cannot be reached, or must not be.
        """

    async def aclose(self) -> None:
        """Close all connections."""


class AiohttpTransport:
    """`Transport` on aiohttp.

    Args:
        endpoint: the API's origin and key.
        timeouts: see `Timeouts`.
        max_connections: connections for submits, and as many again for the other calls.
        ssl: an `ssl.SSLContext` for a private certificate authority; default verification
            otherwise.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeouts: Timeouts | None = None,
        max_connections: int = 50,
        ssl: Any = True,
    ) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts or Timeouts()
        self._max_connections = max_connections
        self._ssl = ssl
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<AiohttpTransport {self._endpoint.base_url}>"

    async def send(
        self, request: WireRequest, *, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """See `Transport.send`."""
        sending = _Sending(on_sent, self._endpoint.api_key, traced=request.charges)
        url = URL(self._endpoint.base_url + request.path, encoded=True)
        session = self._session("submit" if request.charges else "query")
        if not sending.traced:
            sending.note_sent()
        try:
            async with session.request(
                request.method,
                url,
                data=request.body,
                headers=None if request.body is None else _JSON,
                allow_redirects=False,
                trace_request_ctx=sending,
            ) as response:
                sending.response = response
                await self._read_bounded(response, sending)
        except _FAILURES as error:
            return sending.explain(error)
        return sending.answer()

    async def _read_bounded(self, response: aiohttp.ClientResponse, sending: _Sending) -> None:
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        inflate = None if encoding in ("identity", "") else _inflater(encoding)
        content, room = response.content, MAX_BODY + 1
        while piece := await content.readany():
            piece = inflate.decompress(piece, room) if inflate else piece[:room]
            sending.pieces.append(piece)
            room -= len(piece)
            if room <= 0:
                sending.broken = f"it is longer than {MAX_BODY} bytes"
                return
        if inflate is not None and not inflate.eof:
            sending.broken = f"its {encoding} stream ends early"

    @asynccontextmanager
    async def open_media(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[MediaResponse]:
        """See `Transport.open_media`. Follows up to five redirects, checking each target."""
        response = await self._get_media(url, headers)
        try:
            yield MediaResponse(response.status, _lower(response.headers), _Chunks(response))
        finally:
            response.close()

    async def _get_media(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        for _ in range(MAX_REDIRECTS + 1):
            self._check_media_url(url)
            try:
                response = await self._session("media").get(
                    URL(url), headers=dict(headers), allow_redirects=False
                )
            except _FAILURES as error:
                raise _media_error(url, error) from _without_secrets(error)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            url = _redirected(url, location)
        raise TransportError("too many redirects", delivered="maybe", transient=False)

    async def aclose(self) -> None:
        """Close all connections; nothing can be sent after this."""
        self._closed = True
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def _check_media_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            host = ""
        local = is_local_host(host)
        allowed = host and (
            (parts.scheme == "https" and not local)
            or (parts.scheme in ("http", "https") and local and self._endpoint.is_local)
        )
        if not allowed:
            raise TransportError(
                f"{redact_url(url)} is not fetched: media must be on a public https:// host",
                delivered="no",
                transient=False,
            )

    def _session(self, purpose: str) -> aiohttp.ClientSession:
        """One session a purpose.

        Submits never reuse a connection: a POST on one that the server is just closing fails
        without anybody knowing whether it was read, and that would leave a paid job uncertain.
        """
        if self._closed:
            raise TransportError("the transport is closed", delivered="no", transient=False)
        session = self._sessions.get(purpose)
        if session is None:
            session = self._sessions[purpose] = self._new_session(purpose)
        return session

    def _new_session(self, purpose: str) -> aiohttp.ClientSession:
        public = purpose == "media" and not self._endpoint.is_local
        connector = aiohttp.TCPConnector(
            limit=self._max_connections,
            force_close=purpose == "submit",
            ssl=self._ssl,
            socket_factory=_public_socket if public else None,
        )
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_sent)
        headers = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"}
        if purpose != "media":
            headers["Authorization"] = f"Bearer {self._endpoint.api_key}"
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
            timeout=self._timeout(purpose),
            auto_decompress=False,
            read_bufsize=_MEDIA_BUFFER if purpose == "media" else 1 << 16,
            trace_configs=[trace] if purpose == "submit" else [],
        )

    def _timeout(self, purpose: str) -> aiohttp.ClientTimeout:
        """A media answer may take as long as it delivers; the others have a time for the whole."""
        times = self._timeouts
        return aiohttp.ClientTimeout(
            total={"submit": times.submit, "query": times.request}.get(purpose),
            sock_connect=times.connect,
            sock_read=times.download_idle if purpose == "media" else None,
        )


class _Sending:
    """How far one request has come, so that a failure can be told apart by that.

    Submits are traced. Queries are not, which costs less: of them the kind of a failure tells
    enough, since nothing is lost where it is wrong.
    """

    __slots__ = ("_on_sent", "_secret", "broken", "pieces", "response", "sent", "traced")

    def __init__(self, on_sent: Callable[[], None] | None, secret: str, *, traced: bool) -> None:
        self._on_sent, self._secret = on_sent, secret
        self.traced, self.sent = traced, False
        self.response: aiohttp.ClientResponse | None = None
        self.pieces: list[bytes] = []
        self.broken: str | None = None

    def note_sent(self) -> None:
        self.sent = True
        if self._on_sent is not None:
            self._on_sent()

    def answer(self) -> WireResponse:
        """The answer; a server that echoes the key does not get it into our errors and logs."""
        assert self.response is not None
        secret = self._secret
        body = b"".join(self.pieces).replace(secret.encode(), _HIDDEN.encode())
        headers = {
            name.lower(): value.replace(secret, _HIDDEN)
            for name, value in self.response.headers.items()
        }
        return WireResponse(self.response.status, headers, body, self.broken)

    def explain(self, error: Exception) -> WireResponse:
        """What an exception of aiohttp means: a broken answer, or none."""
        if self.response is not None:
            self.broken = _told(error)
            return self.answer()
        sent = self.sent if self.traced else not isinstance(error, _NOT_SENT)
        raise TransportError(
            _told(error),
            delivered="maybe" if sent else "no",
            transient=_is_transient(error),
        ) from _without_secrets(error)


async def _note_sent(_: object, context: SimpleNamespace, __: object) -> None:
    sending = context.trace_request_ctx
    if isinstance(sending, _Sending):
        sending.note_sent()


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
        except _FAILURES as error:
            raise _media_error(self._url, error) from _without_secrets(error)


def _redirected(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return location  # no URL, and refused as such


class _LocalAddressError(OSError):
    """A public name that leads to an address which is not on the public internet."""


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for an address that a name was resolved to, unless that is not a public one.

    A check of the name alone is not enough: whoever owns it decides where it leads, and when.
    """
    family, kind, protocol, _, address = info
    if is_local_host(str(address[0])):
        raise _LocalAddressError(errno.EACCES, "the host's address is not a public one")
    return socket.socket(family, kind, protocol)


def _media_error(url: str, error: Exception) -> TransportError:
    return TransportError(
        f"{redact_url(url)}: {_told(error)}", delivered="maybe", transient=_is_transient(error)
    )


_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_HEADERS: Any = MappingProxyType({})
_JSON = {"Content-Type": "application/json"}
_FAILURES = (aiohttp.ClientError, TimeoutError, OSError, ValueError, zlib.error)
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)  # redirects being off
_PERMANENT = (
    aiohttp.ClientSSLError,  # a bad certificate, or TLS to a plain port
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    ValueError,
)


def _is_transient(error: Exception) -> bool:
    cause = getattr(error, "os_error", None)
    return not isinstance(error, _PERMANENT) and not isinstance(cause, _LocalAddressError)


def _told(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{name}: {error.status} {error.message}"  # its str() holds the request's headers
    text = str(error)
    return f"{name}: {text}" if text else name


def _without_secrets(error: Exception) -> Exception:
    """The same exception; aiohttp puts the request's headers and URL, key and all, into some."""
    if isinstance(error, aiohttp.ClientResponseError):
        asked = error.request_info
        place = asked.url.with_query(None)
        error.request_info = asked._replace(url=place, real_url=place, headers=_NO_HEADERS)
        error.args = (error.request_info, error.history)
    return error


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _inflater(encoding: str) -> Any:
    """A decompressor that can be bounded; none was asked for, but some proxies compress anyway."""
    if encoding not in ("gzip", "deflate"):
        raise ValueError(f"content encoding {encoding!r} was not asked for")
    return zlib.decompressobj(zlib.MAX_WBITS | 32)
