"""Media: real clips that differ and move, range requests, and the faults of both."""

import asyncio
import io
import threading
import wave
from pathlib import Path
from typing import Any

import aiohttp
import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seedance_async.emulator import Fault
from seedance_async.emulator.media import Media, mode
from seedance_async.emulator.media_routes import Unsatisfiable, parse_range
from seedance_async.emulator.render import Picture, RenderingStoppedError, render

from .conftest import Api, Reply, Start


def decode(content: bytes) -> tuple[Any, list[Image.Image]]:
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        facts = {
            "codec": stream.codec_context.name,
            "size": (stream.width, stream.height),
            "format": stream.codec_context.pix_fmt,
            "fps": float(stream.average_rate),
            "seconds": container.duration / 1e6,
        }
        return facts, [frame.to_image() for frame in container.decode(video=0)]


def boxes(content: bytes) -> list[str]:
    found, at = [], 0
    while at < len(content):
        found.append(content[at + 4 : at + 8].decode())
        at += int.from_bytes(content[at : at + 4], "big")
    assert at == len(content)
    return found


@pytest.mark.parametrize(
    ("resolution", "ratio", "size"),
    [
        ("480p", "16:9", (854, 480)),
        ("480p", "9:16", (480, 854)),
        ("480p", "1:1", (480, 480)),
        ("720p", "16:9", (1280, 720)),
        ("720p", "9:16", (720, 1280)),
        ("1080p", "1:1", (1080, 1080)),
    ],
)
def test_a_clip_is_h264_of_the_right_size_length_and_rate(
    tmp_path: Path, resolution: str, ratio: str, size: tuple[int, int]
) -> None:
    path = tmp_path / "clip"
    picture = Picture("A river in autumn " * 9, "req_1 · first frame", resolution, ratio, 1)
    render(picture, path)
    facts, frames = decode(path.read_bytes())
    assert facts == {
        "codec": "h264",
        "size": size,
        "format": "yuv420p",
        "fps": 24.0,
        "seconds": 1.0,
    }
    assert len(frames) == 24
    assert len({frame.tobytes() for frame in frames}) == 24
    assert boxes(path.read_bytes())[:2] == ["ftyp", "moov"]


def test_any_prompt_can_be_drawn(tmp_path: Path) -> None:
    for prompt in ("", "数字 🎬 \x00\n\t", "x" * 5000, "مرحبا"):
        render(Picture(prompt, prompt, "480p", "1:1", 1), tmp_path / "clip")
        assert decode((tmp_path / "clip").read_bytes())[0]["seconds"] == 1.0, prompt[:20]


async def test_every_job_has_a_rendered_output_of_its_own(start: Start) -> None:
    api: Api = await start(media="rendered")
    contents = []
    for prompt in ("A river in autumn", "A city at night"):
        url = await api.output_url(prompt=prompt, duration=4, resolution="480p")
        reply = await api.call("GET", url, headers={})
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "video/mp4"
        assert int(reply.headers["Content-Length"]) == len(reply.body)
        contents.append(reply.body)
        assert (await api.call("GET", url)).body == reply.body
    facts, frames = decode(contents[0])
    assert facts["seconds"] == 4.0
    assert facts["size"] == (854, 480)
    assert frames[0].tobytes() != frames[50].tobytes()
    other = decode(contents[1])[1]
    assert frames[0].getpixel((2, 2)) != other[0].getpixel((2, 2))


async def test_jobs_of_the_same_length_and_format_share_a_clip(start: Start) -> None:
    api: Api = await start(media="shared")
    urls = [await api.output_url(prompt=f"Clip {n}", duration=4) for n in range(3)]
    urls.append(await api.output_url(duration=5))
    replies = [await api.call("GET", url) for url in urls]
    etags = [reply.headers["ETag"] for reply in replies]
    assert len(set(etags)) == 2
    assert decode(replies[0].body)[0]["seconds"] == 4.0


async def test_simultaneous_requests_wait_for_one_rendering(start: Start) -> None:
    api: Api = await start(media="rendered")
    url = await api.output_url(duration=4, resolution="480p")
    replies = await asyncio.gather(*[api.call("GET", url) for _ in range(5)])
    assert len({reply.body for reply in replies}) == 1


def test_the_mode_depends_on_the_number_and_type_of_the_media() -> None:
    def of(*names: str) -> str:
        return mode({"mediaUrls": [f"https://example.com/{name}" for name in names]})

    assert mode({}) == "text to video"
    assert of("a.jpg?x=1") == "first frame"
    assert of("a.PNG", "b.webp") == "first and last frame"
    assert of("a.jpg", "b.mp3") == "multimodal reference"
    assert of("a.mp4") == "multimodal reference"
    assert of("a.jpg", "b.jpg", "c.jpg") == "multimodal reference"


# -- ranges and validators -----------------------------------------------------------------


async def ask(api: Api, url: str, method: str = "GET", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.call(method, url, headers=named)


async def test_a_range_is_a_206_and_the_parts_add_up_to_the_file(api: Api) -> None:
    url = await api.output_url(duration=4)
    whole = await ask(api, url)
    assert whole.headers["Accept-Ranges"] == "bytes"
    size = len(whole.body)
    first = await ask(api, url, Range="bytes=0-999")
    assert first.status == 206
    assert first.headers["Content-Range"] == f"bytes 0-999/{size}"
    assert first.headers["Content-Length"] == "1000"
    rest = await ask(api, url, Range="bytes=1000-", If_Range=first.headers["ETag"])
    assert rest.status == 206
    assert first.body + rest.body == whole.body
    last = await ask(api, url, Range="bytes=-10")
    assert last.headers["Content-Range"] == f"bytes {size - 10}-{size - 1}/{size}"
    assert last.body == whole.body[-10:]


async def test_a_range_beyond_the_end_is_a_416(api: Api) -> None:
    url = await api.output_url(duration=4)
    size = len((await ask(api, url)).body)
    reply = await ask(api, url, Range=f"bytes={size}-")
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{size}"


async def test_another_etag_in_if_range_gives_the_whole_file(api: Api) -> None:
    url = await api.output_url(duration=4)
    reply = await ask(api, url, Range="bytes=10-", If_Range='"another"')
    assert reply.status == 200
    assert "Content-Range" not in reply.headers


async def test_an_unsupported_range_is_ignored(api: Api) -> None:
    url = await api.output_url(duration=4)
    for value in ("bytes=1-2,5-6", "bytes=5-2", "lines=1-2", "bytes=-", "nonsense"):
        assert (await ask(api, url, Range=value)).status == 200, value


async def test_head_has_the_size_and_no_body(api: Api) -> None:
    url = await api.output_url(duration=4)
    whole, head = await ask(api, url), await ask(api, url, "HEAD")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type"):
        assert head.headers[name] == whole.headers[name]


@settings(deadline=None)
@given(
    header=st.none() | st.text() | st.from_regex(r"bytes=\d{0,4}-\d{0,4}"),
    size=st.integers(1, 5000),
)
def test_a_range_always_lies_within_the_file(header: str | None, size: int) -> None:
    try:
        found = parse_range(header, size)
    except Unsatisfiable:
        return
    if found is not None:
        assert 0 <= found[0] < found[1] <= size


@settings(deadline=None)
@given(start=st.integers(0, 999), length=st.integers(1, 2000))
def test_a_valid_range_is_the_one_requested(start: int, length: int) -> None:
    assert parse_range(f"bytes={start}-{start + length - 1}", 1000) == (
        start,
        min(1000, start + length),
    )


async def test_a_job_that_has_not_succeeded_has_no_file(api: Api) -> None:
    request_id = await api.accepted()
    path = f"/media/open-api-results/{request_id}.mp4"
    assert (await api.call("GET", path)).status == 404
    api.emulator.jobs.finish(request_id, "failed")
    assert (await api.call("GET", path)).status == 404
    assert (await api.call("GET", "/media/open-api-results/req_nobody.mp4")).status == 404


async def test_credentials_on_a_media_request_are_recorded(api: Api) -> None:
    url = await api.output_url(duration=4)
    await ask(api, url)
    await ask(api, url, Authorization="Bearer leaked", Range="bytes=0-1")
    clean, leaking = api.emulator.media_requests
    assert not clean.carried_credentials
    assert leaking.carried_credentials
    assert leaking.headers["range"] == "bytes=0-1"
    assert leaking.path.startswith("/media/open-api-results/req_")
    assert "leaked" not in repr(leaking)


# -- URLs that expire ----------------------------------------------------------------------


async def test_an_expired_url_is_a_403_and_the_next_query_has_a_fresh_one(start: Start) -> None:
    api: Api = await start(media_ttl=100, speed=1000)
    request_id = await api.succeeded(duration=4)
    url = (await api.poll(request_id)).data["output"]["url"]
    assert "signature=" in url
    assert (await ask(api, url)).status == 200
    expired = asyncio.Event()
    asyncio.get_running_loop().call_later(101 / api.emulator.options.speed, expired.set)
    await expired.wait()
    assert (await ask(api, url)).status == 403
    fresh = (await api.poll(request_id)).data["output"]["url"]
    assert fresh != url
    assert (await ask(api, fresh)).status == 200


async def test_a_url_without_its_signature_is_a_403(start: Start) -> None:
    api: Api = await start(media_ttl=1e9)
    url = await api.output_url(duration=4)
    for query in ("", "?expires=9e9&signature=0", "?expires=x", "?signature=ü"):
        assert (await ask(api, url.partition("?")[0] + query)).status == 403, query


# -- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "status"), [("expired", 403), ("not_found", 404), ("gone", 410)])
async def test_a_file_can_be_refused(api: Api, kind: str, status: int) -> None:
    url = await api.output_url(duration=4)
    api.emulator.faults.script("media", kind)
    assert [(await ask(api, url)).status for _ in range(2)] == [status, 200]
    assert api.emulator.requests.fault_count("media", kind) == 1


@pytest.mark.parametrize(
    ("framing", "fails"),
    [("length", True), ("chunked", True), ("ended", False), ("close", False)],
)
async def test_a_download_can_be_cut_unnoticed_or_not(api: Api, framing: Any, fails: bool) -> None:
    url = await api.output_url(duration=4)
    whole = (await ask(api, url)).body
    api.emulator.faults.script("media", Fault("truncated", at=5000, framing=framing))
    if fails:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(api, url)
    else:
        assert (await ask(api, url)).body == whole[:5000]


async def test_a_download_can_be_an_html_page(api: Api) -> None:
    url = await api.output_url(duration=4)
    api.emulator.faults.script("media", "html")
    reply = await ask(api, url)
    assert (reply.status, reply.body[:9]) == (200, b"<!doctype")


async def test_a_range_can_be_ignored(api: Api) -> None:
    url = await api.output_url(duration=4)
    api.emulator.faults.script("media", "range_ignored")
    reply = await ask(api, url, Range="bytes=100-")
    assert reply.status == 200
    assert "Content-Range" not in reply.headers


async def test_a_range_can_start_somewhere_else(api: Api) -> None:
    url = await api.output_url(duration=4)
    whole = (await ask(api, url)).body
    api.emulator.faults.script("media", "wrong_range")
    reply = await ask(api, url, Range="bytes=100-199")
    assert reply.status == 206
    assert reply.headers["Content-Range"] == f"bytes 0-199/{len(whole)}"
    assert reply.body == whole[:200]


async def test_an_etag_can_change_so_that_a_download_cannot_be_resumed(api: Api) -> None:
    url = await api.output_url(duration=4)
    etag = (await ask(api, url)).headers["ETag"]
    api.emulator.faults.script("media", "etag_changed")
    reply = await ask(api, url, Range="bytes=100-", If_Range=etag)
    assert reply.status == 200
    assert reply.headers["ETag"] != etag


async def test_a_file_can_move_to_another_local_path(api: Api) -> None:
    url = await api.output_url(duration=4)
    whole = (await ask(api, url)).body
    api.emulator.faults.script("media", "redirect", times=None)
    reply = await ask(api, url)
    assert reply.status == 302
    location = reply.headers["Location"]
    assert location.startswith("/media/moved/")
    assert (await ask(api, location)).body == whole


async def test_a_file_can_be_redirected_to_any_url(api: Api) -> None:
    url = await api.output_url(duration=4)
    api.emulator.faults.script("media", Fault("redirect", value="http://127.0.0.1:9/", status=307))
    reply = await ask(api, url)
    assert (reply.status, reply.headers["Location"]) == (307, "http://127.0.0.1:9/")


@pytest.mark.parametrize("kind", ["drop_before_read", "drop_before_accept", "drop_after_accept"])
async def test_a_download_can_be_dropped(api: Api, kind: str) -> None:
    url = await api.output_url(duration=4)
    # A client library repeats a GET once by itself.
    api.emulator.faults.script("media", Fault(kind, seconds=0.01), times=2)
    with pytest.raises(aiohttp.ClientError):
        await ask(api, url)


async def test_a_download_can_trickle_in(api: Api) -> None:
    url = await api.output_url(duration=4)
    whole = (await ask(api, url)).body
    api.emulator.faults.script("media", Fault("slow_body", seconds=0.002))
    assert (await ask(api, url)).body == whole


# -- samples and the cache -----------------------------------------------------------------


async def test_samples_have_the_types_of_their_names(api: Api) -> None:
    photo = await ask(api, api.emulator.media_url("photo.jpg"))
    assert photo.headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(photo.body)).size == (854, 480)
    assert (await ask(api, api.emulator.media_url("last.jpg"))).body != photo.body
    clip = await ask(api, api.emulator.media_url("clip.mp4"))
    assert decode(clip.body)[0]["codec"] == "h264"
    beat = await ask(api, api.emulator.media_url("beat.wav"))
    with wave.open(io.BytesIO(beat.body)) as sound:
        assert sound.getnframes() / sound.getframerate() == 2
    song = await ask(api, api.emulator.media_url("beat.mp3"))
    with av.open(io.BytesIO(song.body)) as container:
        assert container.streams.audio[0].codec_context.name.startswith("mp3")
        assert container.duration / 1e6 == pytest.approx(2, abs=0.2)
    assert all(len(each.body) < 100_000 for each in (photo, clip, beat, song))
    assert (await ask(api, api.emulator.media_url("virus.exe"))).status == 404


async def test_samples_pass_as_reference_media(api: Api) -> None:
    urls = [api.emulator.media_url(name) for name in ("photo.jpg", "beat.mp3")]
    assert (await api.submit(mediaUrls=urls)).status == 200


async def test_the_cache_is_bounded_and_removed_at_the_end() -> None:
    media = Media(shared=False, ttl=None, secret=b"", keep=2)
    files = [await media.sample(name) for name in ("photo.jpg", "last.jpg", "beat.wav")]
    await asyncio.sleep(0)
    assert [file is not None and file.path.exists() for file in files] == [False, True, True]
    folder = files[1] and files[1].path.parent
    await media.close()
    assert folder is not None
    assert not folder.exists()


async def test_a_failed_rendering_is_tried_again() -> None:
    media = Media(shared=False, ttl=None, secret=b"")
    attempts = []

    def write(path: Path, stopped: Any) -> None:
        attempts.append(path)
        if len(attempts) == 1:
            raise OSError("disk full")
        path.write_bytes(b"clip")

    with pytest.raises(OSError, match="disk full"):
        await media.file("clip", write)
    assert (await media.file("clip", write)).size == 4
    await media.close()


async def test_a_rendering_that_fails_after_its_eviction_leaves_nothing_to_remove() -> None:
    media = Media(shared=False, ttl=None, secret=b"", keep=1)
    may_fail = threading.Event()

    def fail(path: Path, stopped: Any) -> None:
        may_fail.wait(10)
        raise OSError("disk full")

    failing = asyncio.create_task(media.file("clip", fail))
    await asyncio.sleep(0)
    assert await media.sample("photo.jpg")
    may_fail.set()
    with pytest.raises(OSError, match="disk full"):
        await failing
    await media.close()


async def test_a_large_file_is_served_without_a_warning(api: Api) -> None:
    request_id = await api.succeeded()
    content = bytes(range(256)) * 8192

    def write(path: Path, stopped: Any) -> None:
        path.write_bytes(content)

    await api.emulator._running.media.file("Shared clip: 5 s, 720p, 16:9", write)
    url = (await api.poll(request_id)).data["output"]["url"]
    assert (await ask(api, url)).body == content


async def test_closing_stops_a_rendering_in_progress() -> None:
    media = Media(shared=False, ttl=None, secret=b"")
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write(path: Path, stopped: Any) -> None:
        loop.call_soon_threadsafe(begun.set)
        render(Picture("", "", "1080p", "16:9", 15), path, stopped)

    rendering = asyncio.create_task(media.file("long", write))
    await begun.wait()
    await media.close()
    with pytest.raises(RenderingStoppedError):
        await rendering
