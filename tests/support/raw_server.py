"""A server on a raw socket, for answers that no HTTP library would give."""

import asyncio
import contextlib
import socket
import struct


class RawServer:
    """Answers each connection by a coroutine function of the test; keeps what it received."""

    def __init__(self, behave, ssl=None):
        self._behave, self._ssl = behave, ssl
        self.connections = 0
        self.received = []
        self._open = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._ssl)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._ssl else ''}://127.0.0.1:{self.port}"
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
        self.connections += 1
        connection = Connection(reader, writer, self)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                await self._behave(connection)
            finally:
                writer.close()
            await writer.wait_closed()


class Connection:
    """One connection as the test's behaviour sees it."""

    def __init__(self, reader, writer, server):
        self.reader, self.writer, self._server = reader, writer, server
        self.number = server.connections

    async def read_request(self):
        """A whole request: the head and, by its Content-Length, the body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.decode("latin-1").split("\r\n"):
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
        request = head + await self.reader.readexactly(length)
        self._server.received.append(request)
        return request

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status, body=b"", *headers, length=None):
        """A whole HTTP answer; `length` tells another Content-Length than the true one."""
        told = f"Content-Length: {len(body) if length is None else length}"
        head = "\r\n".join([f"HTTP/1.1 {status}", told, *headers])
        await self.send(head.encode() + b"\r\n\r\n" + body)

    def reset(self):
        """End the connection by a RST instead of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self):
        """Do nothing until the client leaves or the server stops."""
        await self.reader.read()
        await asyncio.Event().wait()
