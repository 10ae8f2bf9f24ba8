"""Downloads: lines that trickle, disks that are full or slow, and batches written beside them."""

import asyncio
import errno
import shutil
import threading
from collections import namedtuple

import pytest

from seedance_async import (
    AiohttpTransport,
    DownloadError,
    GenerationRequest,
    JobState,
    Timeouts,
)
from seedance_async.api.options import Endpoint
from seedance_async.jobs.downloads import downloader as downloads
from seedance_async.jobs.downloads.downloader import _RateFloor
from seedance_async.jobs.downloads.part_file import BrokenTransferError, PartFile, free_space
from tests.conftest import KEY, QUICK_POLL, QUICK_RETRY
from tests.jobs.downloads.test_downloader import (
    SIZE,
    URL,
    VIDEO,
    Media,
    box,
    cut,
    downloader,
    refused,
    rest,
    save,
    status,
    succeeded,
    whole,
)  # fmt: skip
from tests.session.test_cancellation import WithMedia
from tests.support.raw_server import RawServer

IMPATIENT = Timeouts(download_idle=0.05, download_rate=100_000.0)


async def save_from(server, tmp_path, **options):
    transport = AiohttpTransport(Endpoint(server.url, KEY))
    try:
        target = tmp_path / "v.mp4"
        return await downloader(transport, **options).save(succeeded(server.url), target)
    finally:
        await transport.aclose()


# --- lines that trickle --------------------------------------------------------------------------


async def trickle(connection):
    """The start of the video, byte by byte: never silent for long."""
    await connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
    for byte in VIDEO:
        await connection.send(bytes([byte]))
        await asyncio.sleep(0.005)


async def test_a_body_that_trickles_is_dropped_and_resumed_on_another_connection(tmp_path):
    async def behave(connection):
        request = await connection.read_request()
        if connection.number == 1:
            await trickle(connection)
        start = int(request.split(b"bytes=")[1].split(b"-")[0])
        assert start > 0
        told = f"Content-Range: bytes {start}-{SIZE - 1}/{SIZE}"
        await connection.answer("206 Partial Content", VIDEO[start:], told)

    async with RawServer(behave) as server:
        saved = await save_from(server, tmp_path, timeouts=IMPATIENT)
        assert server.connections == 2
    assert saved.path.read_bytes() == VIDEO


async def test_a_server_that_only_trickles_is_given_up_after_as_many_attempts_as_allowed(tmp_path):
    async def behave(connection):
        await connection.read_request()
        await trickle(connection)

    async with RawServer(behave) as server:
        with pytest.raises(DownloadError, match="bytes came in"):
            await save_from(server, tmp_path, timeouts=IMPATIENT)
        assert server.connections == QUICK_RETRY.attempts
    assert list(tmp_path.iterdir()) == []


async def received(floor, *pieces):
    for seconds, size in pieces:
        await asyncio.sleep(seconds)
        floor.received(size)
        floor.wait_on()


@pytest.mark.virtual_time
async def test_a_slow_line_at_home_is_not_cut_off():
    """Not even one of 2,000 bytes a second that is silent for most of each minute."""
    await received(_RateFloor(Timeouts()), *[(0.1, 200), (45.0, 90_000)] * 200)


@pytest.mark.virtual_time
async def test_a_trickle_is_noticed_when_a_window_is_over():
    floor = _RateFloor(Timeouts(download_idle=10.0, download_rate=100.0))
    await received(floor, *[(1.0, 150)] * 10, *[(1.0, 50)] * 9)
    with pytest.raises(BrokenTransferError, match="only 500 bytes came in 10 seconds"):
        await received(floor, (1.0, 50))


@pytest.mark.virtual_time
async def test_the_time_that_writing_takes_does_not_count_against_the_line():
    floor = _RateFloor(Timeouts(download_idle=10.0, download_rate=100.0))
    for _ in range(100):
        await asyncio.sleep(1.0)
        floor.received(150)
        await asyncio.sleep(60.0)
        floor.wait_on()


# --- disks that are full -------------------------------------------------------------------------


async def test_a_video_that_the_disk_has_no_room_for_is_not_begun(tmp_path):
    error = await refused(tmp_path, whole(), free=lambda folder: 1_000)
    assert f"{SIZE:,} bytes are needed, 1,000 are free" in str(error)
    assert error.__cause__.errno == errno.ENOSPC


async def test_a_resumed_video_needs_room_for_its_rest_only(tmp_path):
    left = [SIZE, SIZE - 700]
    await save(tmp_path, cut(700), rest(), free=lambda folder: left.pop(0))
    assert not left
    left = [SIZE, SIZE - 701]
    with pytest.raises(DownloadError, match="no room"):
        media = Media(cut(700), rest())
        saver = downloader(media, free=lambda folder: left.pop(0))
        await saver.save(succeeded(), tmp_path / "w.mp4")


@pytest.mark.parametrize("free", [None, 0])
async def test_without_a_length_or_a_known_room_the_disk_is_tried(tmp_path, free):
    length = {} if free is None else {"content_length": ""}
    await save(tmp_path, whole(**length), free=lambda folder: free)


async def test_the_room_of_a_real_folder_is_known(tmp_path, monkeypatch):
    assert free_space(tmp_path) > 0
    assert free_space(tmp_path / "missing") is None
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 0))
    assert free_space(tmp_path) is None, "some file systems tell zero of everything"


Usage = namedtuple("Usage", "total used free")


async def test_a_job_whose_video_finds_no_room_stays_succeeded(make_session, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1_000, 900, 100))
    async with make_session(transport=WithMedia(seconds=0.01), poll=QUICK_POLL) as session:
        job = await session.submit(GenerationRequest("a river", duration=5))
        with pytest.raises(DownloadError, match="no room") as caught:
            await job.download(tmp_path / "v.mp4")
        assert caught.value.request_id == job.request_id
        assert job.state is JobState.SUCCEEDED
        monkeypatch.undo()
        assert (await job.download(tmp_path / "v.mp4")).read_bytes() == VIDEO


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 699, 700, 701, SIZE, SIZE + 1])
async def test_all_that_came_before_a_break_is_kept_however_it_falls_into_batches(
    tmp_path, monkeypatch, batch
):
    monkeypatch.setattr(downloads, "_BATCH", batch)
    media = await save(tmp_path, cut(700), status(503), rest())
    assert media.asked[2][1]["Range"] == "bytes=700-"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_long_video_is_saved_as_it_was_sent(tmp_path, chunked):
    video = VIDEO + box(b"free", bytes(range(250)) * 12_000)
    head = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(video)}"

    async def behave(connection):
        await connection.read_request()
        await connection.send(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode())
        for start in range(0, len(video), 700_000):
            piece = video[start : start + 700_000]
            framed = b"%x\r\n%b\r\n" % (len(piece), piece)
            await connection.send(framed if chunked else piece)
        if chunked:
            await connection.send(b"0\r\n\r\n")

    async with RawServer(behave) as server:
        saved = await save_from(server, tmp_path)
    assert saved.path.read_bytes() == video
    assert saved.size == len(video)


class Endless(Media):
    """A line that is quicker than any disk."""

    pulled = 0

    async def _pieces(self, chunks):
        for start in range(0, SIZE, 500):
            self.pulled += 1
            yield VIDEO[start : start + 500]


class SlowDisk:
    """Every write waits, in its thread, until it may go on."""

    def __init__(self, monkeypatch):
        self.go_on, self.began, self.writing = threading.Event(), asyncio.Event(), 0
        self._write, self._loop = PartFile.write, asyncio.get_running_loop()
        monkeypatch.setattr(PartFile, "write", lambda *arguments: self._slowly(*arguments))
        monkeypatch.setattr(downloads, "_BATCH", 1_000)

    def _slowly(self, part, pieces):
        self.writing += 1
        self._loop.call_soon_threadsafe(self.began.set)
        self.go_on.wait(10)
        self._write(part, pieces)
        self.writing -= 1


async def turns(count=100):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_slow_disk_holds_the_line_back_and_not_the_loop(tmp_path, monkeypatch):
    disk, media = SlowDisk(monkeypatch), Endless(whole())
    saving = asyncio.ensure_future(downloader(media).save(succeeded(URL), tmp_path / "v.mp4"))
    await disk.began.wait()
    await turns()
    pulled = media.pulled
    disk.go_on.set()
    assert (await saving).path.read_bytes() == VIDEO
    assert pulled == 4, "one batch is being written, the next one waits"


async def test_cancelled_while_a_thread_writes_a_download_ends_after_the_thread(
    tmp_path, monkeypatch
):
    disk, media = SlowDisk(monkeypatch), Endless(whole())
    saving = asyncio.ensure_future(downloader(media).save(succeeded(URL), tmp_path / "v.mp4"))
    await disk.began.wait()
    await turns()
    for _ in range(3):
        saving.cancel()
        await turns()
    over = saving.done()
    disk.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert (over, disk.writing) == (False, 0)
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_as_slow_as_a_trickle_breaks_no_transfer(tmp_path, monkeypatch):
    loop, late, write = asyncio.get_running_loop(), [0.0], PartFile.write
    clock = loop.time

    def slow_write(part, pieces):
        late[0] += Timeouts().download_idle
        write(part, pieces)

    monkeypatch.setattr(loop, "time", lambda: clock() + late[0])
    monkeypatch.setattr(PartFile, "write", slow_write)
    monkeypatch.setattr(downloads, "_BATCH", 1_000)
    media = Endless(whole())
    await downloader(media).save(succeeded(URL), tmp_path / "v.mp4")
    assert len(media.asked) == 1
