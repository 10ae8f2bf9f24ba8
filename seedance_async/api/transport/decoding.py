"""Compressed answers, unpacked within bounds.

The SDK asks for none (`Accept-Encoding: identity`), but some proxies compress anyway, and the
answer to a submit must not be lost for that. gzip and deflate need nothing; br and zstd need a
library that can be told how much to unpack at most.
"""

from __future__ import annotations

import importlib
import io
import zlib
from collections.abc import Callable
from typing import Any

#: Unpacks a body into at most that many bytes; says in words what is wrong with it, or None.
Decoder = Callable[[bytes, int], tuple[bytes, str | None]]

_INSTALL = {"br": "pip install 'brotli>=1.2'", "zstd": "pip install backports.zstd"}
_ZSTD_WINDOW_LOG = 23  # 8 MiB, as much as RFC 9659 lets an HTTP answer ask for


def decoded(body: bytes, encoding: str, limit: int) -> tuple[bytes, str | None]:
    """A body without its content encodings, and what is wrong with it, or None.

    A body that cannot be unpacked is given back as it is: it may not be compressed at all, and a
    request id may be readable in it.

    Args:
        body: as it was received, whole or not.
        encoding: the value of Content-Encoding.
        limit: bytes, before and after unpacking.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in ("", "identity", "none"):
            continue
        try:
            decode = _decoder(name)
        except LookupError as error:
            return body, str(error)
        try:
            body, problem = decode(body, limit)
        except Exception as error:  # each library has classes of its own
            return body, f"it is not {name}, as its Content-Encoding says: {error}"
        if problem is not None:
            return body, problem
    return body, None


def _decoder(name: str) -> Decoder:
    """The decoder of a content encoding. Raises LookupError where there is none."""
    if name in ("gzip", "x-gzip", "deflate"):
        return _inflate
    find = {"br": _brotli, "zstd": _zstd}.get(name)
    decode = find() if find is not None else None
    if decode is None:
        advice = f": {_INSTALL[name]}" if name in _INSTALL else ""
        raise LookupError(f"its content encoding {name[:40]!r} cannot be read here{advice}")
    return decode


def _bounded(body: bytes, limit: int, *, whole: bool) -> tuple[bytes, str | None]:
    if len(body) > limit:
        return body, f"it is longer than {limit} bytes once unpacked"
    return body, None if whole else "its compressed stream ends early"


def _inflate(body: bytes, limit: int) -> tuple[bytes, str | None]:
    """gzip, and deflate with or without the header of zlib."""
    raw = bool(body) and body[:2] != b"\x1f\x8b" and body[0] & 0x0F != 8
    stream = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
    return _bounded(stream.decompress(body, limit + 1), limit, whole=stream.eof)


def _brotli() -> Decoder | None:
    """On brotlicffi, Brotli or brotli; older ones than 1.2 cannot be bounded."""
    library = _first("brotlicffi", "brotli")
    stream = library and library.Decompressor()
    unpack = getattr(stream, "decompress", None) or getattr(stream, "process", None)
    if unpack is None or not hasattr(stream, "can_accept_more_data"):
        return None

    def decode(body: bytes, limit: int) -> tuple[bytes, str | None]:
        pieces, room = [], limit + 1
        piece = unpack(body, output_buffer_limit=room)
        while piece and room > 0:
            pieces.append(piece[:room])  # it may give a little more than its limit
            room -= len(piece)
            piece = unpack(b"", output_buffer_limit=room) if room > 0 else b""
        return _bounded(b"".join(pieces), limit, whole=stream.is_finished())

    return decode


def _zstd() -> Decoder | None:
    """On Python's own module or its backport, else on zstandard."""
    library = _first("compression.zstd", "backports.zstd")
    if library is not None:
        options = {library.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}

        def decode(body: bytes, limit: int) -> tuple[bytes, str | None]:
            stream = library.ZstdDecompressor(options=options)
            return _bounded(stream.decompress(body, limit + 1), limit, whole=stream.eof)

        return decode
    zstandard = _first("zstandard")
    return None if zstandard is None else _of_zstandard(zstandard)


def _of_zstandard(library: Any) -> Decoder:
    def decode(body: bytes, limit: int) -> tuple[bytes, str | None]:
        unpacker = library.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
        unpacked = unpacker.stream_reader(io.BytesIO(body)).read(limit + 1)
        size = library.frame_content_size(body)
        return _bounded(unpacked, limit, whole=size in (-1, len(unpacked)))

    return decode


def _first(*names: str) -> Any:
    """The first of these modules that is installed, or None."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
