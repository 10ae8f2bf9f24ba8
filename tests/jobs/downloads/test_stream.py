"""Videos as streams of bytes: whole, or an error, whatever happens to the connection."""

import asyncio
import contextlib
import hashlib
import random

import pytest

from seedance_async import DownloadError, Timeouts
from seedance_async.api.long_waits import Waits
from seedance_async.jobs.registry import SavedFile
from tests.conftest import SEED
from tests.support.downloads import (
    BROKEN,
    REFRESHED,
    SIZE,
    URL,
    VIDEO,
    Media,
    cut,
    downloader,
    fails,
    refreshing,
    rest,
    status,
    succeeded,
    whole,
)

pytestmark = pytest.mark.virtual_time


def stream(media, refresh=None, **options):
    async def ready():
        return succeeded()

    return downloader(media, refresh, **options).stream("req_1", ready)


async def read(*scripts, refresh=None):
    """Stream a video; it must be whole. Returns the requests that were made."""
    media, received = Media(*scripts), bytearray()
    async with stream(media, refresh) as video:
        async for piece in video:
            received += piece
        assert (video.size, video.sha256) == (SIZE, hashlib.sha256(VIDEO).hexdigest())
    assert received == VIDEO
    assert not media.scripts, "all answers were asked for"
    return media.requests


async def broken(*scripts, refresh=None):
    """Stream a video that cannot be read; what was handed on is its beginning. The error."""
    received = bytearray()
    async with stream(Media(*scripts), refresh) as video:
        with pytest.raises(DownloadError) as caught:
            async for piece in video:
                received += piece
    assert VIDEO.startswith(bytes(received))
    assert "could not be read" in str(caught.value)
    return caught.value


async def test_a_video_arrives_in_pieces():
    assert await read(whole()) == [(URL, {})]


async def test_a_broken_connection_is_resumed_where_it_stopped():
    requests = await read(cut(3000), fails(BROKEN), rest(cut_at=5000, error=BROKEN), rest())
    ranges = [headers.get("Range") for _, headers in requests]
    assert ranges == [None, "bytes=3000-", "bytes=3000-", "bytes=5000-"]


async def test_an_end_that_comes_too_early_is_no_end():
    await read(cut(3000, error=None), rest())
    await read(cut(3000, length=None, error=None), rest())


async def test_what_was_handed_on_is_skipped_where_the_server_begins_from_the_start():
    await read(cut(3000), whole())
    await read(cut(300), cut(200), whole(etag='"two"'))


async def test_where_the_server_does_not_resume_the_video_is_fetched_from_the_start():
    for refusal in (rest(shift=1), rest(total=SIZE + 1), status(416)):
        requests = await read(cut(3000), refusal, whole())
        assert requests[-1][1] == {}, "no range is asked for"


async def test_a_video_that_changes_meanwhile_is_an_error():
    changed = VIDEO[:2000] + b"?" + VIDEO[2001:]
    assert "has changed" in str(await broken(cut(3000), whole(changed)))
    assert "has changed" in str(await broken(cut(3000), whole(VIDEO[:2000])))


async def test_an_expired_url_is_renewed_as_often_as_that_helps():
    requests = await read(
        status(403), cut(1000), status(403), whole(), refresh=refreshing(REFRESHED, URL)
    )
    assert [url for url, _ in requests] == [URL, REFRESHED, REFRESHED, URL]
    error = await broken(status(403), status(404), refresh=refreshing(REFRESHED))
    assert error.status == 404


async def test_a_page_is_never_handed_on():
    page = b"<html>" + b" " * 900
    for answer in (whole(page), whole(page, content_type="text/html")):
        assert "a video was expected" in str(await broken(*[answer] * 5))


async def test_a_video_that_never_gets_whole_is_an_error_at_last():
    assert "cut short" in str(await broken(cut(100), *[fails(BROKEN)] * 3, rest(cut_at=200)))


async def test_a_whole_file_that_is_no_mp4_is_handed_on_with_a_warning(caplog):
    async with stream(Media(whole(b"no mp4" * 300))) as video:
        assert b"".join([piece async for piece in video]) == b"no mp4" * 300
    assert "taken as it came" in caplog.text


async def test_leaving_the_block_closes_the_connection():
    left = []

    class Watched(Media):
        @contextlib.asynccontextmanager
        async def open_media(self, url, headers):
            async with super().open_media(url, headers) as response:
                try:
                    yield response
                finally:
                    left.append("closed")

    async with stream(Watched(whole())) as video:
        assert await anext(video) == VIDEO[:1000]
        assert video.total == SIZE
    assert left == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(video)


async def test_any_cut_of_any_transfer_gives_the_same_bytes():
    rng = random.Random(SEED)
    for _ in range(40):
        answers = [cut(rng.randrange(SIZE), length=rng.choice([SIZE, None]))]
        answers += [rng.choice([rest(cut_at=SIZE - rng.randrange(500), error=BROKEN), cut(50)])]
        await read(*answers, rng.choice([rest(), whole()]))


# --- targets -------------------------------------------------------------------------------------


class Memory:
    """A target of one's own."""

    def __init__(self):
        self.kept = b""

    async def save(self, video, *, overwrite):
        self.kept = b"".join([piece async for piece in video])
        return SavedFile.at("memory://here/v.mp4", video.size, video.sha256)


async def test_a_target_of_ones_own_gets_the_stream():
    target = Memory()
    saved = await downloader(Media(cut(3000), rest())).save(succeeded(), target)
    assert target.kept == VIDEO
    assert (saved.url, saved.place, str(saved.path)) == (
        "memory://here/v.mp4",
        "memory://here/v.mp4",
        "here/v.mp4",
    )


async def test_a_target_has_the_time_of_a_download():
    class Slow:
        async def save(self, video, *, overwrite):
            await anext(video)
            await asyncio.sleep(1e6)

    with pytest.raises(DownloadError, match="not done in 1,800 seconds"):
        await downloader(Media(whole()), timeouts=Timeouts(download=1800)).save(succeeded(), Slow())


async def test_a_timeout_of_the_target_itself_is_raised_as_it_is():
    class Unreachable:
        async def save(self, video, *, overwrite):
            raise TimeoutError("the store does not answer")

    with pytest.raises(TimeoutError, match="the store does not answer"):
        await downloader(Media(whole())).save(succeeded(), Unreachable())


@pytest.mark.parametrize("stalls", ["before it answers", "between two pieces", "nowhere"])
async def test_a_host_that_sends_nothing_for_long_is_told_and_a_slow_reader_is_not(stalls, caplog):
    class Slow(Media):
        @contextlib.asynccontextmanager
        async def open_media(self, url, headers):
            await asyncio.sleep(50 * (stalls == "before it answers"))
            async with super().open_media(url, headers) as response:
                yield response

        async def _pieces(self, chunks):
            for chunk in chunks:
                await asyncio.sleep(20 * (stalls == "between two pieces"))
                yield chunk

    waits = Waits("api.example.com")
    async with stream(Slow(whole()), waits=waits) as video:
        async for _ in video:
            await asyncio.sleep(100)
    told = [each.message for each in caplog.records if "still waiting" in each.message]
    assert len(told) == (stalls != "nowhere")
    assert all("10 s, for a download" in each for each in told)
    assert not waits.going_on
