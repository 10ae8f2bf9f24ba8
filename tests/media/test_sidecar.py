"""The JSON beside a video: it rebuilds the request, and is whole or absent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.api.prepared_request import prepare
from seedance_async.media.fitting import fit_media
from seedance_async.media.sidecar import Sidecar, read_sidecar, sidecar_path, write_sidecar
from tests.media.test_pictures import stripes
from tests.support.for_each import for_each
from tests.support.pictures import PNG

REQUEST = GenerationRequest(
    prompt="A river · 川",
    media_urls=["https://a.example/b.png"],
    metadata={"b": [1.5, {"a": None}]},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda each: st.lists(each) | st.dictionaries(st.text("äb c"), each),
    max_leaves=8,
)  # fmt: skip


def test_a_sidecar_stands_beside_its_video(tmp_path):
    sidecar = Sidecar.of(
        REQUEST, key="k", request_id="req_1", credits_charged=9, line=3, take=2,
        columns={"Shot": "7"}, submitted_at=1.5, saved_at=2.5,
    )  # fmt: skip
    path = write_sidecar(tmp_path / "a.b.mp4", sidecar)
    assert path == tmp_path / "a.b.json"
    assert read_sidecar(tmp_path / "a.b.mp4") == read_sidecar(path) == sidecar
    assert read_sidecar(path).rebuilt() == REQUEST
    assert [each.name for each in tmp_path.iterdir()] == ["a.b.json"]


@given(prompt=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), metadata=JSON)
def test_the_request_is_rebuilt_byte_for_byte(prompt, metadata):
    request = GenerationRequest(prompt=f"x{prompt}", metadata={"m": metadata}, duration=5)
    sidecar = Sidecar.from_text(Sidecar.of(request).as_text())
    prepared = prepare(request)
    assert sidecar.body == prepared.body
    assert prepare(sidecar.rebuilt()).fingerprint == prepared.fingerprint


def test_files_of_this_machine_are_known_by_their_hashes(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    request = GenerationRequest(prompt="x", media_urls=[tmp_path / "a.png"])
    sidecar = Sidecar.from_text(Sidecar.of(request).as_text())
    assert sidecar.body == prepare(request, uploads=True).body
    assert sidecar.rebuilt() == request
    (tmp_path / "a.png").write_bytes(PNG + b"changed")
    (violation,) = sidecar.rebuilt().violations(uploads=True)
    assert violation.rule == "is known by its content only: give the file again"


@pytest.mark.parametrize("how", ["crop", "pad"])
def test_a_picture_that_was_fitted_is_fitted_again(tmp_path, how):
    (tmp_path / "a.jpg").write_bytes(stripes(300, 90, form="JPEG"))
    given = GenerationRequest(prompt="x", media_urls=[tmp_path / "a.jpg"], aspect_ratio="1:1")
    request = fit_media(given, how)
    sidecar = Sidecar.from_text(Sidecar.of(request).as_text())
    assert sidecar.rebuilt() == request
    assert prepare(sidecar.rebuilt(), uploads=True).body == sidecar.body
    (tmp_path / "a.jpg").write_bytes(stripes(300, 80, form="JPEG"))
    assert sidecar.rebuilt().violations(uploads=True)


def test_a_sidecar_is_replaced_but_no_other_file_is(tmp_path):
    video = tmp_path / "a.mp4"
    write_sidecar(video, Sidecar.of(REQUEST, line=1))
    write_sidecar(video, Sidecar.of(REQUEST, line=2))
    assert read_sidecar(video).line == 2
    sidecar_path(video).write_text('{"mine": true}')
    with pytest.raises(FileExistsError, match="no sidecar"):
        write_sidecar(video, Sidecar.of(REQUEST))
    assert json.loads(sidecar_path(video).read_text()) == {"mine": True}


def test_a_sidecar_that_cannot_be_written_leaves_the_one_that_is_there(tmp_path):
    video = tmp_path / "a.mp4"
    write_sidecar(video, Sidecar.of(REQUEST, line=1))
    with pytest.raises(ValueError, match="JSON"):
        write_sidecar(video, Sidecar.of(REQUEST, columns={"a": float("nan")}))
    assert read_sidecar(video).line == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_lone_surrogates_of_a_column_are_kept(tmp_path):
    write_sidecar(tmp_path / "a.mp4", Sidecar.of(REQUEST, columns={"a": "\udc80"}))
    assert read_sidecar(tmp_path / "a.mp4").columns == {"a": "\udc80"}


@for_each(
    ("text", "reason"),
    [
        ("", "no JSON"),
        ("[1]", "not the sidecar"),
        ('{"request": {}}', "not the sidecar"),
        ('{"seedance": 2, "request": {}}', "another version: 2"),
        ('{"seedance": 1, "request": "x"}', "another version"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_sidecar_is_refused(tmp_path, text, reason):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=f"a.json: .*{reason}"):
        read_sidecar(tmp_path / "a.json")


def test_fields_of_a_later_version_are_ignored():
    text = '{"seedance": 1, "request": {"prompt": "x"}, "later": 1}'
    assert Sidecar.from_text(text).rebuilt() == GenerationRequest(prompt="x")
