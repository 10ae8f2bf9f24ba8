"""The receiver of callbacks. A callback is only a hint: a status query verifies it.

Documented (API page "Image to Video", "Request Body"): `webhookUrl` is a "callback URL that
receives the final task result".

Not documented, so assumed here:

- The payload is taken to be the JSON of the status query (same page, "Query Result"). Only its
  `requestId` is read, and that is not believed either.
- No signature is expected. Instead, each job's URL ends in a secret nonce.
- A callback may be forged, repeated, late or missing, or arrive before the response to the submit.

So a callback can only make a status query come sooner, or propose the request id of an uncertain
submit, which is then queried. Polling goes on as if there were no callbacks. Nothing here sends a
request, runs a server or writes to the registry.
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
from seedance_async.webhooks.passing_on import PassingOn

if TYPE_CHECKING:
    from aiohttp.web import Request, StreamResponse

_log = logging.getLogger(__name__)
#: The number of ended jobs whose late callbacks are still answered with 200.
REMEMBERED = 10_000
_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WebhookReceiver:
    """Receives the server's callbacks in an application, for `SeedanceSession(webhooks=…)`.

    ```python
    receiver = WebhookReceiver("https://app.example/hooks/seedance")
    app.router.add_post("/hooks/seedance/{nonce}", receiver.aiohttp_handler)  # aiohttp
    app.mount("/hooks/seedance", receiver.asgi)                               # FastAPI, Starlette
    ```

    Every job has its own secret path below `base_url`. The receiver must run in the event loop of
    the session. One receiver can serve many sessions, one after another or at once.

    Args:
        base_url: the public https:// URL at which the application serves the receiver. A local or
            http:// URL works only with an API that is local too.
        max_body: the most bytes that a callback's body may have.

    Raises:
        ConfigurationError: `base_url` is not such a URL.
    """

    def __init__(self, base_url: str, *, max_body: int = 65536) -> None:
        self.base_url, self.max_body = base_url.rstrip("/"), max_body
        self._expected: dict[bytes, tuple[str, Callable[[str], None]]] = {}  # by digest
        self._ended: dict[bytes, None] = {}
        self._elsewhere: list[PassingOn] = []
        self.check(allow_local=True)

    def __repr__(self) -> str:
        return f"<WebhookReceiver {redact_url(self.base_url)}, {len(self._expected)} expected>"

    def check(self, *, allow_local: bool) -> None:
        """Check that the API can be given URLs of this receiver.

        Args:
            allow_local: whether the API is local, so that local and http:// URLs are allowed.

        Raises:
            ConfigurationError: the base URL breaks a rule.
        """
        rule = broken_url_rule(self.base_url, allow_local=allow_local)
        if "?" in self.base_url or "#" in self.base_url:
            rule = "must not have a query or a fragment"
        if rule is not None:
            raise ConfigurationError(f"the webhook URL {redact_url(self.base_url)} {rule}")

    def url_for(self, nonce: str) -> str:
        """The URL of the callback with this nonce."""
        return f"{self.base_url}/{nonce}"

    def expect(self, hint: Callable[[str], None], nonce: str | None = None) -> str:
        """Expect callbacks with a nonce, a new one if none is given; returns it.

        Args:
            hint: called with the request id of every callback that has the nonce.
            nonce: the one that an earlier process sent with the job.
        """
        nonce = secrets.token_urlsafe(24) if nonce is None else nonce
        self._ended.pop(_digest(nonce), None)
        self._expected[_digest(nonce)] = nonce, hint
        return nonce

    def has_ended(self, nonce: str) -> bool:
        """Whether the job with this nonce has ended here lately."""
        return _digest(nonce) in self._ended

    def forget(self, nonce: str, *, ended: bool = False) -> None:
        """Stop expecting callbacks with this nonce.

        Args:
            nonce: as `expect` returned it.
            ended: whether the job has ended. Then late callbacks are answered with 200 and ignored.
        """
        digest = _digest(nonce)
        if self._expected.pop(digest, None) is not None and ended:
            self._ended[digest] = None
            if len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def pass_on(self, passing_on: PassingOn) -> Callable[[], None]:
        """Pass on callbacks of jobs that are not here; returns what ends that."""
        self._elsewhere.append(passing_on)
        return lambda: self._elsewhere.remove(passing_on)

    def receive(self, path: str, body: bytes) -> int:
        """Process one callback.

        Args:
            path: the request's path; its last part is the nonce.
            body: the request's body.

        Returns:
            The HTTP status of the response: 200; 404 if no callback with this nonce is expected;
            413 if the body is too large; 400 if it is not a JSON object with a request id.
        """
        if len(body) > self.max_body:
            return 413
        nonce = path.rpartition("/")[2]
        digest = _digest(nonce)
        if digest in self._ended:
            return 200
        hint = self._hint(digest, nonce)
        if hint is None:
            return 404
        request_id = _request_id(body)
        if request_id is None:
            return 400
        hint(request_id)
        return 200

    def _hint(self, digest: bytes, nonce: str) -> Callable[[str], None] | None:
        """What a callback with this nonce is told to; None if it is not expected anywhere."""
        expected, hint = self._expected.get(digest, ("", None))
        if hint is not None and hmac.compare_digest(_bytes(expected), _bytes(nonce)):
            return hint
        hints = (each.hint(nonce) for each in self._elsewhere)
        return next((hint for hint in hints if hint is not None), None)

    async def aiohttp_handler(self, request: Request) -> StreamResponse:
        """A handler for `aiohttp.web`."""
        from aiohttp.web import RequestPayloadError, Response  # imported only if it is used

        try:
            body = await self._read(request.content.iter_any())
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
                body = await self._read(_asgi_body(receive))
            except ConnectionError:  # the client has gone
                return
            status = self.receive(scope["path"], body)
        start = {"type": "http.response.start", "status": status}
        await send({**start, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _read(self, pieces: AsyncIterator[bytes]) -> bytes:
        """Read a body, or as much of it as shows that it is too large."""
        body = bytearray()
        async for piece in pieces:
            body += piece[: self.max_body + 1 - len(body)]
            if len(body) > self.max_body:
                break
        return bytes(body)


def _request_id(body: bytes) -> str | None:
    """The request id in a callback, or None if there is none or a status query cannot have it."""
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


def _digest(nonce: str) -> bytes:
    """The key of a nonce: the time that looking it up takes reveals nothing about the nonce."""
    return hashlib.sha256(_bytes(nonce)).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
