"""A contact sheet of real clips: each at its place, in its own colours."""

import io

import pytest
from PIL import Image

from seedance_async import GenerationRequest
from seedance_async.media.sheet import contact_sheet
from seedance_async.media.sidecar import Sidecar, write_sidecar
from tests.support.clips import write_clip

COLOURS = [(200, 40, 60), (40, 160, 60), (60, 80, 200), (180, 160, 40), (30, 140, 150)]


def opened(data):
    sheet = Image.open(io.BytesIO(data))
    assert sheet.format == "PNG"
    return sheet


@pytest.fixture
def clips(tmp_path):
    found = []
    for number, colour in enumerate(COLOURS):
        picture = Image.new("RGB", (160, 90), colour)
        path = tmp_path / f"{number:04}-req_{number}.mp4"
        found.append(
            write_clip(path, 2, size=picture.size, picture=picture, picture_colours=5, colours=5)
        )
    return found


def test_each_clip_is_at_its_place(clips):
    sheet = opened(contact_sheet(clips, columns=2, width=160))
    across = (sheet.width - 8) // 2
    down = (sheet.height - 8) // 3
    for index, colour in enumerate(COLOURS):
        row, column = divmod(index, 2)
        middle = (8 + column * across + 80, 8 + row * down + 45)
        assert sheet.getpixel(middle) == pytest.approx(colour, abs=8)


def test_a_clip_that_cannot_be_read_has_an_empty_place(clips):
    clips[1].write_bytes(b"no clip")
    whole = opened(contact_sheet(clips[:1] + clips[2:], columns=5, width=160))
    sheet = opened(contact_sheet(clips, columns=5, width=160))
    assert sheet.width > whole.width
    assert sheet.getpixel((8 + 168 + 10, 20)) == (0, 0, 0)


def test_upright_clips_are_shown_whole(tmp_path):
    picture = Image.new("RGB", (90, 160), (200, 40, 60))
    clip = write_clip(
        tmp_path / "a.mp4", 2, size=picture.size, picture=picture, picture_colours=5, colours=5
    )
    sheet = opened(contact_sheet([clip], width=160))
    assert sheet.getpixel((88, 80)) == pytest.approx((200, 40, 60), abs=8)
    assert sheet.getpixel((15, 80)) == (0, 0, 0)


def test_the_prompt_of_a_sidecar_is_the_note(clips):
    request = GenerationRequest(prompt="A river in autumn " * 9)
    plain = contact_sheet(clips[:1])
    write_sidecar(clips[0], Sidecar.of(request))
    assert contact_sheet(clips[:1]) != plain
    assert contact_sheet(clips[:1], notes={}) == plain
    assert contact_sheet(clips[:1], notes={clips[0]: request.prompt}) == contact_sheet(clips[:1])


def test_many_clips_make_a_sheet_that_can_still_be_opened(clips):
    sheet = opened(contact_sheet(clips * 30))
    assert sheet.width < 7000
    assert 0.5 < sheet.width / sheet.height < 3


def test_without_clips_there_is_no_sheet():
    with pytest.raises(ValueError, match="no clip"):
        contact_sheet([])
