"""Sessions with an uploader: files are uploaded once, and jobs are known by their content."""

import asyncio
import contextlib
import json

import pytest

from seedance_async import (
    GenerationRequest,
    InvalidRequestError,
    JobState,
    MediaUploadError,
)
from seedance_async.session.uploads import Uploads
from tests.support.memory_journal import MemoryJournal, memory_store
from tests.support.pictures import JPEG, PNG

pytestmark = pytest.mark.virtual_time


class Bucket:
    """An uploader that counts, and takes a second."""

    def __init__(self):
        self.names, self.fails, self.signature = [], 0, 0

    async def __call__(self, medium):
        self.names.append(medium.name)
        await asyncio.sleep(1)
        if self.fails:
            self.fails -= 1
            raise OSError("the bucket is away")
        self.signature += 1
        return f"https://bucket.example/{medium.sha256}?signature={self.signature}"


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch):
    """A thread does not follow the virtual clock."""

    async def nothing(uploads, request):
        pass

    monkeypatch.setattr(Uploads, "read", nothing)


@pytest.fixture
def bucket():
    return Bucket()


@pytest.fixture
def river(tmp_path):
    (tmp_path / "river.png").write_bytes(PNG)
    return tmp_path / "river.png"


def media_sent(api):
    return [json.loads(sent.body)["mediaUrls"] for sent in api.sent if sent.charges]


async def test_a_file_is_uploaded_and_its_url_is_sent(make_session, api, bucket, river):
    async with make_session(uploader=bucket) as session:
        job = await session.submit(GenerationRequest("x", media_urls=[river, JPEG]))
        assert job.request.media_urls[0] == river
    first, second = media_sent(api)[0]
    assert first.startswith("https://bucket.example/")
    assert first != second


async def test_one_picture_of_many_jobs_is_uploaded_once(make_session, api, bucket, river):
    requests = [GenerationRequest(f"{n}", media_urls=[river]) for n in range(50)]
    async with make_session(uploader=bucket) as session:
        batch = await session.run(requests)
    assert batch.counts == {JobState.SUCCEEDED: 50}
    assert bucket.names == ["river.png"]
    assert len({tuple(urls) for urls in media_sent(api)}) == 1


async def test_a_url_is_not_used_for_ever(make_session, api, bucket, river):
    async with make_session(uploader=bucket) as session:
        await session.generate(GenerationRequest("one", media_urls=[river]))
        await asyncio.sleep(3700)
        await session.generate(GenerationRequest("two", media_urls=[river]))
    assert len(bucket.names) == 2


async def test_a_file_that_cannot_be_uploaded_costs_nothing_and_can_be_tried_again(
    make_session, api, bucket, river
):
    bucket.fails = 1
    requests = [GenerationRequest(f"{n}", media_urls=[river]) for n in range(3)]
    async with make_session(uploader=bucket, max_in_flight=3) as session:
        batch = await session.run(requests)
        assert batch.counts == {JobState.REJECTED: 3}
        assert all(isinstance(job.error, MediaUploadError) for job in batch)
        assert "river.png could not be uploaded" in str(batch.outcomes[0].error)
        assert "the bucket is away" in str(batch.outcomes[0].error)
        assert api.count("create") == 0
        again = await session.run(job.request for job in batch.failures)
    assert again.counts == {JobState.SUCCEEDED: 3}
    assert len(bucket.names) == 2


async def test_a_file_that_breaks_a_rule_is_refused_before_anything_is_uploaded(
    make_session, api, bucket, tmp_path
):
    async with make_session(uploader=bucket) as session:
        with pytest.raises(InvalidRequestError, match=r"media_urls\[0\]"):
            await session.submit(GenerationRequest("x", media_urls=[tmp_path / "no.png"]))
        batch = await session.run([GenerationRequest("x", media_urls=[tmp_path / "no.png"])])
        assert batch.counts == {JobState.REJECTED: 1}
    assert bucket.names == []
    assert api.count("create") == 0


@pytest.mark.parametrize("url", [None, "http://bucket.example/a", "https://10.0.0.1/a", "a.png"])
async def test_what_an_uploader_returns_must_be_a_public_url(make_session, api, river, url):
    async def upload(medium):
        return url

    async with make_session(uploader=upload) as session:
        with pytest.raises(MediaUploadError, match=r"river\.png"):
            await session.submit(GenerationRequest("x", media_urls=[river]))
    assert api.count("create") == 0


async def test_the_next_run_knows_the_job_by_the_content_of_its_media(
    make_session, api, bucket, river
):
    store = memory_store()
    api.seconds = 1000.0
    async with make_session(uploader=bucket, journal=MemoryJournal(store)) as session:
        await session.submit(GenerationRequest("x", media_urls=[river]))
        await session.aclose(leave=True)
    moved = river.rename(river.with_name("moved.png"))
    journal = MemoryJournal(store)
    async with make_session(uploader=bucket, journal=journal) as session:
        batch = await session.run([GenerationRequest("x", media_urls=[moved])])
        assert batch.counts == {JobState.SUCCEEDED: 1}
        (entry,) = await journal.entries()
        assert "signature" not in entry.request, "a URL that is signed is not kept"
    assert api.count("create") == 1
    assert bucket.names == ["river.png"], "what is not submitted is not uploaded"
    store.close()


async def test_a_caller_that_is_cancelled_cuts_no_upload_short(make_session, api, bucket, river):
    request = GenerationRequest("x", media_urls=[river])
    async with make_session(uploader=bucket) as session:
        first = asyncio.create_task(session.submit(request))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(session.submit(GenerationRequest("y", media_urls=[river])))
        await asyncio.sleep(0.1)
        first.cancel()
        await second
    assert bucket.names == ["river.png"]
    assert api.count("create") == 1


async def test_an_upload_that_nobody_waits_for_ends_with_the_session(make_session, river):
    async def never(medium):
        await asyncio.sleep(1e6)

    async with make_session(uploader=never) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(GenerationRequest("x", media_urls=[river]))


async def test_an_upload_does_not_go_on_for_ever(make_session, api, river):
    async def never(medium):
        await asyncio.sleep(1e6)

    async with make_session(uploader=never) as session:
        with pytest.raises(MediaUploadError, match="more than 1800 s"):
            await session.submit(GenerationRequest("x", media_urls=[river]))
    assert api.count("create") == 0


async def test_who_waits_for_an_upload_is_told_that_the_session_is_closed(make_session, api, river):
    async def slowly(medium):
        await asyncio.sleep(1000)

    session = await make_session(uploader=slowly).open()
    waiting = asyncio.create_task(session.submit(GenerationRequest("x", media_urls=[river])))
    await asyncio.sleep(1)
    await session.aclose(leave=True, within=5.0)
    with pytest.raises(MediaUploadError, match="the session is closed"):
        await waiting
    assert api.count("create") == 0


@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError("away")])
async def test_an_uploader_that_ends_oddly_is_asked_again(make_session, api, river, error):
    errors = [error]

    async def upload(medium):
        if errors:
            raise errors.pop()
        return "https://bucket.example/a"

    async with make_session(uploader=upload) as session:
        with pytest.raises(MediaUploadError, match=r"the uploader was cancelled|away"):
            await session.submit(GenerationRequest("x", media_urls=[river]))
        await session.submit(GenerationRequest("x", media_urls=[river]))
    assert api.count("create") == 1


async def test_an_uploader_that_cannot_be_cancelled_does_not_hold_up_the_end(
    make_session, river, caplog
):
    ends = asyncio.Event()

    async def stubborn(medium):
        while not ends.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ends.wait()

    session = await make_session(uploader=stubborn).open()
    waiting = asyncio.create_task(session.submit(GenerationRequest("x", media_urls=[river])))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    await session.aclose(leave=True)
    assert asyncio.get_running_loop().time() - began <= 3.0
    with pytest.raises(MediaUploadError, match="the session is closed"):
        await waiting
    assert "1 upload did not end when cancelled" in caplog.text
    ends.set()
    await asyncio.sleep(1)


async def test_the_media_of_a_job_are_uploaded_at_once(make_session, api, bucket):
    contents = [PNG + bytes([number]) for number in range(5)]
    async with make_session(uploader=bucket) as session:
        began = asyncio.get_running_loop().time()
        await session.submit(GenerationRequest("x", media_urls=contents))
        assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)


async def test_an_odd_path_is_one_bad_request_of_a_batch(make_session, api, bucket, river):
    class Odd:
        def __fspath__(self):
            raise RuntimeError("odd")

    requests = [GenerationRequest("x", media_urls=[each]) for each in (river, Odd(), river)]
    async with make_session(uploader=bucket) as session:
        batch = await session.run(requests)
    assert batch.counts == {JobState.SUCCEEDED: 2, JobState.REJECTED: 1}
    assert batch.stopped_by is None


async def test_a_long_upload_is_told(make_session, river, caplog):
    async def slowly(medium):
        await asyncio.sleep(30)
        return "https://bucket.example/a"

    caplog.set_level("INFO")
    async with make_session(uploader=slowly) as session:
        await session.submit(GenerationRequest("x", media_urls=[river]))
    assert "an upload of reference media" in caplog.text


async def broken_off(session, *requests):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await session.run(requests)


@pytest.mark.parametrize("journal", [False, True])
async def test_a_batch_that_is_run_again_knows_its_files_by_what_they_were(
    make_session, api, bucket, river, tmp_path, journal
):
    options = {"journal": MemoryJournal()} if journal else {}
    request, moved = GenerationRequest("one", media_urls=[river]), tmp_path / "moved.png"
    async with make_session(transport=api, uploader=bucket, **options) as session:
        await broken_off(session, request)
        river.rename(moved)
        again = GenerationRequest("one", media_urls=[moved])
        await broken_off(session, again)
        assert api.count("create") == 1, "the same picture, wherever it lies"
        river.write_bytes(PNG + b"\0" * 4)
        assert (await session.run([request])).counts == {JobState.SUCCEEDED: 1}
        assert api.count("create") == 2, "another picture under the name of the first"
        assert (await session.run([again])).counts == {JobState.SUCCEEDED: 1}
    assert api.count("create") == 2
