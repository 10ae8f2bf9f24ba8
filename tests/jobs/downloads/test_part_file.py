"""The file of a download: a safe name, room on the disk, and a whole MP4."""

import re
import shutil
import struct
from collections import namedtuple

from hypothesis import given
from hypothesis import strategies as st

from seedance_async.jobs.downloads.part_file import free_space, mp4_problem, safe_file_stem
from tests.support.downloads import VIDEO, box

# --- names ---------------------------------------------------------------------------------------

HOSTILE = ["../../x", "/etc/passwd", "..", ".", "", "a\x00b", "x" * 300, "CON", "nul", "com1",
           "a b", "req.mp4", "a/b", "a\\b", "\ud800", "ré", "-rf\n", "~root"]  # fmt: skip


def test_a_hostile_request_id_is_replaced_by_its_hash():
    stems = {safe_file_stem(request_id) for request_id in HOSTILE}
    assert all(re.fullmatch(r"job-[0-9a-f]{32}", stem) for stem in stems)
    assert len(stems) == len(HOSTILE), "different ids have different names"
    assert safe_file_stem("req_1234567890") == "req_1234567890"


@given(st.text() | st.sampled_from(HOSTILE))
def test_whatever_the_request_id_its_file_name_is_one_plain_component(request_id):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", safe_file_stem(request_id))


# --- MP4 files -----------------------------------------------------------------------------------


def problem(tmp_path, data):
    path = tmp_path / "x"
    path.write_bytes(data)
    return mp4_problem(path)


def test_a_video_cut_at_any_place_is_detected(tmp_path):
    for at in [*range(0, 60), *range(60, len(VIDEO), 97)]:
        assert problem(tmp_path, VIDEO[:at]) is not None
    assert problem(tmp_path, VIDEO) is None


def test_a_long_box_and_a_last_box_without_a_length_are_valid(tmp_path):
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"12345"
    open_end = struct.pack(">I4s", 0, b"mdat") + b"12345"
    for last in (long, open_end):
        assert problem(tmp_path, box(b"ftyp") + box(b"moov") + last) is None


@given(st.binary(max_size=200))
def test_no_bytes_raise_an_exception(tmp_path_factory, data):
    problem(tmp_path_factory.mktemp("boxes"), VIDEO[:30] + data)


# --- room ----------------------------------------------------------------------------------------


Usage = namedtuple("Usage", "total used free")


async def test_the_free_space_of_a_real_folder_is_known(tmp_path, monkeypatch):
    assert free_space(tmp_path) > 0
    assert free_space(tmp_path / "missing") is None
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 0))
    assert free_space(tmp_path) is None, "some file systems report zero for everything"
