"""Jobs that begin where another one ends: its last frame is taken, uploaded and sent."""

import asyncio
import io
from collections import Counter

import pytest
from PIL import Image

from seedance_async import (
    GenerationRequest,
    InvalidRequestError,
    JobMedium,
    SeedanceSession,
    SourceJobError,
)
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.media import EmulatorUploader
from seedance_async.media.frames import last_frame
from tests.conftest import QUICK_POLL


def shot(prompt, *media):
    return GenerationRequest(prompt, duration=4, resolution="480p", media_urls=list(media))


@pytest.fixture
async def emulator():
    async with Emulator(EmulatorOptions(speed=2000, media="shared")) as emulator:
        yield emulator


@pytest.fixture
def uploaded(emulator):
    """Uploads to the emulator; how often each content was."""
    upload, contents = EmulatorUploader(emulator.url), Counter()

    async def uploader(medium):
        contents[medium.read()] += 1
        return await upload(medium)

    uploader.contents = contents
    return uploader


@pytest.fixture
def session(emulator, uploaded):
    return SeedanceSession(
        base_url=emulator.url, api_key=emulator.api_key, uploader=uploaded, poll=QUICK_POLL
    )


async def test_the_last_frame_of_a_job_is_the_first_of_many(session, emulator, uploaded, tmp_path):
    async with session:
        first = await session.submit(shot("first"))
        batch = await session.run([shot(f"{n}", first.frame("last")) for n in range(5)])
        batch.raise_for_failures()
        video = await first.download(tmp_path)
    assert uploaded.contents == {last_frame(video): 1}
    assert Image.open(io.BytesIO(last_frame(video))).size == (426, 240)
    urls = {entry.body["mediaUrls"][0] for entry in list(emulator.ledger)[1:]}
    assert len(urls) == 1
    assert urls.pop().endswith(".png")


async def test_a_saved_video_is_not_fetched_again_unless_it_was_changed(
    session, emulator, tmp_path
):
    def fetched():
        return Counter(each.path.split("/")[-1] for each in emulator.media_requests)

    async with session:
        jobs = [await session.submit(shot(f"{number}")) for number in range(2)]
        whole, changed = [await job.download(tmp_path) for job in jobs]
        changed.write_bytes(changed.read_bytes()[:1000])
        for job in jobs:
            await session.submit(shot("next", job.frame("last")))
    assert fetched() == {whole.name: 1, changed.name: 2}
    assert changed.stat().st_size == 1000, "what is fetched for a frame has a place of its own"


async def test_a_whole_video_that_is_saved_is_uploaded_for_the_server_may_not_have_it_any_more(
    session, emulator, uploaded, tmp_path
):
    async with session:
        first = await session.submit(shot("first"))
        await session.submit(shot("second", first))
        video = await first.download(tmp_path)
        await session.submit(shot("third", first))
    second, third = (entry.body["mediaUrls"][0] for entry in list(emulator.ledger)[1:])
    assert f"/{first.request_id}.mp4" in second
    assert "/media/inputs/" in third
    assert uploaded.contents == {video.read_bytes(): 1}


async def test_a_video_that_cannot_be_decoded_costs_nothing_more(session, emulator, tmp_path):
    async with session:
        first = await session.submit(shot("first"))
        video = await first.download(tmp_path)
        video.write_bytes(b"\0" * video.stat().st_size)
        with pytest.raises(SourceJobError, match="cannot be read as a video"):
            await session.submit(shot("second", first.frame("last")))
    assert len(emulator.ledger) == 1


async def test_a_frame_needs_an_uploader(emulator):
    async with SeedanceSession(base_url=emulator.url, api_key=emulator.api_key) as session:
        with pytest.raises(InvalidRequestError, match="give the session an uploader"):
            await session.submit(shot("x", JobMedium("1", "last")))
    assert len(emulator.ledger) == 0


async def test_one_that_is_cancelled_takes_the_frame_from_no_other(session, emulator, uploaded):
    async with session:
        first = await session.submit(shot("first"))
        await first
        one, other = (
            asyncio.create_task(session.submit(shot(f"{n}", first.frame("last")))) for n in range(2)
        )
        await asyncio.sleep(0)
        one.cancel()
        await other
    assert len(emulator.ledger) == 2
