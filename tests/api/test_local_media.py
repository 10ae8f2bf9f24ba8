"""Reference media on this machine: recognised by their first bytes, known by their content."""

import io
import json
from pathlib import Path

import pytest

from seedance_async import GenerationMode, GenerationRequest, InvalidRequestError, load_request
from seedance_async.api.local_media import LocalMedium, is_local, local_medium
from seedance_async.api.prepared_request import dump_request, fingerprint_of, prepare
from tests.support.for_each import for_each
from tests.support.pictures import JPEG, MP4, PNG, WAV

BEGINNINGS = {
    ".jpg": b"\xff\xd8\xff\xe0", ".png": b"\x89PNG\r\n\x1a\n", ".gif": b"GIF89a", ".bmp": b"BM12",
    ".webp": b"RIFF\x00\x00\x00\x00WEBP", ".mp4": b"\x00\x00\x00\x18ftypisom",
    ".mov": b"\x00\x00\x00\x18ftypqt  ", ".m4v": b"\x00\x00\x00\x18ftypM4V ",
    ".webm": b"\x1a\x45\xdf\xa3", ".mkv": b"\x1a\x45\xdf\xa3", ".avi": b"RIFF\x00\x00\x00\x00AVI ",
    ".mp3": b"ID3\x04", ".wav": b"RIFF\x00\x00\x00\x00WAVE", ".ogg": b"OggS", ".flac": b"fLaC",
    ".aac": b"\xff\xf1\x50\x80", ".m4a": b"\x00\x00\x00\x18ftypM4A ", ".jpeg": b"\xff\xd8\xff\xdb",
}  # fmt: skip


@for_each("suffix", BEGINNINGS)
def test_each_format_is_recognised_and_no_other_name_fits(tmp_path, suffix):
    path = tmp_path / f"a file{suffix.upper()}"
    path.write_bytes(BEGINNINGS[suffix] + b"rest")
    medium = local_medium(path)
    assert medium.name == path.name
    assert medium.size == len(BEGINNINGS[suffix]) + 4
    assert medium.read() == path.read_bytes()
    other = ".png" if suffix != ".png" else ".gif"
    wrong = path.rename(tmp_path / f"b{other}")
    with pytest.raises(ValueError, match="must be what its name says"):
        local_medium(wrong)


def test_a_medium_that_is_far_too_large_is_refused_without_being_read(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(ValueError, match=r"must have at most 209,715,200 bytes, and has 21,474,"):
        local_medium(path)
    monkeypatch.setattr("seedance_async.api.local_media.MAX_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10 bytes, and has 12"):
        local_medium(BEGINNINGS[".png"] + b"1234")


@for_each(
    ("content", "rule"),
    [
        (b"", "must not be empty"),
        (b"hello", "of a known format"),
        (b"\x00\x00\x00\x18ftypheic", "of a known format"),
    ],
)
def test_what_is_no_medium_is_refused(tmp_path, content, rule):
    (tmp_path / "a.png").write_bytes(content)
    for source in (tmp_path / "a.png", content):
        with pytest.raises(ValueError, match=rule):
            local_medium(source)


def test_a_file_must_exist_and_be_one(tmp_path):
    with pytest.raises(ValueError, match="must be a file that exists"):
        local_medium(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="must be a file that exists"):
        local_medium(str(tmp_path / "no" / "where.png"))
    with pytest.raises(ValueError, match="must be a file"):
        local_medium(tmp_path)


def test_what_is_a_url_and_what_a_file():
    for file in ("a.png", "./a b.png", "/a.png", "C:\\a.png", "C:/a.png", Path("a"), b"x"):
        assert is_local(file)
    for other in ("https://a/b.png", "http:a", "data:x", "file:///a", "//a/b", "", " ", 5, None):
        assert not is_local(other)


def test_a_request_is_known_by_the_content_wherever_it_lies(tmp_path):
    (tmp_path / "one.png").write_bytes(PNG)
    (tmp_path / "other.png").write_bytes(PNG)
    sources = [tmp_path / "one.png", str(tmp_path / "other.png"), PNG, io.BytesIO(PNG)]
    found = {
        prepare(GenerationRequest("x", media_urls=[source]), uploads=True).fingerprint
        for source in sources
    }
    assert len(found) == 1
    (tmp_path / "other.png").write_bytes(PNG + b"more")
    changed = GenerationRequest("x", media_urls=[tmp_path / "other.png"])
    assert prepare(changed, uploads=True).fingerprint not in found


def test_the_stand_ins_are_kept_and_the_urls_are_sent(tmp_path):
    (tmp_path / "river.png").write_bytes(PNG)
    url = "https://media.example/last.mp4"
    request = GenerationRequest("x", media_urls=[tmp_path / "river.png", url, MP4])
    prepared = prepare(request, uploads=True)
    river, film = prepared.local[0], prepared.local[2]
    assert json.loads(prepared.body)["mediaUrls"] == [
        f"sha256:{river.sha256}/river.png",
        url,
        f"sha256:{film.sha256}/{film.sha256[:16]}.mp4",
    ]
    sent = prepared.with_media({0: "https://a.example/0", 2: "https://a.example/2"})
    assert json.loads(sent.body)["mediaUrls"] == ["https://a.example/0", url, "https://a.example/2"]
    assert prepared.with_callback_url("https://hook.example/").local == prepared.local


def test_what_an_earlier_run_kept_is_no_file_any_more():
    kept = load_request(dump_request(GenerationRequest("x", media_urls=[PNG])))
    assert fingerprint_of(dump_request(kept)) == fingerprint_of(
        dump_request(GenerationRequest("x", media_urls=[PNG]))
    )
    with pytest.raises(InvalidRequestError, match="give the file again"):
        prepare(kept, uploads=True)


def test_the_mode_follows_from_the_files(tmp_path):
    for media, mode in [
        ([PNG], GenerationMode.FIRST_FRAME),
        (["a.png", JPEG], GenerationMode.FIRST_AND_LAST_FRAME),
        ([Path("a.mp4")], GenerationMode.MULTIMODAL),
        ([PNG, WAV], GenerationMode.MULTIMODAL),
    ]:
        assert GenerationRequest("x", media_urls=media).mode == mode


def test_a_repr_shows_no_content():
    assert "bytes" in repr(GenerationRequest("x", media_urls=[PNG]))
    assert len(repr(GenerationRequest("x", media_urls=[PNG * 1000]))) < 300


def test_a_file_that_changed_after_the_check_is_not_sent(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    medium = local_medium(tmp_path / "a.png")
    assert isinstance(medium, LocalMedium)
    (tmp_path / "a.png").write_bytes(PNG + b"!")
    with pytest.raises(ValueError, match=r"a\.png was changed"):
        medium.read()


def test_each_file_of_a_request_is_refused_by_its_place(tmp_path):
    (tmp_path / "a.png").write_bytes(JPEG)
    request = GenerationRequest("x", media_urls=[tmp_path / "a.png", tmp_path / "no.png"])
    rules = [(each.field, each.rule) for each in request.violations(uploads=True)]
    assert rules == [
        ("media_urls[0]", "must be what its name says: it is a JPEG image, not .png"),
        ("media_urls[1]", "must be a file that exists, or a public https:// URL"),
    ]
