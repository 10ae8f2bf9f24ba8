"""The uploaders against real servers: the emulator, and one that speaks S3."""

import asyncio
import json
import os
import sys
import urllib.request

import pytest
from obstore.store import S3Store

from seedance_async import ConfigurationError, GenerationRequest, MediaUploadError, SeedanceSession
from seedance_async.api.local_media import local_medium
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.media import EmulatorUploader, StoreUploader
from tests.support.for_each import for_each
from tests.support.pictures import JPEG, MP4, PNG
from tests.support.s3 import environment_of, options_of, s3_server


def fetched(url):
    with urllib.request.urlopen(url) as answer:
        return answer.headers["Content-Type"], answer.read()


@pytest.fixture
async def emulator():
    async with Emulator(EmulatorOptions(speed=600, media="shared")) as emulator:
        yield emulator


def session_on(emulator, **options):
    return SeedanceSession(api_key=emulator.api_key, base_url=emulator.url, **options)


def media_sent(emulator):
    return [job.body.get("mediaUrls") for job in emulator.jobs.values()]


# --- the emulator --------------------------------------------------------------------------------


async def test_the_emulator_serves_what_it_was_given(emulator, tmp_path):
    path = tmp_path / "a river.png"
    path.write_bytes(PNG)
    async with session_on(emulator, uploader=EmulatorUploader(emulator.url)) as session:
        requests = [GenerationRequest(f"{n}", media_urls=[path, JPEG]) for n in range(5)]
        batch = await session.run(requests)
    assert len(batch.succeeded) == 5
    (urls,) = {tuple(urls) for urls in media_sent(emulator)}
    assert await asyncio.to_thread(fetched, urls[0]) == ("image/png", PNG)
    assert (await asyncio.to_thread(fetched, urls[1]))[1] == JPEG
    assert sorted(emulator.uploads.values()) == [1, 1]


async def test_an_emulator_that_is_away_costs_nothing(emulator):
    async with session_on(emulator, uploader=EmulatorUploader("http://127.0.0.1:9")) as session:
        with pytest.raises(MediaUploadError, match=r"\.png could not be uploaded"):
            await session.submit(GenerationRequest("x", media_urls=[PNG]))
    assert media_sent(emulator) == []


async def test_the_emulator_takes_no_content_for_another(emulator):
    medium = local_medium(PNG)

    def put(data):
        url = f"{emulator.url}/_emulator/inputs/{medium.sha256}/a.png"
        request = urllib.request.Request(url, data=data, method="PUT")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    with pytest.raises(urllib.request.HTTPError, match="400"):
        await asyncio.to_thread(put, JPEG)
    assert (await asyncio.to_thread(put, PNG))["url"].endswith("/a.png")


# --- a bucket ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3():
    with s3_server("inputs") as url:
        yield url


def uploader_to(s3, url="s3://inputs/seedance", **options):
    return StoreUploader(url, **options_of(s3), **options)


async def test_a_bucket_has_each_content_once_under_a_signed_url(s3, emulator, tmp_path):
    (tmp_path / "one.png").write_bytes(PNG + b"of a bucket")
    (tmp_path / "two.png").write_bytes(PNG + b"of a bucket")
    requests = [
        GenerationRequest(f"{n}", media_urls=[tmp_path / name, MP4])
        for n, name in enumerate(["one.png", "two.png"] * 3)
    ]
    async with session_on(emulator, uploader=uploader_to(s3)) as session:
        assert len((await session.run(requests)).succeeded) == 6
    (urls,) = {tuple(urls) for urls in media_sent(emulator)}
    assert "Signature=" in urls[0]
    assert "/inputs/seedance/" in urls[0]
    assert await asyncio.to_thread(fetched, urls[0]) == ("image/png", PNG + b"of a bucket")


async def test_a_store_of_ones_own_and_a_prefix_will_do(s3):
    store = S3Store("inputs", **options_of(s3))
    medium = local_medium(MP4)
    url = await StoreUploader(store=store, prefix="/films/", expires=60)(medium)
    assert f"/inputs/films/{medium.sha256}.mp4?" in url
    assert "X-Amz-Expires=60&" in url
    assert await asyncio.to_thread(fetched, url) == ("video/mp4", MP4)


async def test_the_command_line_uploads_to_a_bucket(s3, emulator, tmp_path, monkeypatch):
    for name, value in environment_of(s3).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEEDANCE_BASE_URL", emulator.url)
    monkeypatch.setenv("SEEDANCE_API_KEY", emulator.api_key)
    (tmp_path / "a picture.jpg").write_bytes(JPEG)
    (tmp_path / "shots.csv").write_text("prompt,media_urls\na,a picture.jpg\nb,a picture.jpg\n")
    command = [sys.executable, "-m", "seedance_async.cli", "batch", "shots.csv"]
    process = await asyncio.create_subprocess_exec(
        *command,
        "--yes",
        "--upload",
        "s3://inputs/shots",
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    told = (await process.communicate())[1].decode()
    assert process.returncode == 0, told
    ((url,),) = {tuple(urls) for urls in media_sent(emulator)}
    assert "/inputs/shots/" in url
    assert await asyncio.to_thread(fetched, url) == ("image/jpeg", JPEG)
    assert not emulator.uploads


async def test_what_is_in_the_bucket_is_not_put_again(s3, monkeypatch):
    import obstore

    puts, put = [], obstore.put_async

    async def counted(*arguments, **named):
        puts.append(arguments[1])
        return await put(*arguments, **named)

    monkeypatch.setattr(obstore, "put_async", counted)
    medium = local_medium(JPEG + os.urandom(8))
    first, second = uploader_to(s3), uploader_to(s3)
    await first(medium)
    assert await asyncio.to_thread(fetched, await second(medium)) == ("image/jpeg", medium.read())
    assert puts == [f"seedance/{medium.sha256}.jpg"]


async def test_a_bucket_that_is_not_there_costs_nothing(s3, emulator):
    uploader = uploader_to(s3, "s3://nowhere")
    async with session_on(emulator, uploader=uploader) as session:
        with pytest.raises(MediaUploadError, match="could not be uploaded"):
            await session.submit(GenerationRequest("x", media_urls=[PNG]))
    assert media_sent(emulator) == []


@for_each("url", ["bucket", "https://bucket", "s3://", "file:///tmp"])
def test_what_is_no_bucket_is_refused(url):
    with pytest.raises(ConfigurationError, match="a bucket is"):
        StoreUploader(url)


def test_a_store_takes_no_options_and_something_must_be_given():
    with pytest.raises(ConfigurationError, match="either"):
        StoreUploader()
    with pytest.raises(ConfigurationError, match="endpoint"):
        StoreUploader(store=object(), endpoint="x")
