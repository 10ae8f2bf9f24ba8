"""A server for the benchmark `store`: videos to fetch, and a bucket that keeps only their hashes.

    python -m benchmarks.store_server --megabytes 20

It prints its port and ends at SIGTERM. It speaks as much of S3 as obstore needs to put objects, at
once or in parts: what is put is checked by the SHA-256 in its request's signature and gets its MD5
as its ETag, as with S3, and is then dropped: no disk hides what the client costs.
`GET /video/N.mp4` answers with random bytes in the boxes of an MP4, whole or from where a Range
begins.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import re
import signal
import struct
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-", re.IGNORECASE)
_SHA256 = re.compile(rb"\r\nx-amz-content-sha256: *([0-9a-f]{64})", re.IGNORECASE)
_COPY = 1 << 18


class Bucket:
    """The ETag and the size of each object, and those of the parts of each upload."""

    def __init__(self) -> None:
        self.objects: dict[bytes, tuple[str, int]] = {}
        self.uploads: dict[bytes, dict[int, tuple[bytes, int]]] = {}

    def put(self, target: bytes, size: int, digest: Any) -> str:
        """An object, or a part of one; its ETag."""
        path, _, query = target.partition(b"?")
        part = re.search(rb"partNumber=(\d+)&uploadId=(\w+)", query)
        if part is None:
            self.objects[path] = digest.hexdigest(), size
        else:
            self.uploads[part[2]][int(part[1])] = digest.digest(), size
        return str(digest.hexdigest())

    def post(self, target: bytes) -> bytes:
        """Begin or complete an upload."""
        path, _, query = target.partition(b"?")
        if query.startswith(b"uploads"):
            upload = b"%d" % len(self.uploads)
            self.uploads[upload] = {}
            return (
                b"<InitiateMultipartUploadResult><UploadId>%s</UploadId>"
                b"</InitiateMultipartUploadResult>" % upload
            )
        parts = self.uploads[query.partition(b"uploadId=")[2]]
        joined = b"".join(digest for _, (digest, _) in sorted(parts.items()))
        etag = f"{hashlib.md5(joined).hexdigest()}-{len(parts)}"
        self.objects[path] = etag, sum(size for _, size in parts.values())
        return (
            b'<CompleteMultipartUploadResult><ETag>"%s"</ETag></CompleteMultipartUploadResult>'
            % etag.encode()
        )


class Connection(asyncio.BufferedProtocol):
    """One connection: requests one after another."""

    def __init__(self, bucket: Bucket, video: bytes) -> None:
        self._bucket, self._video = bucket, memoryview(video)
        self._buffer, self._waiting = bytearray(_COPY), bytearray()
        self._transport: Any = None
        self._target, self._method = b"", b""
        self._left, self._size, self._digest = 0, 0, hashlib.md5()
        self._sha256, self._wanted = hashlib.sha256(), ""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left:
            taken = min(nbytes, self._left)
            self._body(memoryview(self._buffer)[:taken])
            self._waiting += self._buffer[taken:nbytes]
        else:
            self._waiting += self._buffer[:nbytes]
        while not self._left and (end := self._waiting.find(b"\r\n\r\n")) >= 0:
            head, rest = bytes(self._waiting[: end + 2]), self._waiting[end + 4 :]
            self._begin(head)
            self._waiting = rest[self._left :]
            if self._left:
                self._body(memoryview(rest)[: self._left])

    def _begin(self, head: bytes) -> None:
        self._method, self._target, _ = head.split(b" ", 2)
        length = _LENGTH.search(head)
        self._left = self._size = int(length[1]) if length else 0
        self._digest, self._sha256 = hashlib.md5(), hashlib.sha256()
        signed = _SHA256.search(head)
        self._wanted = signed[1].decode() if signed else ""
        if b"\r\nexpect: 100-continue" in head.lower():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._method == b"GET":
            self._send_video(head)
        elif not self._left:
            self._answer()

    def _body(self, data: memoryview) -> None:
        self._digest.update(data)
        self._sha256.update(data)
        self._left -= len(data)
        if not self._left:
            self._answer()

    def _answer(self) -> None:
        if self._method == b"PUT" and self._wanted not in ("", self._sha256.hexdigest()):
            self._reply(400, b"<Error><Code>XAmzContentSHA256Mismatch</Code></Error>")
        elif self._method == b"PUT":
            etag = self._bucket.put(self._target, self._size, self._digest)
            self._reply(200, b"", f'ETag: "{etag}"\r\n')
        elif self._method == b"POST":
            self._reply(200, self._bucket.post(self._target))
        elif self._method == b"HEAD":
            found = self._bucket.objects.get(self._target)
            if found is None:
                self._reply(404, b"")
            else:
                self._reply(200, b"", f'ETag: "{found[0]}"\r\n', length=found[1])
        else:
            self._reply(204, b"")

    def _send_video(self, head: bytes) -> None:
        wanted, total = _RANGE.search(head), len(self._video)
        start = int(wanted[1]) if wanted else 0
        named = f'Content-Type: video/mp4\r\nETag: "{self._target.decode()}"\r\n'
        if wanted:
            named += f"Content-Range: bytes {start}-{total - 1}/{total}\r\n"
        self._reply(206 if wanted else 200, b"", named, length=total - start)
        self._transport.write(self._video[start:])

    def _reply(self, status: int, body: bytes, named: str = "", length: int | None = None) -> None:
        size = len(body) if length is None else length
        date = "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        head = f"HTTP/1.1 {status} OK\r\nContent-Length: {size}\r\n{date}{named}\r\n"
        self._transport.write(head.encode() + body)


def video(megabytes: int) -> bytes:
    """Random bytes in the boxes of an MP4."""
    boxes = [_box(b"ftyp", b"isom" * 4), _box(b"moov", os.urandom(20_000))]
    size = megabytes * 1_000_000 - sum(map(len, boxes)) - 8
    return b"".join([*boxes, _box(b"mdat", os.urandom(size))])


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


async def serve(megabytes: int) -> None:
    """Serve until SIGTERM."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    bucket, content = Bucket(), video(megabytes)
    server = await loop.create_server(lambda: Connection(bucket, content), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    print(hashlib.sha256(content).hexdigest(), flush=True)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=20)
    asyncio.run(serve(parser.parse_args().megabytes))
