"""The sidecar within a real video: frames and sound stay, and nothing unusual is touched."""

import os
import struct

import av
import pytest

from seedance_async import GenerationRequest
from seedance_async.emulator.render import Picture, render
from seedance_async.media import tags
from seedance_async.media.boxes import box, movable_index, places_of
from seedance_async.media.packets import same_packets
from seedance_async.media.sidecar import Sidecar
from seedance_async.media.tags import read_tags, write_tags
from tests.support.clips import frame_levels, level, write_clip

PROMPT = "A river in autumn · 川"
SIDECAR = Sidecar.of(
    GenerationRequest(prompt=PROMPT, metadata={"b": [1.5, None]}), request_id="req_1", line=3
)
FASTSTART = {"options": {"movflags": "+faststart"}}


@pytest.fixture(params=["index last", "index first", "with sound", "64-bit places"])
def clip(request, tmp_path):
    path = tmp_path / "a.mp4"
    if request.param == "64-bit places":
        write_clip(path, 30, **FASTSTART)
        path.write_bytes(with_wide_places(path.read_bytes()))
        return path
    options = {} if request.param == "index last" else FASTSTART
    return write_clip(path, 30, sound=request.param == "with sound", **options)


def with_wide_places(data):
    """A file whose table of places has 64 bits for each."""
    table = data.index(b"stco") - 4
    length = int.from_bytes(data[table : table + 4], "big")
    count = int.from_bytes(data[table + 12 : table + 16], "big")
    places = struct.unpack(f">{count}I", data[table + 16 : table + length])
    wide = [place + 4 * count for place in places]
    new = box(b"co64", data[table + 8 : table + 16] + struct.pack(f">{count}Q", *wide))
    whole = bytearray(data[:table] + new + data[table + length :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):
        at = whole.index(kind) - 4
        length = int.from_bytes(whole[at : at + 4], "big")
        whole[at : at + 4] = (length + 4 * count).to_bytes(4, "big")
    return bytes(whole)


def metadata(path):
    with av.open(str(path)) as container:
        return dict(container.metadata)


def test_the_tags_are_in_the_video_and_the_frames_are_the_same(tmp_path, clip):
    before = clip.read_bytes()
    (tmp_path / "before.mp4").write_bytes(before)
    os.utime(clip, (1_000_000, 1_000_000))
    write_tags(clip, SIDECAR)
    assert read_tags(clip) == SIDECAR
    assert read_tags(clip).body == SIDECAR.body
    assert same_packets(tmp_path / "before.mp4", clip)
    assert frame_levels(clip) == [level(number) for number in range(30)]
    found, old = metadata(clip), metadata(tmp_path / "before.mp4")
    assert found.pop("description") == PROMPT
    assert Sidecar.from_text(found.pop("comment")) == SIDECAR
    assert found == old
    assert clip.stat().st_mtime == 1_000_000
    assert len(list(tmp_path.iterdir())) == 2


def test_tags_are_replaced_and_those_of_others_are_kept(clip):
    write_tags(clip, SIDECAR)
    size = clip.stat().st_size
    write_tags(clip, Sidecar.of(GenerationRequest(prompt="short"), line=9))
    assert read_tags(clip).line == 9
    assert clip.stat().st_size < size
    assert "encoder" in metadata(clip)
    assert metadata(clip)["description"] == "short"


def test_a_video_as_the_emulator_renders_it_takes_tags(tmp_path):
    clip = tmp_path / "a.mp4"
    render(Picture("A river", "", "240p", "16:9", 4), clip)
    write_tags(clip, SIDECAR)
    assert read_tags(clip) == SIDECAR


def test_a_video_without_tags_has_none(tmp_path):
    assert read_tags(write_clip(tmp_path / "a.mp4", 3)) is None
    (tmp_path / "b.mp4").write_bytes(b"<html>")
    assert read_tags(tmp_path / "b.mp4") is None
    (tmp_path / "c.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-1])
    assert read_tags(tmp_path / "c.mp4") is None


def fragmented(data):
    return data + box(b"moof", b"")


def with_credentials(data):
    return data + box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481") + b"signed")


def with_two_indexes(data):
    return data + box(b"moov", b"")


def without_its_end(data):
    return data[:-1]


def with_other_metadata(data):
    return data.replace(b"mdirappl", b"mdtaappl")


def with_a_damaged_index(data):
    return data.replace(b"\x00\x00\x00\x6cmvhd", b"\x00\x00\x00\x07mvhd")


def with_a_short_table(data):
    at = data.index(b"stco") + 8
    count = int.from_bytes(data[at : at + 4], "big") + 1
    return data[:at] + count.to_bytes(4, "big") + data[at + 4 :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (fragmented, "fragments"),
        (with_credentials, "content credentials"),
        (with_two_indexes, "no index, or several"),
        (without_its_end, "no whole MP4"),
        (with_other_metadata, "metadata of another kind"),
        (with_a_damaged_index, "index is damaged"),
        (with_a_short_table, "table of places"),
    ],
)
def test_an_unusual_video_is_left_as_it_is(tmp_path, change, reason):
    clip = write_clip(tmp_path / "a.mp4", 5)
    before = change(clip.read_bytes())
    assert before != clip.read_bytes()
    clip.write_bytes(before)
    with pytest.raises(ValueError, match=rf"a\.mp4 is left without tags: .*{reason}"):
        write_tags(clip, SIDECAR)
    assert clip.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fault", ["moved wrongly", "other tags"])
def test_a_video_that_would_not_be_the_same_is_left_as_it_is(tmp_path, monkeypatch, fault):
    clip = write_clip(tmp_path / "a.mp4", 5, **FASTSTART)
    before = clip.read_bytes()
    if fault == "moved wrongly":
        monkeypatch.setattr(tags, "moved", lambda content, begins, by: content)
    else:
        monkeypatch.setattr(tags, "read_tags", lambda path: None)
    with pytest.raises(ValueError, match="left without tags"):
        write_tags(clip, SIDECAR)
    assert clip.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_table_without_room_is_no_risk(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5, **FASTSTART)
    data = bytearray(clip.read_bytes())
    at = data.index(b"stco") + 12
    data[at : at + 4] = (2**32 - 1).to_bytes(4, "big")
    clip.write_bytes(data)
    with pytest.raises(ValueError, match="table of places cannot be written again"):
        write_tags(clip, SIDECAR)


def test_a_link_stays_a_link(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5)
    (tmp_path / "link.mp4").symlink_to(clip)
    write_tags(tmp_path / "link.mp4", SIDECAR)
    assert (tmp_path / "link.mp4").is_symlink()
    assert read_tags(clip) == SIDECAR


def test_an_index_is_found_where_it_is(tmp_path):
    last, first = write_clip(tmp_path / "a.mp4", 3), write_clip(tmp_path / "b.mp4", 3, **FASTSTART)
    with last.open("rb") as one, first.open("rb") as other:
        assert movable_index(places_of(one)).end == last.stat().st_size
        assert movable_index(places_of(other)).end < first.stat().st_size


@pytest.mark.parametrize("step", ["_copy_with", "os.fsync", "_verify", "shutil.copystat"])
def test_wherever_it_breaks_off_the_video_is_whole(tmp_path, monkeypatch, step):
    clip = write_clip(tmp_path / "a.mp4", 5, **FASTSTART)
    before = clip.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"seedance_async.media.tags.{step}", fail)
    with pytest.raises(OSError, match="No space"):
        write_tags(clip, SIDECAR)
    assert clip.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_is_replaced(tmp_path):
    clip = write_clip(tmp_path / "a.mp4", 5)
    (tmp_path / ".a.mp4.tags").write_bytes(b"half a video" * 100_000)
    write_tags(clip, SIDECAR)
    assert read_tags(clip) == SIDECAR
    assert len(list(tmp_path.iterdir())) == 1
