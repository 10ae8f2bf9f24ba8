"""Downloads: scripted transfers for every way to break, and a real file system under them."""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import random
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import DownloadError, Generation, GenerationStatus, Timeouts, TransportError
from seedance_async.api.transport import MediaResponse
from seedance_async.jobs.downloads.downloader import Downloader
from seedance_async.jobs.downloads.part_file import file_name, mp4_problem
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
    """A transport that answers each media request by the next script: a function of its Range."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.asked = []

    @contextlib.asynccontextmanager
    async def open_media(self, url, headers):
        self.asked.append((url, dict(headers)))
        status, told, chunks = self.scripts.pop(0)(headers)
        if isinstance(status, Exception):
            raise status
        yield MediaResponse(status, told, self._pieces(chunks))

    async def _pieces(self, chunks):
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def whole(data=VIDEO, **told):
    headers = {"content-length": str(len(data)), "etag": '"one"', "content-type": "video/mp4"}
    headers |= {name.replace("_", "-"): value for name, value in told.items()}
    return lambda _: (200, headers, [data[:1000], data[1000:]])


def cut(at, *, length=SIZE, error=BROKEN, etag='"one"'):
    headers = {"content-length": str(length)} if length else {}
    headers |= {"etag": etag} if etag else {}
    return lambda _: (200, headers, [VIDEO[:at], *([error] if error else [])])


def rest(*, total=SIZE, shift=0, cut_at=None, error=None):
    """A 206 for what is asked for."""

    def answer(headers):
        start = int(headers["Range"].removeprefix("bytes=").removesuffix("-")) + shift
        told = {"content-range": f"bytes {start}-{len(VIDEO) - 1}/{total}", "etag": '"one"'}
        return 206, told, [VIDEO[start:cut_at], *([error] if error else [])]

    return answer


def status(code, **told):
    return lambda _: (code, told, [])


def fails(error):
    return lambda _: (error, {}, [])


def downloader(media, refresh=None, **options):
    async def no_refresh(_):
        raise AssertionError("no refresh was expected")

    options.setdefault("timeouts", Timeouts())
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


# --- transfers -----------------------------------------------------------------------------------


async def test_a_video_is_saved_under_its_name(tmp_path):
    media = await save(tmp_path, whole())
    assert media.asked == [(URL, {})]


async def test_a_transfer_that_breaks_off_is_resumed_where_it_ended(tmp_path):
    media = await save(tmp_path, cut(700), rest(cut_at=5000, error=BROKEN), rest())
    assert [headers.get("Range") for _, headers in media.asked] == [
        None, "bytes=700-", "bytes=5000-",
    ]  # fmt: skip
    assert media.asked[1][1]["If-Range"] == '"one"'


async def test_a_file_cut_short_without_an_error_is_resumed(tmp_path):
    await save(tmp_path, cut(700, error=None), rest())


async def test_a_video_cut_short_without_a_length_is_found_out_and_fetched_again(tmp_path):
    await save(tmp_path, cut(700, length=None, error=None), whole())


async def test_a_server_that_ignores_the_range_restarts_the_file(tmp_path):
    await save(tmp_path, cut(700), whole())


async def test_a_server_that_resumes_at_the_wrong_place_is_not_trusted(tmp_path):
    media = await save(tmp_path, cut(700), rest(shift=10), whole())
    assert "Range" not in media.asked[2][1]


async def test_a_video_that_changed_its_length_is_fetched_from_the_start(tmp_path):
    await save(tmp_path, cut(700), rest(total=12345), whole())


async def test_a_range_refused_is_fetched_from_the_start(tmp_path):
    await save(tmp_path, cut(700), status(416), whole())


async def test_a_range_without_a_total_is_taken(tmp_path):
    await save(tmp_path, cut(700, length=None), rest(total="*"))


async def test_a_range_answer_that_tells_no_range_is_not_trusted(tmp_path):
    await save(tmp_path, cut(700), status(206), whole())


async def test_a_weak_etag_is_not_used_to_resume(tmp_path):
    media = await save(tmp_path, cut(700, etag='W/"one"'), rest())
    assert "If-Range" not in media.asked[1][1]


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
async def test_a_server_that_is_busy_is_asked_again(tmp_path, code):
    await save(tmp_path, status(code), fails(BROKEN), whole())


async def test_a_page_instead_of_a_video_is_never_saved(tmp_path):
    page = whole(b"<html>sign in</html>", content_type="text/html")
    assert "text/html" in str(await refused(tmp_path, *[page] * 9))
    await save(tmp_path, page, whole())


async def test_a_page_that_claims_to_be_a_video_is_never_saved(tmp_path):
    error = await refused(tmp_path, *[whole(b"<html>sign in, please, do</html>")] * 9)
    assert "no MP4" in str(error)


async def test_a_damaged_video_is_never_saved(tmp_path):
    damaged = box(b"ftyp", b"isom") + struct.pack(">I4s", 3, b"moov") + b"x" * 20
    assert "damaged" in str(await refused(tmp_path, *[whole(damaged)] * 9))


async def test_a_video_whose_header_is_missing_is_never_saved(tmp_path):
    assert "cut short" in str(await refused(tmp_path, *[whole(box(b"ftyp", b"isom"))] * 9))


async def test_a_missing_file_fails_only_after_as_many_attempts_as_allowed(tmp_path):
    media = [fails(BROKEN)] * QUICK_RETRY.attempts
    assert "connection broke" in str(await refused(tmp_path, *media))


async def test_a_refusal_that_will_not_change_fails_at_once(tmp_path):
    error = await refused(tmp_path, status(400))
    assert error.status == 400


async def test_an_address_that_must_not_be_fetched_fails_at_once(tmp_path):
    forbidden = TransportError("not fetched", delivered="no", transient=False)
    assert "not fetched" in str(await refused(tmp_path, fails(forbidden)))


# --- fresh addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403, 404, 410])
async def test_an_expired_url_is_refreshed_by_a_poll(tmp_path, code):
    media = await save(tmp_path, status(code), whole(), refresh=refreshing(REFRESHED))
    assert media.asked[1][0] == REFRESHED


async def test_a_url_that_expires_in_mid_transfer_is_refreshed_and_resumed(tmp_path):
    media = await save(tmp_path, cut(700), status(403), rest(), refresh=refreshing(REFRESHED))
    assert media.asked[2] == (REFRESHED, {"Range": "bytes=700-", "If-Range": '"one"'})


async def test_a_generation_without_a_url_is_asked_for_one(tmp_path):
    await save(tmp_path, whole(), generation=succeeded(None), refresh=refreshing(REFRESHED))


async def test_a_fresh_url_that_is_refused_too_ends_it(tmp_path):
    error = await refused(tmp_path, status(403), status(403), refresh=refreshing(REFRESHED))
    assert error.status == 403
    assert "again with a fresh URL" in str(error)


async def test_a_server_that_gives_no_url_ends_it(tmp_path):
    error = await refused(tmp_path, status(404), refresh=refreshing(None))
    assert "no output URL" in str(error)


async def test_a_poll_that_fails_ends_it_with_its_reason(tmp_path):
    async def refresh(_):
        raise BROKEN

    assert "refreshed" in str(await refused(tmp_path, status(404), refresh=refresh))


# --- files ---------------------------------------------------------------------------------------


async def test_a_folder_gets_a_file_named_by_the_request_id(tmp_path):
    saved = await downloader(Media(whole())).save(succeeded(), tmp_path)
    assert saved.path == tmp_path / "req_1.mp4"


@pytest.mark.parametrize("there", ["file", "dangling link", "folder"])
async def test_what_is_there_is_not_overwritten_and_nothing_is_fetched(tmp_path, there):
    target = tmp_path / "v.mp4"
    if there == "file":
        target.write_text("precious")
    elif there == "folder":
        target.mkdir()
        (target / "req_1.mp4").write_text("precious")
    else:
        target.symlink_to(tmp_path / "elsewhere")
    media = Media()
    with pytest.raises(DownloadError, match="overwrite"):
        await downloader(media).save(succeeded(), target)
    assert not media.asked


async def test_a_file_that_comes_while_the_video_is_fetched_is_not_overwritten(tmp_path):
    target = tmp_path / "v.mp4"

    def answer(headers):
        target.write_text("precious")
        return whole()(headers)

    with pytest.raises(DownloadError, match="exists"):
        await downloader(Media(answer)).save(succeeded(), target)
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target]


async def test_overwriting_on_request_replaces_the_file_at_its_end(tmp_path):
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


async def test_a_folder_under_the_name_is_refused_even_when_overwriting(tmp_path):
    (tmp_path / "req_1.mp4").mkdir()
    with pytest.raises(DownloadError, match="folder is there"):
        await downloader(Media()).save(succeeded(), tmp_path, overwrite=True)


async def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DownloadError, match="folder does not exist"):
        await downloader(Media()).save(succeeded(), tmp_path / "no" / "v.mp4")


async def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    await save(tmp_path, whole())
    with pytest.raises(DownloadError):
        await downloader(Media(whole())).save(succeeded(), tmp_path / "v.mp4")


async def test_no_hard_links_and_a_file_that_came_meanwhile(tmp_path, monkeypatch):
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


async def test_what_a_killed_process_left_of_the_same_video_is_swept_away(tmp_path):
    """And what a living one is writing, or what belongs to another video, is not."""
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


async def test_a_download_that_takes_too_long_ends(tmp_path):
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


async def test_no_more_downloads_at_once_than_allowed(tmp_path):
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


# --- names and containers ------------------------------------------------------------------------

HOSTILE = ["../../x", "/etc/passwd", "..", ".", "", "a\x00b", "x" * 300, "CON", "nul", "com1",
           "a b", "req.mp4", "a/b", "a\\b", "\ud800", "ré", "-rf\n", "~root"]  # fmt: skip


@pytest.mark.parametrize("request_id", HOSTILE)
def test_a_file_name_is_safe_whatever_the_id_says(request_id):
    name = file_name(request_id)
    assert re.fullmatch(r"job-[0-9a-f]{32}\.mp4", name)


@given(st.text() | st.sampled_from(HOSTILE))
def test_a_file_name_is_one_plain_component(request_id):
    name = file_name(request_id)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}\.mp4", name)


def test_ids_that_differ_have_names_that_differ():
    assert len({file_name(request_id) for request_id in HOSTILE}) == len(HOSTILE)
    assert file_name("req_1234567890") == "req_1234567890.mp4"


def problem(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    return mp4_problem(path)


def test_every_cut_of_a_video_is_found(tmp_path):
    for at in [*range(0, 60), *range(60, len(VIDEO), 97)]:
        assert problem(tmp_path, VIDEO[:at]) is not None
    assert problem(tmp_path, VIDEO) is None


def test_long_boxes_and_a_last_box_without_a_length_are_understood(tmp_path):
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"12345"
    open_end = struct.pack(">I4s", 0, b"mdat") + b"12345"
    for last in (long, open_end):
        assert problem(tmp_path, box(b"ftyp") + box(b"moov") + last) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_judged_without_an_error(tmp_path_factory, data):
    problem(tmp_path_factory.mktemp("boxes"), VIDEO[:30] + data)
