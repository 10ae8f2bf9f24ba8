"""Webhooks: callbacks of the server as hints, each verified by a query before anything changes.

The payload and its signature are not documented, so nothing of a callback is believed. What it may
do is make a status query come sooner, and tell the id that an uncertain submit has lost: which is
then looked up. Polling always runs beside it. Nothing here sends anything by itself, serves HTTP,
or writes to the registry.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from seedance_async._utils.urls import broken_url_rule, redact_url
from seedance_async.api.errors import ConfigurationError
from seedance_async.api.protocol import build_get

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse

_log = logging.getLogger(__name__)
#: Jobs that have ended and whose late callbacks are still answered by 200.
REMEMBERED = 10_000
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WebhookReceiver:
    """Where an application takes the server's callbacks, for `SeedanceSession(webhooks=…)`.

    ```python
    receiver = WebhookReceiver("https://app.example/hooks/seedance")
    app.router.add_post("/hooks/seedance/{nonce}", receiver.aiohttp_handler)  # aiohttp
    app.mount("/hooks/seedance", receiver.asgi)                               # FastAPI, Starlette
    ```

    Every job has a secret path of its own below `base_url`. A callback must be taken in the event
    loop of the session. One receiver may serve many sessions, one after another or at once.

    Args:
        base_url: the public https:// address under which the application serves the receiver;
            http:// and a local one only with an API that is local too.
        max_body: bytes of a callback that are read; a longer one is refused.

    Raises:
        ConfigurationError: no such address.
    """

    def __init__(self, base_url: str, *, max_body: int = 65536) -> None:
        self.base_url, self.max_body = base_url.rstrip("/"), max_body
        self._expected: dict[bytes, tuple[str, Callable[[str], None]]] = {}
        self._ended: dict[bytes, None] = {}
        self.check(allow_local=True)

    def __repr__(self) -> str:
        return f"<WebhookReceiver {redact_url(self.base_url)}, {len(self._expected)} expected>"

    def check(self, *, allow_local: bool) -> None:
        """Whether the server may be given addresses of this receiver.

        Raises:
            ConfigurationError: it may not.
        """
        rule = broken_url_rule(self.base_url, allow_local=allow_local)
        if "?" in self.base_url or "#" in self.base_url:
            rule = "must not have a query or a fragment"
        if rule is not None:
            raise ConfigurationError(f"the webhook URL {redact_url(self.base_url)} {rule}")

    def url_for(self, nonce: str) -> str:
        """The address at which the callback with this nonce is taken."""
        return f"{self.base_url}/{nonce}"

    def expect(self, hint: Callable[[str], None]) -> str:
        """A new nonce; `hint` is given the request id of every callback that comes with it."""
        nonce = secrets.token_urlsafe(24)
        self._expected[_digest(nonce)] = nonce, hint
        return nonce

    def forget(self, nonce: str, *, ended: bool = False) -> None:
        """Expect no more callbacks with this nonce.

        Args:
            nonce: as `expect` returned it.
            ended: the job has ended: callbacks that come late are taken, and do nothing.
        """
        digest = _digest(nonce)
        if self._expected.pop(digest, None) is not None and ended:
            self._ended[digest] = None
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def receive(self, path: str, body: bytes) -> int:
        """Take one callback.

        Args:
            path: of the request; its last part is the nonce.
            body: of the request, as it came.

        Returns:
            The HTTP status to answer: 200; 404 where nobody expects it; 413 where it is too large;
            400 where it is no JSON object with a request id.
        """
        if len(body) > self.max_body:
            return 413
        nonce = path.rpartition("/")[2]
        digest = _digest(nonce)
        if digest in self._ended:
            return 200
        known, hint = self._expected.get(digest, ("", _nobody))
        if not hmac.compare_digest(_bytes(known), _bytes(nonce)) or not known:
            return 404
        request_id = _told_id(body)
        if request_id is None:
            return 400
        hint(request_id)
        return 200

    async def aiohttp_handler(self, request: Request) -> StreamResponse:
        """A handler for `aiohttp.web`."""
        from aiohttp.web import RequestPayloadError, Response  # a server's part: only if needed

        try:
            body = await self._bounded(request.content.iter_any())
        except RequestPayloadError:
            return Response(status=400)
        return Response(status=self.receive(request.path, body))

    async def asgi(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """An ASGI application, by itself or mounted in another."""
        if scope["type"] != "http":
            return
        status = 405
        if scope["method"] == "POST":
            try:
                body = await self._bounded(_asgi_body(receive))
            except ConnectionError:  # there is nobody left to answer
                return
            status = self.receive(scope["path"], body)
        start = {"type": "http.response.start", "status": status}
        await send({**start, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _bounded(self, pieces: AsyncIterator[bytes]) -> bytes:
        """A body, or as much of it as shows that it is too large."""
        body = bytearray()
        async for piece in pieces:
            body += piece[: self.max_body + 1 - len(body)]
            if len(body) > self.max_body:
                break
        return bytes(body)


def _told_id(body: bytes) -> str | None:
    """The request id in a callback, if there is one and it can be one."""
    try:
        request_id = json.loads(body)["requestId"]
        build_get(request_id)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return request_id if isinstance(request_id, str) else None


async def _asgi_body(receive: _Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def _nobody(_: str) -> None:
    """What a callback that nobody expects does."""


def _digest(nonce: str) -> bytes:
    """What a nonce is looked up by: how long that takes tells nothing of the nonce itself."""
    return hashlib.sha256(_bytes(nonce)).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
