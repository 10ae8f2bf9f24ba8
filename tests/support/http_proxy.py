"""A small real HTTP proxy: CONNECT for https:// and absolute URLs for http://."""

import asyncio
import base64
import contextlib


class HTTPProxy:
    """Forwards everything to one place, whatever host is asked for; keeps what it was asked.

    Args:
        target: the host and the port that it forwards to, as names of no DNS are asked for.
        password: "user:password", which it then asks for.
        refuse: the status line that it answers everything with.
    """

    def __init__(self, target, password=None, refuse=None):
        self._target, self._refuse = target, refuse
        self._token = password and base64.b64encode(password.encode()).decode()
        self.requests = []  # heads, as they arrived
        self._open = set()

    @property
    def lines(self):
        """The request lines, without the version."""
        return [head.split(b" HTTP/")[0].decode() for head in self.requests]

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader, writer):
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                await self._forward(reader, writer)
            finally:
                writer.close()
            await writer.wait_closed()

    async def _forward(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        refusal = self._refuse
        if self._token and f"Proxy-Authorization: Basic {self._token}".encode() not in head:
            refusal = "407 Proxy Authentication Required"
        if refusal:
            writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await relay(reader, writer, self._target)
        else:
            await relay(reader, writer, self._target, _one_request(head))


def _one_request(head):
    """The head for the server itself, on a connection that serves no other request."""
    first, *lines = head.split(b"\r\n")
    method, url, version = first.split(b" ")
    path = b"/" + url.split(b"/", 3)[3]
    kept = [line for line in lines if not line.lower().startswith((b"proxy-", b"connection:"))]
    kept[:0] = [b"Connection: close"]
    return b"\r\n".join([b" ".join([method, path, version]), *kept])


async def relay(reader, writer, target, first=b""):
    """Connect two ends until one of them is closed."""
    there, onward = await asyncio.open_connection(*target)
    onward.write(first)
    ways = [asyncio.ensure_future(_copy(*way)) for way in ((reader, onward), (there, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        onward.close()
        writer.close()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
