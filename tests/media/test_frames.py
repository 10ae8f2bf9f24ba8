"""Single frames of real clips, told apart by their brightness."""

import io
import sys

import pytest
from PIL import Image

from seedance_async import ConfigurationError
from seedance_async.media.extra import media_required
from seedance_async.media.frames import last_frame, poster, thumbnails
from tests.support.clips import brightness, level, write_clip


def opened(picture):
    return Image.open(io.BytesIO(picture))


@pytest.mark.parametrize("frames", [1, 2, 12, 13, 30, 121])
def test_the_last_frame_is_the_last_that_is_shown(tmp_path, frames):
    found = last_frame(write_clip(tmp_path / "a.mp4", frames))
    assert opened(found).format == "PNG"
    assert opened(found).size == (96, 64)
    assert brightness(found) == pytest.approx(level(frames - 1), abs=3)


@pytest.mark.parametrize(("named", "height"), [(1, 64), (5, 720), (None, 64), (None, 720)])
def test_a_frame_has_the_colours_of_its_clip(tmp_path, named, height):
    used = named or (1 if height == 720 else 5)
    red = Image.new("RGB", (96, height), (200, 40, 60))
    clip = write_clip(
        tmp_path / "a.mp4", 2, size=red.size, colours=named, picture=red, picture_colours=used
    )
    assert opened(last_frame(clip)).getpixel((9, 9)) == pytest.approx((200, 40, 60), abs=3)


def test_a_poster_is_the_first_frame_that_is_not_black(tmp_path):
    bright = write_clip(tmp_path / "a.mp4", 40)
    assert brightness(poster(bright)) == pytest.approx(level(0), abs=3)
    fading = write_clip(tmp_path / "b.mp4", 40, gop=250, levels=lambda n: 16 if n < 9 else 150)
    assert brightness(poster(fading)) == pytest.approx(150, abs=3)


def test_of_a_dark_clip_the_brightest_frame_is_the_poster(tmp_path):
    dark = write_clip(tmp_path / "a.mp4", 40, gop=250, levels=lambda n: 24 if n == 20 else 17)
    assert brightness(poster(dark)) == pytest.approx(24, abs=2)


def test_a_poster_is_as_wide_as_asked_and_never_enlarged(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 3)
    assert opened(poster(clip, width=48)).size == (48, 32)
    assert opened(poster(clip)).size == (96, 64)
    assert opened(poster(clip)).format == "JPEG"


def test_thumbnails_are_spaced_evenly(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 40, gop=250, levels=lambda n: 20 + 5 * n)
    found = [brightness(each) for each in thumbnails(clip, 4)]
    assert found == pytest.approx([45, 95, 145, 195], abs=4)
    assert len(thumbnails(write_clip(tmp_path / "b.mp4", 1), 4)) == 4


@pytest.mark.parametrize("frame_of", [last_frame, poster, thumbnails])
def test_what_is_no_video_is_refused(tmp_path, frame_of):
    page = tmp_path / "page.mp4"
    page.write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(ValueError, match=r"page\.mp4 cannot be read as a video: Invalid"):
        frame_of(page)
    with pytest.raises(ValueError, match="does not exist"):
        frame_of(tmp_path / "nothing.mp4")


def test_a_clip_that_is_cut_short_is_refused(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 30)
    clip.write_bytes(clip.read_bytes()[:700])
    with pytest.raises(ValueError, match="cannot be read as a video"):
        last_frame(clip)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigurationError, match=r"seedance-async\[media\]"), media_required():
        import av  # noqa: F401


def test_a_clip_that_is_turned_for_the_viewer_is_shown_upright(tmp_path):
    image = Image.new("RGB", (96, 64), (40, 160, 60))
    image.paste((200, 40, 60), (0, 0, 30, 64))  # red at the left
    clip = write_clip(tmp_path / "a.mp4", 2, picture=image, picture_colours=5, colours=5)
    one, none = (0x10000).to_bytes(4, "big"), bytes(4)
    upright = one + none * 3 + one
    clockwise = none + one + none + (-0x10000).to_bytes(4, "big", signed=True) + none
    data = clip.read_bytes()
    track = data.index(b"tkhd")
    place = data.index(upright, track)
    clip.write_bytes(data[:place] + clockwise + data[place + len(upright) :])
    found = opened(last_frame(clip))
    assert found.size == (64, 96)
    assert found.getpixel((32, 8)) == pytest.approx((200, 40, 60), abs=8)
    assert found.getpixel((32, 88)) == pytest.approx((40, 160, 60), abs=8)
