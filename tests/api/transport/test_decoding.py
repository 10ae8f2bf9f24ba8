"""Unpacking answers: each encoding, each library, within bounds."""

import gzip
import importlib
import sys
import zlib

import brotli
import pytest

from seedance_async.api.protocol import WireResponse, decode_create
from seedance_async.api.transport.decoding import decoded
from tests.support.for_each import for_each

BODY = b'{"success": true, "requestId": "req_1", "status": "queued", "creditsCharged": 40}'
LIMIT = 1 << 20
ZEROS = b"\0" * (64 << 20)

zstd = importlib.import_module(
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
)


def raw_deflate(data):
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


PACK = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate ": raw_deflate,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


@for_each("encoding", PACK)
def test_what_a_proxy_packs_is_unpacked(encoding):
    assert decoded(PACK[encoding](BODY), encoding, LIMIT) == (BODY, None)


def test_several_encodings_are_undone_from_the_last_to_the_first():
    packed = gzip.compress(brotli.compress(BODY))
    assert decoded(packed, "br, identity, gzip", LIMIT) == (BODY, None)


@for_each("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_bounded(encoding):
    body, problem = decoded(PACK[encoding](ZEROS), encoding, LIMIT)
    assert len(body) == LIMIT + 1
    assert f"longer than {LIMIT} bytes" in problem


def test_a_frame_that_asks_for_a_huge_window_gets_none():
    options = {zstd.CompressionParameter.window_log: 27}
    stream = zstd.ZstdCompressor(options=options)
    packed = stream.compress(ZEROS) + stream.flush()
    assert "not zstd" in decoded(packed, "zstd", LIMIT)[1]


@for_each("encoding", ["gzip", "deflate", "br", "zstd"])
def test_a_stream_that_ends_early_says_so(encoding):
    body, problem = decoded(PACK[encoding](BODY)[:-3], encoding, LIMIT)
    assert BODY.startswith(body)
    assert "ends early" in problem


@for_each("encoding", ["gzip", "deflate", "br", "zstd", "utf-8", "br, snappy"])
def test_what_cannot_be_unpacked_is_kept_and_searched_for_its_id(encoding):
    """A header that is wrong must not cost a paid job."""
    body, problem = decoded(BODY, encoding, LIMIT)
    assert body == BODY
    assert problem
    assert decode_create(WireResponse(200, {}, body, problem)).request_id == "req_1"


def without(monkeypatch, *names):
    load = importlib.import_module

    def refused(name):
        if name in names:
            raise ImportError(name)
        return load(name)

    monkeypatch.setattr(importlib, "import_module", refused)


@pytest.mark.parametrize(
    ("encoding", "names", "advice"),
    [
        ("br", ["brotli", "brotlicffi"], "pip install 'brotli>=1.2'"),
        (
            "zstd",
            ["compression.zstd", "backports.zstd", "zstandard"],
            "pip install backports.zstd",
        ),
    ],
)
def test_without_a_library_it_says_which_to_install(monkeypatch, encoding, names, advice):
    without(monkeypatch, *names)
    packed = PACK[encoding](BODY)
    assert decoded(packed, encoding, LIMIT)[0] == packed
    assert advice in decoded(packed, encoding, LIMIT)[1]


def test_a_brotli_that_cannot_be_bounded_is_not_used(monkeypatch):
    class Old:
        def process(self, data):
            raise AssertionError("it must not be asked")

    without(monkeypatch, "brotlicffi")
    monkeypatch.setattr(brotli, "Decompressor", Old)
    assert "brotli>=1.2" in decoded(brotli.compress(BODY), "br", LIMIT)[1]


@pytest.mark.parametrize(
    ("encoding", "module", "others"),
    [
        ("br", "brotlicffi", ()),
        ("br", "brotli", ("brotlicffi",)),
        ("zstd", "backports.zstd", ()),
        ("zstd", "zstandard", ("compression.zstd", "backports.zstd")),
    ],
)
def test_each_of_the_libraries_does_it(monkeypatch, encoding, module, others):
    if module == "backports.zstd" and sys.version_info >= (3, 14):
        module = "compression.zstd"
    importlib.import_module(module)
    without(monkeypatch, *others)
    packed = PACK[encoding](BODY)
    assert decoded(packed, encoding, LIMIT) == (BODY, None)
    assert decoded(packed[:-3], encoding, LIMIT)[1]
    assert len(decoded(PACK[encoding](ZEROS), encoding, LIMIT)[0]) == LIMIT + 1
