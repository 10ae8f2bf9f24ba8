"""The file of a download: a safe name, and room on the disk."""

import re
import shutil
from collections import namedtuple

from hypothesis import given
from hypothesis import strategies as st

from seedance_async.jobs.downloads.part_file import free_space, safe_file_stem

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


# --- room ----------------------------------------------------------------------------------------


Usage = namedtuple("Usage", "total used free")


async def test_the_free_space_of_a_real_folder_is_known(tmp_path, monkeypatch):
    assert free_space(tmp_path) > 0
    assert free_space(tmp_path / "missing") is None
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, 0))
    assert free_space(tmp_path) is None, "some file systems report zero for everything"
