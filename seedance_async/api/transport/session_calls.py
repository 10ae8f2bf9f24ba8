"""API calls of one kind through an aiohttp `ClientSession`, by its documented interface alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Literal

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from seedance_async.api.errors import TransportError
from seedance_async.api.protocol import MAX_BODY, WireRequest, WireResponse
from seedance_async.api.transport.answers import answer
from seedance_async.api.transport.deadlines import Deadlines
from seedance_async.api.transport.failures import FAILURES, Secrets, describe, was_before_sending
from seedance_async.api.transport.proxies import check_netrc

_NO_TYPE = ("Content-Type",)  # which aiohttp gives every POST; it costs each request that has it
_TURNS = 10  # of the loop; a call that is ended needs about five to be over

#: How a session for API calls differs from others.
SETTINGS: dict[str, Any] = {
    "auto_decompress": False,  # bounded, in `answers`
    "raise_for_status": False,
}


def sent_trace() -> aiohttp.TraceConfig:
    """Says of each call when its first byte may be on its way. Each needs a `Call` as its context.

    This is the proof of what may have been delivered: until it says so, the server saw nothing.
    """
    config = aiohttp.TraceConfig()
    config.on_request_start.append(_started)
    config.on_request_headers_sent.append(_headers_sent)
    return config


async def _started(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.traced = True


async def _headers_sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.note_sent()


class SessionCalls:
    """Calls to the API's origin.

    With a trace, the time for an answer begins when its request is sent, and what was not sent is
    known for sure. Without one, a call counts as sent from the start, unless the class of its
    failure proves that it was not; an answer may take `seconds` to begin, and as long to end. The
    time to begin counts from the start of the call; in a session that is not owned, where others
    may have all connections, from the sending.

    Args:
        http: what they are sent through. It is given `SETTINGS` with each call.
        traced: whether it has `sent_trace`.
        owned: whether it is closed with this.
        base_url: the origin, and a path that precedes all others.
        headers: sent with every request, besides those that the session sends.
        arguments: given to aiohttp with every request.
        secrets: what no answer and no error shows.
        seconds: from sending a request to the end of its answer.
        connect_seconds: for DNS, TCP and TLS of one connection, and for a free one.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        traced: bool,
        owned: bool,
        base_url: str,
        headers: Mapping[str, str],
        arguments: Mapping[str, Any],
        secrets: Secrets,
        seconds: float,
        connect_seconds: float,
    ) -> None:
        if http.trust_env:
            check_netrc(URL(base_url).host or "")
        self._http, self._traced, self._owned = http, traced, owned
        self._url, self._secrets = URL(base_url, encoded=True), secrets
        self._path = self._url.raw_path.rstrip("/")
        self._headers = CIMultiDict(headers) if headers else None
        self._headers_of_body = CIMultiDict({**headers, "Content-Type": "application/json"})
        self._arguments: dict[str, Any] = {
            **({} if owned else SETTINGS),
            **arguments,
            "allow_redirects": False,
            "timeout": aiohttp.ClientTimeout(  # a timer of aiohttp for each read costs too much
                total=None, connect=connect_seconds, sock_read=None if owned else seconds
            ),
        }
        self._answering = Deadlines(seconds)
        self._beginning = Deadlines(seconds if owned else connect_seconds + seconds)
        self._calls: set[Call] = set()
        self._loop = asyncio.get_running_loop()

    async def send(
        self, request: WireRequest, on_sent: Callable[[], None] | None = None
    ) -> WireResponse:
        """One request, and its answer as far as it came. aiohttp may repeat a GET, never a POST.

        Raises:
            TransportError: there is no status line.
            ValueError: the request cannot be sent as it is.
        """
        if self._http.closed:
            raise TransportError("the ClientSession is closed", delivered="no", transient=False)
        task = asyncio.current_task(self._loop)
        assert task is not None
        call = Call(task, on_sent, self._answering if self._traced else None)
        self._calls.add(call)
        problem: Exception | None = None
        try:
            await self._exchange(request, call)
        except asyncio.CancelledError:
            if call.ended is None or call.is_cancelled:
                raise
            problem = call.ended
        except Exception as error:
            if not call.sent and not isinstance(error, FAILURES):
                raise  # no failure of a request, but of the program
            problem = call.ended or error
        finally:
            self._over(call)
        return self._outcome(call, problem)

    async def aclose(self) -> None:
        """End all calls in progress, and close the session if it is owned."""
        for call in self._calls:
            call.end(aiohttp.ClientConnectionError("the transport was closed"))
        try:
            for _ in range(_TURNS):  # else aiohttp repeats a GET whose connection goes
                if self._calls:
                    await asyncio.sleep(0)
        finally:
            if self._owned:
                await self._http.close()

    async def _exchange(self, request: WireRequest, call: Call) -> None:
        if not self._traced:
            self._beginning.add(call)
            call.note_sent()
        bare = request.body is None
        response = await self._http.request(
            request.method,
            self._url.with_path(self._path + request.path, encoded=True),
            data=request.body,
            headers=self._headers if bare else self._headers_of_body,
            skip_auto_headers=_NO_TYPE if bare and request.method != "GET" else None,
            trace_request_ctx=call,
            **self._arguments,
        )
        if self._traced:
            call.note_sent()  # a session that is mocked has no traces
        elif not response.content.is_eof():
            self._beginning.discard(call)
            self._answering.add(call)
        await call.read(response)

    def _over(self, call: Call) -> None:
        self._calls.discard(call)
        self._answering.discard(call)
        self._beginning.discard(call)
        call.over()

    def _outcome(self, call: Call, problem: Exception | None) -> WireResponse:
        """The answer, whole or broken; or the error where there is none."""
        response, call.response = call.response, None  # whose trace leads back to the call
        if response is None:
            assert problem is not None
            raise self._secrets.failure(problem, _delivered(call, problem))
        broken = None if problem is None else self._secrets.hide(describe(problem))
        return answer(response.status, response.headers, call.body, broken, self._secrets)


def _delivered(call: Call, error: Exception) -> Literal["no", "maybe"]:
    """Whether the server can have seen the request: by the trace, else by the failure."""
    unsent = not call.sent if call.traced else was_before_sending(error)
    return "no" if unsent else "maybe"


class Call:
    """A call in progress.

    Args:
        task: what makes the call.
        on_sent: called once, before its first byte can be on its way.
        answering: where the time for its answer is kept from then on, if it is told when that is.
    """

    __slots__ = ("_answering", "_cancelled", "_cancelling", "_interrupting", "_on_sent", "_over",
                 "_pieces", "_task", "ended", "response", "sent", "traced")  # fmt: skip

    def __init__(
        self,
        task: asyncio.Task[Any],
        on_sent: Callable[[], None] | None,
        answering: Deadlines | None,
    ) -> None:
        self._on_sent, self._answering = on_sent, answering
        self._pieces: list[bytes] = []
        self._over = self._interrupting = self._cancelled = False
        self._task, self._cancelling = task, task.cancelling()  # by others; `end` cancels it too
        self.traced = self.sent = False
        self.response: aiohttp.ClientResponse | None = None
        self.ended: Exception | None = None

    def __deepcopy__(self, _: object) -> Call:
        """It itself: aioresponses copies whatever a request was given."""
        return self

    @property
    def body(self) -> bytes:
        """What has come of the answer's body."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def note_sent(self) -> None:
        """Its first byte is about to go; it does not if `on_sent` raises."""
        if self.sent:
            return
        if self._on_sent is not None:
            self._on_sent()
        self.sent = True
        if self._answering is not None:
            self._answering.add(self)

    def end(self, error: Exception) -> None:
        """It ends for this reason, unless all of its answer is in the socket already.

        A loop that was blocked finds answers and the end of their time at once: the answers are
        taken first.
        """
        self.ended = self.ended or error
        if not self._interrupting:
            self._interrupting = True
            loop = asyncio.get_running_loop()  # a turn for what it reads, one for who waits for it
            loop.call_later(0, loop.call_soon, self._cancel)

    def _cancel(self) -> None:
        if not self._over:
            self._cancelled = True
            self._task.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody else cancelled the task since the call began."""
        return self._task.cancelling() > self._cancelling + self._cancelled

    def over(self) -> None:
        """It has its outcome; nothing that happens from now on concerns it."""
        self._over = True
        if self._cancelled:
            self._task.uncancel()

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Take the body, up to one byte more than is allowed."""
        self.response = response
        content, room = response.content, MAX_BODY + 1
        try:
            while room > 0 and not content.at_eof():
                piece = (await content.readany())[:room]
                self._pieces.append(piece)
                room -= len(piece)
        except asyncio.CancelledError:
            with suppress(Exception):  # what came in the same turn of the loop
                self._pieces.append(content.read_nowait()[:room])
            raise
        finally:
            if not response.closed:  # where it was read to its end, the connection is free already
                response.close()
