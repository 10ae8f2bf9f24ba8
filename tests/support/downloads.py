"""A scripted transport for downloads, and the video that it serves."""

import contextlib
import hashlib
import random
import struct

import pytest

from seedance_async import DownloadError, Generation, GenerationStatus, Timeouts, TransportError
from seedance_async.api.long_waits import Waits
from seedance_async.api.transport import MediaResponse
from seedance_async.jobs.downloads.downloader import Downloader
from tests.conftest import QUICK_RETRY, SEED


def box(kind, payload=b""):
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


VIDEO = box(b"ftyp", b"isom" * 4) + box(b"moov", b"m" * 500) + box(b"mdat", bytes(range(256)) * 40)
SIZE = len(VIDEO)
URL = "https://media.example/v.mp4?signature=secret"
REFRESHED = "https://media.example/fresh.mp4"
BROKEN = TransportError("the connection broke", delivered="maybe")


def succeeded(url=URL, request_id="req_1"):
    return Generation(request_id, GenerationStatus.SUCCEEDED, output_url=url)


class Media:
    """A transport whose responses are scripted: each script gets the request's headers."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests = []

    @contextlib.asynccontextmanager
    async def open_media(self, url, headers):
        self.requests.append((url, dict(headers)))
        status, answered, chunks = self.scripts.pop(0)(headers)
        if isinstance(status, Exception):
            raise status
        yield MediaResponse(status, answered, self._pieces(chunks))

    async def _pieces(self, chunks):
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def whole(data=VIDEO, **changed):
    """A 200 with all of the data; header names are given with underscores."""
    headers = {"content-length": str(len(data)), "etag": '"one"', "content-type": "video/mp4"}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    return lambda _: (200, headers, [data[:1000], data[1000:]])


def cut(at, *, length=SIZE, error=BROKEN, etag='"one"'):
    headers = {"content-length": str(length)} if length else {}
    headers |= {"etag": etag} if etag else {}
    return lambda _: (200, headers, [VIDEO[:at], *([error] if error else [])])


def rest(*, total=SIZE, shift=0, cut_at=None, error=None):
    """A 206 with what was requested."""

    def answer(headers):
        start = int(headers["Range"].removeprefix("bytes=").removesuffix("-")) + shift
        answered = {"content-range": f"bytes {start}-{len(VIDEO) - 1}/{total}", "etag": '"one"'}
        return 206, answered, [VIDEO[start:cut_at], *([error] if error else [])]

    return answer


def status(code):
    return lambda _: (code, {}, [])


def fails(error):
    return lambda _: (error, {}, [])


def downloader(media, refresh=None, **options):
    async def no_refresh(_):
        raise AssertionError("no refresh was expected")

    options.setdefault("timeouts", Timeouts())
    options.setdefault("waits", Waits("api.example.com"))
    return Downloader(
        media,
        refresh or no_refresh,
        limit=options.pop("limit", 2),
        retry=QUICK_RETRY,
        rng=random.Random(SEED),
        **options,
    )


def refreshing(*urls):
    left = list(urls)

    async def refresh(_):
        return succeeded(left.pop(0))

    return refresh


async def save(tmp_path, *scripts, refresh=None, name="v.mp4", generation=None, **options):
    media = Media(*scripts)
    target = tmp_path / name
    saved = await downloader(media, refresh, **options).save(generation or succeeded(), target)
    assert (saved.path, saved.size) == (target, SIZE)
    assert saved.sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert target.read_bytes() == VIDEO
    assert [path.name for path in tmp_path.iterdir()] == [name], "no temporary file is left"
    return media


async def refused(tmp_path, *scripts, refresh=None, **options):
    media = Media(*scripts)
    with pytest.raises(DownloadError) as caught:
        await downloader(media, refresh, **options).save(succeeded(), tmp_path / "v.mp4")
    assert list(tmp_path.iterdir()) == [], "neither a video nor a temporary file is left"
    assert (caught.value.request_id, caught.value.path) == ("req_1", tmp_path / "v.mp4")
    assert "secret" not in str(caught.value)
    return caught.value
