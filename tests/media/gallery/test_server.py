"""The served gallery: changes as they happen, ranges, and no file that the page does not show."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from seedance_async.media.gallery import LiveGallery, Shot
from seedance_async.media.gallery.server import serve
from tests.media.gallery.test_page import data_of


class Source:
    """Shots that a test changes."""

    def __init__(self, *shots):
        self.shots = list(shots)
        self.version = 0
        self.reads = 0

    def put(self, *shots):
        self.shots = list(shots)
        self.version += 1

    def read(self):
        self.reads += 1
        if self.shots == ["broken"]:
            raise OSError("the journal is in the making")
        return self.shots


def gallery(source, **options):
    return LiveGallery("videos", source.read, lambda: source.version, **options)


@asynccontextmanager
async def served(live, **options):
    url = asyncio.get_running_loop().create_future()
    server = asyncio.create_task(serve(live, url.set_result, **options))
    async with aiohttp.ClientSession() as session:
        await asyncio.wait([url, server], return_when=asyncio.FIRST_COMPLETED)
        try:
            yield url.result() if url.done() else await server, session
        finally:
            server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server


async def next_news(response):
    async with asyncio.timeout(10):
        while not (line := await response.content.readline()).startswith(b"data: "):
            assert line
    return json.loads(line.removeprefix(b"data: "))


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a #1.mp4"
    path.write_bytes(bytes(range(200)))
    return path


async def test_the_page_and_its_files_are_served_with_ranges(video):
    live = gallery(Source(Shot(id="1", state="succeeded", video=video)))
    async with served(live) as (url, session):
        assert url.startswith("http://127.0.0.1:")
        text = await (await session.get(url)).text()
        address = data_of(text)["shots"][0]["video"]
        response = await session.get(url + address, headers={"Range": "bytes=10-19"})
        assert (response.status, await response.read()) == (206, bytes(range(10, 20)))
        assert response.headers["Content-Type"] == "video/mp4"


@pytest.mark.parametrize(
    "path",
    [
        "run.db",
        "files/run.db/run.db",
        "files/..%2f..%2frun.db/x",
        "%2e%2e/run.db",
        "files/%2e%2e/%2e%2e/run.db",
        "..%5crun.db",
        "//etc/passwd",
    ],
)
async def test_no_other_file_is_served(video, path, tmp_path):
    (tmp_path / "run.db").write_text("secret")
    live = gallery(Source(Shot(id="1", state="succeeded", video=video)))
    async with served(live) as (url, session):
        target = aiohttp.client.URL(url + path, encoded=True)
        assert (await session.get(target)).status == 404


async def test_a_website_cannot_reach_it_by_another_name(video):
    live = gallery(Source(Shot(id="1", state="succeeded", video=video)))
    async with served(live) as (url, session):
        for path in ("", "events"):
            response = await session.get(url + path, headers={"Host": "evil.example"})
            assert response.status == 403
        port = url.strip("/").rpartition(":")[2]
        assert (await session.get(url, headers={"Host": f"localhost:{port}"})).status == 200


async def test_a_change_reaches_an_open_page():
    source = Source(Shot(id="1", state="running"), Shot(id="2", state="running"))
    live = gallery(source, redacted=lambda text: text.replace("the-key", "***"))
    async with served(live) as (url, session):
        version = data_of(await (await session.get(url)).text())["version"]
        async with session.get(f"{url}events?since={version}") as events:
            source.put(Shot(id="1", state="failed", error="the-key </script>"))
            news = await next_news(events)
    assert news["shots"] == [{"id": "1", "state": "failed", "error": "*** </script>"}]
    assert (news["gone"], news["all"]) == (["2"], False)


async def test_a_page_of_an_earlier_server_is_told_everything():
    live = gallery(Source(Shot(id="1", state="running")))
    async with served(live) as (url, session), session.get(f"{url}events?since=12") as events:
        news = await next_news(events)
    assert (news["all"], [shot["id"] for shot in news["shots"]]) == (True, ["1"])


async def test_the_source_is_read_again_only_after_a_change_and_may_fail():
    source = Source(Shot(id="1", state="running"))
    live = gallery(source)
    for _ in range(3):
        await live.refresh()
    assert source.reads == 1
    source.put("broken")
    await live.refresh()
    assert json.loads(live.changes(0))["shots"] == [{"id": "1", "state": "running"}]
    source.shots = [Shot(id="1", state="failed")]
    await live.refresh()
    assert json.loads(live.changes(0))["shots"] == [{"id": "1", "state": "failed"}]
