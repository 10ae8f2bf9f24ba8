"""Videos in stores: a server that speaks S3, memory, and a folder."""

import asyncio
import hashlib
import os
import urllib.request

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, S3Store

from seedance_async import (
    ConfigurationError,
    DownloadError,
    GenerationRequest,
    SeedanceSession,
)
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.journal import read_entries
from seedance_async.media import StoredObject, StoreFolder, multipart, results_store
from tests.conftest import QUICK_POLL
from tests.support.downloads import VIDEO, Media, box, cut, downloader, rest, succeeded, whole
from tests.support.for_each import for_each
from tests.support.s3 import options_of, s3_server

PART = 5 << 20  # the least that S3 takes
LARGE = VIDEO + box(b"mdat", os.urandom(2 * PART + 1000))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(multipart, "PART_SIZE", PART)


@pytest.fixture(scope="module")
def s3():
    with s3_server("films") as url:
        yield url


@pytest.fixture
def bucket(s3, request):
    return S3Store("films", prefix=request.node.name, **options_of(s3))


@pytest.fixture(params=["S3", "memory", "folder"])
def store(request, tmp_path):
    """A store of each kind, but for what only one of them can show."""
    if request.param == "S3":
        return request.getfixturevalue("bucket")
    return MemoryStore() if request.param == "memory" else LocalStore(tmp_path)


async def save(store, *answers, key="a film.mp4", request_id="req_1", **options):
    media = Media(*answers)
    generation = succeeded(request_id=request_id)
    saved = await downloader(media).save(generation, StoredObject(store, key), **options)
    assert not media.scripts
    return saved


async def content(store, key="a film.mp4"):
    return bytes(await (await obstore.get_async(store, key)).bytes_async())


async def names(store):
    return [meta["path"] for meta in await obstore.list(store).collect_async()]


def uploads(s3):
    with urllib.request.urlopen(f"{s3}/films?uploads") as answer:
        return answer.read().count(b"<UploadId>")


def large(**changed):
    return whole(LARGE, **changed)


@pytest.mark.parametrize("data", [VIDEO, LARGE])
async def test_a_video_is_put_whole(store, data):
    saved = await save(store, whole(data))
    assert await content(store) == data
    assert (saved.size, saved.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert saved.url.endswith("/a film.mp4")


async def test_a_broken_connection_is_resumed_on_the_way(store):
    await save(store, cut(3000), rest())
    assert await content(store) == VIDEO


async def test_a_video_that_never_gets_whole_leaves_nothing(store, s3):
    for begun in (VIDEO[:3000], LARGE[:-500]):
        broken = whole(begun, content_length=str(len(LARGE)))
        with pytest.raises(DownloadError, match="cut short"):
            await save(store, broken, *[whole(begun, content_length=str(len(LARGE)))] * 4)
    assert await names(store) == []
    assert uploads(s3) == 0


async def test_cancelling_leaves_neither_an_object_nor_parts(store, s3):
    handed_on = asyncio.Event()

    async def pieces():
        yield LARGE[: 2 * PART]
        handed_on.set()
        await asyncio.Event().wait()

    class Stuck(Media):
        def _pieces(self, chunks):
            return pieces()

    saving = asyncio.create_task(
        downloader(Stuck(large())).save(succeeded(), StoredObject(store, "v.mp4"))
    )
    await handed_on.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert await names(store) == []
    assert uploads(s3) == 0


async def test_a_store_that_fails_is_an_error_that_says_where(s3):
    nowhere = S3Store("nowhere", **options_of(s3))
    for video in (VIDEO, LARGE):
        with pytest.raises(
            DownloadError, match=r"not saved to s3://nowhere/v\.mp4: .*404"
        ) as caught:
            await downloader(Media(whole(video))).save(
                succeeded(), StoredObject(nowhere, "v.mp4"), overwrite=True
            )
        assert (caught.value.url, caught.value.path) == ("s3://nowhere/v.mp4", None)


async def test_an_object_of_another_job_is_replaced_only_on_request(store):
    await save(store, whole())
    with pytest.raises(DownloadError, match="overwrite=True"):
        await save(store, request_id="req_2")
    await save(store, large(), request_id="req_2", overwrite=True)
    assert await content(store) == LARGE


async def test_a_video_that_is_there_is_not_fetched_again(bucket):
    first = await save(bucket, large())
    assert await save(bucket) == first, "no answer was asked for"


@pytest.mark.parametrize("video", [VIDEO, LARGE])
async def test_what_the_store_has_is_compared_with_what_was_put(bucket, monkeypatch, video):
    put = obstore.put_async

    async def damaged(store, key, data, **named):
        await put(store, key, data, **named)
        return await put(store, key, video[:-1])

    monkeypatch.setattr(obstore, "put_async", damaged)
    with pytest.raises(DownloadError, match="something else than what was put"):
        await save(bucket, whole(video))
    assert await names(bucket) == []


async def test_what_somebody_else_has_put_meanwhile_is_no_success(bucket, monkeypatch):
    put = obstore.put_async

    async def overtaken(*arguments, **named):
        done = await put(*arguments, **named)
        await put(bucket, "a film.mp4", bytes(len(VIDEO)))
        return done

    monkeypatch.setattr(obstore, "put_async", overtaken)
    with pytest.raises(DownloadError, match="somebody else"):
        await save(bucket, whole())
    assert await content(bucket) == bytes(len(VIDEO)), "it is left alone"


async def test_where_it_is_has_a_url(bucket, tmp_path):
    assert StoredObject(bucket, "a.mp4").url == "s3://films/test_where_it_is_has_a_url/a.mp4"
    assert StoredObject(S3Store("films"), "b/a.mp4").url == "s3://films/b/a.mp4"
    assert StoredObject(LocalStore(tmp_path), "a.mp4").url == f"file://{tmp_path}/a.mp4"
    assert StoredObject(MemoryStore(), "a.mp4", url="memory://a.mp4").url == "memory://a.mp4"
    assert StoredObject(MemoryStore(), "a.mp4").url == "store:///a.mp4"


# --- folders of a bucket -------------------------------------------------------------------------


async def test_a_bucket_is_used_as_a_folder(s3):
    folder = StoreFolder("s3://films/as a folder", **options_of(s3))
    await folder.check_writable()
    assert await folder.sizes() == {}
    place = folder.file("a.mp4")
    assert place.url == "s3://films/as a folder/a.mp4"
    await downloader(Media(whole())).save(succeeded(), place)
    await downloader(Media(whole())).save(succeeded(), folder.file("deeper/b.mp4"))
    assert await folder.sizes() == {"a.mp4": len(VIDEO)}


async def test_a_folder_that_is_named_by_a_url_is_made(tmp_path):
    folder = StoreFolder((tmp_path / "new").as_uri())
    await folder.check_writable()
    assert list((tmp_path / "new").iterdir()) == []


async def test_a_bucket_that_is_not_there_is_a_mistake_in_the_configuration(s3):
    folder = StoreFolder("s3://nowhere/", **options_of(s3))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await folder.sizes()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        await folder.check_writable()


async def test_a_bucket_that_does_not_answer_is_not_waited_for(s3, monkeypatch):
    async def never(*arguments, **named):
        await asyncio.Event().wait()

    monkeypatch.setattr(obstore, "put_async", never)
    monkeypatch.setattr(results_store, "_PATIENCE", 0.01)
    with pytest.raises(ConfigurationError, match="has not answered within 0 s"):
        await StoreFolder("s3://films/", **options_of(s3)).check_writable()


@for_each("url", ["bucket", "ftp://bucket", "s3://"])
def test_what_is_no_store_is_refused(url):
    with pytest.raises(ConfigurationError, match="a bucket is s3://"):
        StoreFolder(url)


# --- a session -----------------------------------------------------------------------------------


async def test_a_job_is_streamed_and_stored_and_the_journal_says_where(bucket, tmp_path):
    events = []
    async with (
        Emulator(EmulatorOptions(speed=2000, media="shared")) as emulator,
        SeedanceSession(
            api_key=emulator.api_key,
            base_url=emulator.url,
            journal=tmp_path / "run.db",
            poll=QUICK_POLL,
            on_event=events.append,
        ) as session,
    ):
        job = await session.submit(GenerationRequest("A river"))
        async with job.stream() as video:
            streamed = b"".join([piece async for piece in video])
        saved = await job.download(StoredObject(bucket, "river.mp4"))
    assert await content(bucket, "river.mp4") == streamed
    assert job.saved == saved
    assert events[-1].url == saved.url
    (entry,) = read_entries(tmp_path / "run.db")
    assert (entry.path, entry.size, entry.sha256) == (saved.url, saved.size, saved.sha256)
    async with SeedanceSession(
        api_key="key", base_url=emulator.url, journal=tmp_path / "run.db"
    ) as session:
        again = await session.submit(GenerationRequest("A river"))
    assert again.saved == saved


@pytest.mark.parametrize("key", ["", " ", "/", "films/", "films//river.mp4", "./a.mp4", "a/.."])
def test_a_key_that_names_no_object_is_refused_before_anything_is_paid(key):
    with pytest.raises(ValueError, match="names no object: a key must not be blank"):
        StoredObject(MemoryStore(), key)
