"""Downloads: scripted transfers that break in every way, on a real file system."""

import asyncio
import errno
import fcntl
import os
import shutil
import struct
import threading
from collections import namedtuple

import pytest

from seedance_async import (
    AiohttpTransport,
    DownloadError,
    GenerationRequest,
    JobState,
    Timeouts,
    TransportError,
)
from seedance_async.api.options import Endpoint
from seedance_async.jobs.downloads import downloader as module
from seedance_async.jobs.downloads.part_file import PartFile
from seedance_async.jobs.downloads.transfers import BrokenTransferError, MinimumRate
from tests.conftest import KEY, QUICK_POLL, QUICK_RETRY
from tests.session.test_cancellation import WithMedia
from tests.support.downloads import (
    BROKEN,
    REFRESHED,
    SIZE,
    URL,
    VIDEO,
    Media,
    box,
    cut,
    downloader,
    fails,
    refreshing,
    refused,
    rest,
    save,
    status,
    succeeded,
    whole,
)
from tests.support.raw_server import RawServer

IMPATIENT = Timeouts(download_idle=0.05, download_rate=100_000.0)
Usage = namedtuple("Usage", "total used free")


# --- transfers ------------------------------------------------------------------------------------


async def test_a_video_is_saved_under_its_name(tmp_path):
    media = await save(tmp_path, whole())
    assert media.requests == [(URL, {})]


async def test_a_transfer_that_breaks_is_resumed_where_it_stopped(tmp_path):
    media = await save(tmp_path, cut(700), rest(cut_at=5000, error=BROKEN), rest())
    assert [headers.get("Range") for _, headers in media.requests] == [
        None, "bytes=700-", "bytes=5000-",
    ]  # fmt: skip
    assert media.requests[1][1]["If-Range"] == '"one"'


async def test_a_file_cut_short_without_an_error_is_resumed(tmp_path):
    await save(tmp_path, cut(700, error=None), rest())


async def test_a_video_cut_short_without_a_length_is_detected_and_fetched_again(tmp_path):
    await save(tmp_path, cut(700, length=None, error=None), whole())


async def test_a_server_that_ignores_the_range_restarts_the_file(tmp_path):
    await save(tmp_path, cut(700), whole())


async def test_a_server_that_resumes_at_the_wrong_place_is_not_trusted(tmp_path):
    media = await save(tmp_path, cut(700), rest(shift=10), whole())
    assert "Range" not in media.requests[2][1]


async def test_a_video_that_changed_its_length_is_fetched_from_the_start(tmp_path):
    await save(tmp_path, cut(700), rest(total=12345), whole())


async def test_after_a_refused_range_the_video_is_fetched_from_the_start(tmp_path):
    await save(tmp_path, cut(700), status(416), whole())


async def test_a_range_without_a_total_is_accepted(tmp_path):
    await save(tmp_path, cut(700, length=None), rest(total="*"))


async def test_a_206_without_a_content_range_is_not_trusted(tmp_path):
    await save(tmp_path, cut(700), status(206), whole())


async def test_a_weak_etag_is_not_used_to_resume(tmp_path):
    media = await save(tmp_path, cut(700, etag='W/"one"'), rest())
    assert "If-Range" not in media.requests[1][1]


async def test_a_transfer_is_repeated_after_a_status_that_may_pass(tmp_path):
    for code in (408, 425, 429, 500, 502, 503):
        folder = tmp_path / str(code)
        folder.mkdir()
        await save(folder, status(code), fails(BROKEN), whole())


async def test_a_transfer_that_breaks_off_is_told_before_the_next_one(tmp_path):
    told = []
    await save(tmp_path, fails(BROKEN), whole(), on_retry=lambda *each: told.append(each))
    ((error, delay),) = told
    assert str(error).startswith("the download of job req_1 broke off: ")
    assert delay > 0


async def test_a_page_instead_of_a_video_is_never_saved(tmp_path):
    page = whole(b"<html>sign in</html>", content_type="text/html")
    assert "text/html" in str(await refused(tmp_path, *[page] * 9))
    await save(tmp_path, page, whole())


async def test_a_page_that_claims_to_be_a_video_is_never_saved(tmp_path):
    error = await refused(tmp_path, *[whole(b"<html>sign in, please, do</html>")] * 9)
    assert "no MP4" in str(error)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (box(b"ftyp", b"isom") + struct.pack(">I4s", 3, b"moov") + b"x" * 20, "damaged"),
        (VIDEO + b"junk after the last box", "damaged"),
        (b"\x1aE\xdf\xa3 another container", "no MP4"),
        (box(b"ftyp", b"isom"), "cut short"),
    ],
    ids=["odd boxes", "bytes after the last box", "another container", "no header"],
)
async def test_a_paid_video_of_the_announced_size_is_kept_whatever_is_in_it(
    tmp_path, caplog, content, problem
):
    media = Media(whole(content))
    saved = await downloader(media).save(succeeded(), tmp_path / "river.mp4")
    assert saved.path.read_bytes() == content
    assert len(media.requests) == 1
    assert "is kept as it came" in caplog.text
    assert problem in caplog.text or "cut short" in caplog.text


async def test_a_download_fails_after_as_many_broken_transfers_as_allowed(tmp_path):
    media = [fails(BROKEN)] * QUICK_RETRY.attempts
    assert "connection broke" in str(await refused(tmp_path, *media))


async def test_a_status_that_will_not_pass_fails_at_once(tmp_path):
    error = await refused(tmp_path, status(400))
    assert error.status == 400


async def test_a_url_that_must_not_be_fetched_fails_at_once(tmp_path):
    forbidden = TransportError("not fetched", delivered="no", transient=False)
    assert "not fetched" in str(await refused(tmp_path, fails(forbidden)))


# --- fresh URLs -----------------------------------------------------------------------------------


async def test_an_expired_url_is_refreshed_by_a_status_query(tmp_path):
    for code in (401, 403, 404, 410):
        folder = tmp_path / str(code)
        folder.mkdir()
        media = await save(folder, status(code), whole(), refresh=refreshing(REFRESHED))
        assert media.requests[1][0] == REFRESHED


async def test_a_url_that_expires_during_a_download_is_refreshed_and_the_video_resumed(tmp_path):
    media = await save(tmp_path, cut(700), status(403), rest(), refresh=refreshing(REFRESHED))
    assert media.requests[2] == (REFRESHED, {"Range": "bytes=700-", "If-Range": '"one"'})


async def test_a_generation_without_a_url_causes_a_status_query(tmp_path):
    await save(tmp_path, whole(), generation=succeeded(None), refresh=refreshing(REFRESHED))


async def test_a_download_fails_if_the_fresh_url_is_refused_too(tmp_path):
    error = await refused(tmp_path, status(403), status(403), refresh=refreshing(REFRESHED))
    assert error.status == 403
    assert "again with a fresh URL" in str(error)


async def test_a_download_fails_if_the_server_gives_no_url(tmp_path):
    error = await refused(tmp_path, status(404), refresh=refreshing(None))
    assert "no output URL" in str(error)


async def test_a_download_fails_with_the_reason_of_a_failed_status_query(tmp_path):
    async def refresh(_):
        raise BROKEN

    assert "refreshed" in str(await refused(tmp_path, status(404), refresh=refresh))


# --- files ----------------------------------------------------------------------------------------


async def test_in_a_folder_the_file_is_named_after_the_request_id(tmp_path):
    saved = await downloader(Media(whole())).save(succeeded(), tmp_path)
    assert saved.path == tmp_path / "req_1.mp4"


async def test_an_existing_file_is_not_overwritten_and_nothing_is_fetched(tmp_path):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "req_1.mp4").write_text("precious")
    (tmp_path / "dangling link").symlink_to(tmp_path / "elsewhere")
    for name in ("file", "folder", "dangling link"):
        media = Media()
        with pytest.raises(DownloadError, match="overwrite"):
            await downloader(media).save(succeeded(), tmp_path / name)
        assert not media.requests


async def test_a_file_created_during_the_download_is_not_overwritten(tmp_path):
    target = tmp_path / "v.mp4"

    def answer(headers):
        target.write_text("precious")
        return whole()(headers)

    with pytest.raises(DownloadError, match="exists"):
        await downloader(Media(answer)).save(succeeded(), target)
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]


async def test_overwriting_replaces_the_file_when_the_download_is_complete(tmp_path):
    target = tmp_path / "v.mp4"
    target.write_text("old")
    await downloader(Media(whole())).save(succeeded(), target, overwrite=True)
    assert target.read_bytes() == VIDEO


async def test_overwriting_a_link_replaces_the_link_and_not_its_target(tmp_path):
    precious, target = tmp_path / "precious", tmp_path / "v.mp4"
    precious.write_text("precious")
    target.symlink_to(precious)
    await downloader(Media(whole())).save(succeeded(), target, overwrite=True)
    assert precious.read_text() == "precious"
    assert not target.is_symlink()


async def test_a_folder_is_never_overwritten(tmp_path):
    (tmp_path / "req_1.mp4").mkdir()
    with pytest.raises(DownloadError, match="folder is there"):
        await downloader(Media()).save(succeeded(), tmp_path, overwrite=True)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
async def test_a_name_that_no_file_can_have_is_a_download_error(tmp_path, name):
    media = Media()
    with pytest.raises(DownloadError) as caught:
        await downloader(media).save(succeeded(), tmp_path / name)
    assert caught.value.request_id == "req_1"
    assert not media.requests


async def test_a_missing_folder_is_a_download_error(tmp_path):
    with pytest.raises(DownloadError, match="folder does not exist"):
        await downloader(Media()).save(succeeded(), tmp_path / "no" / "v.mp4")


async def test_a_file_system_without_hard_links_is_enough(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    await save(tmp_path, whole())
    with pytest.raises(DownloadError):
        await downloader(Media(whole())).save(succeeded(), tmp_path / "v.mp4")


async def test_without_hard_links_a_file_created_meanwhile_is_not_overwritten(
    tmp_path, monkeypatch
):
    def no_links(*_):
        (tmp_path / "v.mp4").write_text("precious")
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(DownloadError, match="a file is there"):
        await downloader(Media(whole())).save(succeeded(), tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").read_text() == "precious"


async def test_a_full_disk_is_a_download_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in str(await refused(tmp_path, whole()))


async def test_a_disk_that_times_out_is_named(tmp_path, monkeypatch):
    def away(_):
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    monkeypatch.setattr(os, "fsync", away)
    assert "Connection timed out" in str(await refused(tmp_path, whole()))


async def test_temporary_files_that_a_killed_process_left_of_the_same_video_are_removed(tmp_path):
    """Those that a living process is writing, and those of other videos, are not."""
    left, living, others = (
        tmp_path / name for name in (".v.mp4.01.part", ".v.mp4.02.part", ".w.mp4.03.part")
    )
    for path in (left, living, others):
        path.write_bytes(VIDEO[:100])
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        await downloader(Media(whole())).save(succeeded(), tmp_path / "v.mp4")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [living.name, others.name, "v.mp4"]


async def test_a_download_fails_at_its_timeout(tmp_path):
    class Stalled(Media):
        async def _pieces(self, chunks):
            yield VIDEO[:10]
            await asyncio.Event().wait()

    media = Stalled(whole())
    with pytest.raises(DownloadError, match="not done in"):
        await downloader(media, timeouts=Timeouts(download=0.05)).save(
            succeeded(), tmp_path / "v.mp4"
        )
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_download_leaves_nothing(tmp_path):
    started = asyncio.Event()

    class Stalled(Media):
        async def _pieces(self, chunks):
            yield VIDEO[:10]
            started.set()
            await asyncio.Event().wait()

    saving = asyncio.ensure_future(
        downloader(Stalled(whole())).save(succeeded(), tmp_path / "v.mp4")
    )
    await started.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert list(tmp_path.iterdir()) == []


async def test_no_more_downloads_run_at_once_than_allowed(tmp_path):
    now = most = 0

    class Counting(Media):
        async def _pieces(self, chunks):
            nonlocal now, most
            now += 1
            most = max(most, now)
            for chunk in chunks:
                await asyncio.sleep(0)
                yield chunk
            now -= 1

    saver = downloader(Counting(*[whole()] * 9), limit=3)
    targets = [tmp_path / f"{number}.mp4" for number in range(9)]
    await asyncio.gather(*(saver.save(succeeded(), target) for target in targets))
    assert most <= 3
    assert all(target.read_bytes() == VIDEO for target in targets)


# --- slow connections -----------------------------------------------------------------------------


async def save_from(server, tmp_path, **options):
    transport = AiohttpTransport(Endpoint(server.url, KEY))
    try:
        target = tmp_path / "v.mp4"
        return await downloader(transport, **options).save(succeeded(server.url), target)
    finally:
        await transport.aclose()


async def trickle(connection):
    """Send the start of the video byte by byte, never silent for long."""
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
        content_range = f"Content-Range: bytes {start}-{SIZE - 1}/{SIZE}"
        await connection.answer("206 Partial Content", VIDEO[start:], content_range)

    async with RawServer(behave) as server:
        saved = await save_from(server, tmp_path, timeouts=IMPATIENT)
        assert server.connections == 2
    assert saved.path.read_bytes() == VIDEO


async def test_a_download_that_only_trickles_fails_after_the_allowed_attempts(
    tmp_path,
):
    async def behave(connection):
        await connection.read_request()
        await trickle(connection)

    async with RawServer(behave) as server:
        with pytest.raises(DownloadError, match="bytes came in"):
            await save_from(server, tmp_path, timeouts=IMPATIENT)
        assert server.connections == QUICK_RETRY.attempts
    assert list(tmp_path.iterdir()) == []


async def received(rate, *pieces):
    for seconds, size in pieces:
        await asyncio.sleep(seconds)
        rate.received(size)
        rate.start_waiting()


@pytest.mark.virtual_time
async def test_a_slow_home_connection_is_not_cut_off():
    """Not even one with 2,000 bytes a second that is silent for most of each minute."""
    await received(MinimumRate(Timeouts()), *[(0.1, 200), (45.0, 90_000)] * 200)


@pytest.mark.virtual_time
async def test_a_trickle_is_detected_at_the_end_of_a_window():
    rate = MinimumRate(Timeouts(download_idle=10.0, download_rate=100.0))
    await received(rate, *[(1.0, 150)] * 10, *[(1.0, 50)] * 9)
    with pytest.raises(BrokenTransferError, match="only 500 bytes came in 10 seconds"):
        await received(rate, (1.0, 50))


@pytest.mark.virtual_time
async def test_time_spent_writing_does_not_count_against_the_connection():
    rate = MinimumRate(Timeouts(download_idle=10.0, download_rate=100.0))
    for _ in range(100):
        await asyncio.sleep(1.0)
        rate.received(150)
        await asyncio.sleep(60.0)
        rate.start_waiting()


# --- full disks -----------------------------------------------------------------------------------


async def test_a_video_that_the_disk_has_no_room_for_is_not_written(tmp_path):
    error = await refused(tmp_path, whole(), free=lambda folder: 1_000)
    assert f"{SIZE:,} B are needed, 1,000 B are free" in str(error)
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


async def test_a_video_is_written_if_its_length_or_the_free_space_is_unknown(tmp_path):
    await save(tmp_path, whole(content_length=""), free=lambda folder: 0)
    (tmp_path / "v.mp4").unlink()
    await save(tmp_path, whole(), free=lambda folder: None)


async def test_a_job_stays_succeeded_if_its_video_finds_no_room(
    make_session, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1_000, 900, 100))
    async with make_session(transport=WithMedia(seconds=0.01), poll=QUICK_POLL) as session:
        job = await session.submit(GenerationRequest("a river", duration=5))
        with pytest.raises(DownloadError, match="no room") as caught:
            await job.download(tmp_path / "v.mp4")
        assert caught.value.request_id == job.request_id
        assert job.state is JobState.SUCCEEDED
        monkeypatch.undo()
        assert (await job.download(tmp_path / "v.mp4")).read_bytes() == VIDEO


# --- batches --------------------------------------------------------------------------------------


async def test_all_bytes_received_before_a_break_are_kept_whatever_the_batch_size(
    tmp_path, monkeypatch
):
    for size in (1, 699, 700, 701, SIZE, SIZE + 1):
        monkeypatch.setattr(module, "WRITE_SIZE", size)
        media = await save(tmp_path, cut(700), status(503), rest())
        assert media.requests[2][1]["Range"] == "bytes=700-"
        (tmp_path / "v.mp4").unlink()


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


class Fast(Media):
    """A connection that is faster than any disk."""

    pulled = 0

    async def _pieces(self, chunks):
        for start in range(0, SIZE, 500):
            self.pulled += 1
            yield VIDEO[start : start + 500]


class SlowDisk:
    """Every write waits in its thread until `resume` is set."""

    def __init__(self, monkeypatch):
        self.resume, self.began, self.writing = threading.Event(), asyncio.Event(), 0
        self._write, self._loop = PartFile.write, asyncio.get_running_loop()
        monkeypatch.setattr(PartFile, "write", lambda *arguments: self._slowly(*arguments))
        monkeypatch.setattr(module, "WRITE_SIZE", 1_000)

    def _slowly(self, part, pieces):
        self.writing += 1
        self._loop.call_soon_threadsafe(self.began.set)
        self.resume.wait(10)
        self._write(part, pieces)
        self.writing -= 1


async def turns(count=100):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_slow_disk_slows_the_connection_and_not_the_event_loop(tmp_path, monkeypatch):
    disk, media = SlowDisk(monkeypatch), Fast(whole())
    saving = asyncio.ensure_future(downloader(media).save(succeeded(URL), tmp_path / "v.mp4"))
    await disk.began.wait()
    await turns()
    pulled = media.pulled
    disk.resume.set()
    assert (await saving).path.read_bytes() == VIDEO
    assert pulled == 4, "one batch is being written, the next one waits"


async def test_a_download_cancelled_during_a_write_ends_after_the_write(tmp_path, monkeypatch):
    disk, media = SlowDisk(monkeypatch), Fast(whole())
    saving = asyncio.ensure_future(downloader(media).save(succeeded(URL), tmp_path / "v.mp4"))
    await disk.began.wait()
    await turns()
    for _ in range(3):
        saving.cancel()
        await turns()
    ended = saving.done()
    disk.resume.set()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert (ended, disk.writing) == (False, 0)
    assert list(tmp_path.iterdir()) == []


async def test_a_slow_disk_does_not_break_a_transfer(tmp_path, monkeypatch):
    loop, late, write = asyncio.get_running_loop(), [0.0], PartFile.write
    clock = loop.time

    def slow_write(part, pieces):
        late[0] += Timeouts().download_idle
        write(part, pieces)

    monkeypatch.setattr(loop, "time", lambda: clock() + late[0])
    monkeypatch.setattr(PartFile, "write", slow_write)
    monkeypatch.setattr(module, "WRITE_SIZE", 1_000)
    media = Fast(whole())
    await downloader(media).save(succeeded(URL), tmp_path / "v.mp4")
    assert len(media.requests) == 1
