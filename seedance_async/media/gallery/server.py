"""Serves a gallery: the page, its changes as server-sent events, and the files that it shows.

No path of a request is ever looked up on the disk: a file is served only if the page refers to it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from seedance_async.media.gallery.live import LiveGallery

_EVENTS = "events"
#: Seconds of silence after which a line is sent, so that a page that has gone is noticed.
_HEARTBEAT = 15.0
#: No other site may show or embed what is served here, and nothing is taken for what it is not.
_OURS_ALONE = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NO_STORE = {"Cache-Control": "no-store", **_OURS_ALONE}


async def serve(
    gallery: LiveGallery, ready: Callable[[str], object], *, host: str = "127.0.0.1", port: int = 0
) -> None:
    """Serve a gallery until this is cancelled.

    Args:
        gallery: what to show.
        ready: called with the page's URL once it can be opened.
        host: the address to listen on. On a loopback address, requests for any other host are
            refused, so that no website can have them sent by a browser.
        port: 0 picks a free one.

    Raises:
        OSError: the address cannot be listened on.
    """
    await gallery.refresh()
    app = application(gallery, local=is_loopback(host))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        ready(_url(runner.addresses[0], host))
        await gallery.watch()
    finally:
        await runner.cleanup()


def application(gallery: LiveGallery, *, local: bool = True) -> web.Application:
    """The server's application.

    Args:
        gallery: what to show.
        local: refuse requests that name another host than this machine.
    """
    handlers = _Handlers(gallery)
    app = web.Application(middlewares=[_for_this_machine] if local else [])
    app.on_shutdown.append(handlers.end_streams)
    app.router.add_get("/", handlers.page)
    app.router.add_get(f"/{_EVENTS}", handlers.events)
    app.router.add_get("/files/{name}/{_}", handlers.file)
    return app


class _Handlers:
    def __init__(self, gallery: LiveGallery) -> None:
        self._gallery = gallery
        self._streams: set[asyncio.Task[object]] = set()

    async def page(self, _request: web.Request) -> web.Response:
        text = self._gallery.page(_EVENTS)
        body = text.encode("utf-8", "backslashreplace")
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=_NO_STORE)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """What the page does not know yet, and then each change, until the page is closed."""
        since = _number(request.query.get("since", ""))
        response = web.StreamResponse(headers={**_NO_STORE, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": connected\n\n")
        stream = asyncio.ensure_future(self._send_changes(response, since))
        self._streams.add(stream)
        try:
            await asyncio.wait([stream])
        finally:
            stream.cancel()
            self._streams.discard(stream)
        return response

    async def _send_changes(self, response: web.StreamResponse, since: int) -> None:
        with suppress(ConnectionError, asyncio.CancelledError):
            while True:
                if await self._is_news(since):
                    text = self._gallery.changes(since)
                    since = self._gallery.version
                    await response.write(f"data: {text}\n\n".encode("utf-8", "backslashreplace"))
                else:
                    await response.write(b": still here\n\n")

    async def end_streams(self, _app: web.Application) -> None:
        """Before the server closes, which would wait for them."""
        for stream in self._streams:
            stream.cancel()

    async def _is_news(self, since: int) -> bool:
        try:
            async with asyncio.timeout(_HEARTBEAT):
                await self._gallery.wait(since)
        except TimeoutError:
            return False
        return True

    async def file(self, request: web.Request) -> web.StreamResponse:
        path = self._gallery.file(request.match_info["name"])
        if path is None or not await asyncio.to_thread(path.is_file):
            raise web.HTTPNotFound(headers=_NO_STORE)
        return web.FileResponse(path, headers={"Cache-Control": "no-cache", **_OURS_ALONE})


@web.middleware
async def _for_this_machine(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    name, _, port = request.host.rpartition(":")
    host = name if port.isdigit() else request.host
    if not is_loopback(host.strip("[]")):
        raise web.HTTPForbidden(text="This page is for its own machine.")
    return await handler(request)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, as it calls itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _url(address: tuple[str, int], host: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{address[1]}/"
