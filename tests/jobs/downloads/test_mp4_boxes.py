"""Whether a video is whole, by its boxes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async.jobs.downloads.mp4_boxes import Mp4Boxes
from tests.support.downloads import VIDEO, box

LONG = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"12345"
OPEN = struct.pack(">I4s", 0, b"mdat") + b"12345"


def problem(data, step=None):
    boxes = Mp4Boxes()
    for at in range(0, len(data), step or len(data) or 1):
        boxes.feed(data[at : at + (step or len(data))])
    return boxes.problem()


def test_a_video_cut_at_any_place_is_detected():
    for at in [*range(60), *range(60, len(VIDEO), 97)]:
        assert problem(VIDEO[:at]) is not None
    assert problem(VIDEO) is None


@pytest.mark.parametrize("last", [LONG, OPEN])
def test_a_long_box_and_a_last_box_without_a_length_are_valid(last):
    assert problem(box(b"ftyp") + box(b"moov") + last) is None


@given(st.integers(1, 40), st.sampled_from([b"", LONG, OPEN, b"\0\0\0\4free", b"123"]))
def test_it_does_not_matter_in_which_pieces_the_bytes_arrive(step, last):
    data = box(b"ftyp", b"isom") + box(b"moov", b"m" * 30) + last
    assert problem(data, step) == problem(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_an_exception(data):
    problem(VIDEO[:30] + data)
    problem(data, 3)


def test_a_page_is_known_by_its_beginning():
    for data, is_page in [(b"\xef\xbb\xbf \n<html>", True), (b"{}", True), (VIDEO, False)]:
        boxes = Mp4Boxes()
        boxes.feed(data[:2])
        boxes.feed(data[2:])
        assert boxes.is_page is is_page
