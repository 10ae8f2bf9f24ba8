"""A network between a client and a server that can be cut, and that can lose an answer."""

import contextlib
import select
import socket
import struct
import threading


class TCPProxy:
    """Passes bytes between its port and another one of this machine, in a thread.

    Args:
        target: the server's port.
    """

    def __init__(self, target):
        self.target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._pairs = {}  # each end of a connection, and the other one
        self._servers, self._silent = set(), []
        self._mode, self._lost = "open", None
        self._lost_one, self._closing = threading.Event(), False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._closing = True
        self._set("closed")
        self._thread.join(10)

    def cut(self):
        """Reset all connections, and refuse new ones."""
        self._set("closed")

    def silence(self):
        """The present connections pass nothing any more, and say nothing; new ones do."""
        self._set("silencing")

    def heal(self):
        """Pass everything again."""
        self._set("open")

    def lose_answer(self, text):
        """Reset a connection rather than pass an answer with this text, once.

        Returns:
            An event, set when it was lost.
        """
        self._lost_one = threading.Event()
        self._lost = text
        return self._lost_one

    def _set(self, mode):
        self._mode = mode
        self._done.clear()
        self._wake.send(b"!")
        self._done.wait(10)

    def _run(self):
        while not self._closing:
            watched = [self._listening, self._woken]
            watched += self._pairs if self._mode == "open" else []
            for ready in select.select(watched, [], [])[0]:
                if ready is self._woken:
                    self._woken.recv(100)
                elif ready is self._listening:
                    self._accept()
                elif ready in self._pairs:
                    self._pass(ready)
            if self._mode == "closed":
                self._reset_all()
            elif self._mode == "silencing":
                self._silent += self._pairs
                self._pairs, self._mode = {}, "open"
            self._done.set()
        for each in (self._listening, self._wake, self._woken, *self._silent):
            each.close()

    def _accept(self):
        client, _ = self._listening.accept()
        if self._mode == "closed":
            return _reset(client)
        try:
            server = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            return _reset(client)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pairs |= {client: server, server: client}
        self._servers.add(server)
        return None

    def _pass(self, source):
        other = self._pairs[source]
        try:
            data = source.recv(65536)
            if source in self._servers and self._lost is not None and self._lost in data:
                self._lost = None
                self._drop(source)
                self._lost_one.set()
            elif data:
                other.sendall(data)
            else:
                self._drop(source)
        except OSError:
            self._drop(source)

    def _drop(self, end):
        other = self._pairs.pop(end)
        self._pairs.pop(other, None)
        self._servers -= {end, other}
        _reset(end)
        _reset(other)

    def _reset_all(self):
        while self._pairs:
            self._drop(next(iter(self._pairs)))


def _reset(connection):
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
