"""What a batch writes beside its videos, and in them; the videos come first."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from seedance_async.api.prepared_request import prepare
from seedance_async.cli.runs import beside
from seedance_async.journal import read_entries
from seedance_async.media import posters, sidecar, tags
from seedance_async.media.packets import same_packets
from seedance_async.media.sidecar import poster_path, read_sidecar
from seedance_async.media.tags import read_tags
from tests.cli.conftest import results, write_prompts
from tests.support.pictures import PNG


@pytest.fixture
def videos():
    """The videos of the folder, by line."""

    def found():
        return {number: Path(each["file"]) for number, each in sorted(results().items())}

    return found


def test_each_video_has_its_sidecar_and_its_poster(seedance, seedance_emulator, videos):
    Path("a.png").write_bytes(PNG)
    Path("shots.csv").write_text(
        "prompt,media_urls,duration,Shot\nA river · 川,a.png,5,7\nA fox,,,8\n"
    )
    assert seedance("batch", "shots.csv", "--takes", "2").code == 0
    entries = {entry.request_id: entry for entry in read_entries(Path("videos/run.db"))}
    assert len(list(Path("videos").glob("*.json"))) == len(entries) == 4
    for path in Path("videos").glob("*.mp4"):
        found = read_sidecar(path)
        entry = entries[found.request_id]
        assert found.body == entry.request.encode()
        assert (found.key, found.credits_charged) == (entry.key, entry.credits_charged)
        assert found.columns == {"Shot": "7" if found.line == 1 else "8"}
        assert prepare(found.rebuilt(), uploads=True).fingerprint == entry.fingerprint
        assert found.submitted_at < found.saved_at
        assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
        with Image.open(poster_path(path)) as poster:
            assert (poster.format, poster.width) == ("JPEG", 426)
    takes = [read_sidecar(path) for path in Path("videos").glob("*.mp4")]
    assert sorted((each.line, each.take) for each in takes) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_with_tags_the_video_tells_it_itself_and_is_not_downloaded_again(
    seedance, seedance_emulator, videos, tmp_path
):
    write_prompts(2)
    assert seedance("batch", "prompts.txt").code == 0
    before = {path: path.read_bytes() for path in videos().values()}
    assert seedance("batch", "prompts.txt", "--tags").code == 0
    for path, content in before.items():
        (tmp_path / "before.mp4").write_bytes(content)
        assert read_tags(path) == read_sidecar(path)
        assert path.read_bytes() != content
        assert same_packets(path, tmp_path / "before.mp4")
    tagged = {path: path.read_bytes() for path in before}
    seedance_emulator.faults.script("media", "not_found", match="prompt", times=None)
    for again in (("batch", "prompts.txt", "--tags"), ("batch", "prompts.txt"), ("resume",)):
        done = seedance(*again)
        assert (done.code, "not saved" in done.err) == (0, False)
    assert {path: path.read_bytes() for path in before} == tagged
    assert len(seedance_emulator.jobs) == 2


def test_what_a_killed_run_did_not_write_is_written_by_the_next(
    seedance, seedance_emulator, videos
):
    write_prompts(2)
    assert seedance("batch", "prompts.txt").code == 0
    first, second = videos().values()
    first.with_suffix(".json").unlink()
    poster_path(second).unlink()
    kept = second.with_suffix(".json").read_bytes()
    assert seedance("batch", "prompts.txt").code == 0
    assert read_sidecar(first).line == 1
    assert poster_path(second).exists()
    assert second.with_suffix(".json").read_bytes() == kept


def test_resume_writes_them_too(seedance, seedance_emulator, videos):
    write_prompts(1)
    assert seedance("batch", "prompts.txt").code == 0
    (video,) = videos().values()
    video.unlink()
    video.with_suffix(".json").unlink()
    assert seedance("resume").code == 0
    (video,) = Path("videos").glob("req_*.mp4")
    assert read_sidecar(video).request == {"prompt": "prompt 1", "model": "seedance-2.0"}
    assert read_sidecar(video).line is None
    assert poster_path(video).exists()


@pytest.mark.parametrize("broken", ["write_poster", "write_sidecar", "write_tags"])
def test_a_failure_there_harms_neither_the_run_nor_the_video(
    seedance, seedance_emulator, videos, monkeypatch, broken
):
    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(posters, "poster", fail if broken == "write_poster" else posters.poster)
    if broken == "write_sidecar":
        monkeypatch.setattr(sidecar.Sidecar, "as_text", fail)
    monkeypatch.setattr(tags, "_verify", fail if broken == "write_tags" else tags._verify)
    write_prompts(2)
    done = seedance("batch", "prompts.txt", "--tags")
    assert done.code == 0
    assert "2 succeeded, 2 videos saved" in done.err
    assert "beside the videos could not be written; the first: the disk is full" in done.err
    assert all(path.stat().st_size > 1000 for path in videos().values())


def test_a_file_of_the_request_that_is_gone_is_only_left_out(
    seedance, seedance_emulator, videos, monkeypatch
):
    Path("a.png").write_bytes(PNG)
    Path("shots.csv").write_text("prompt,media_urls\nA river,a.png\n")
    assert seedance("batch", "shots.csv").code == 0
    (video,) = videos().values()
    video.with_suffix(".json").unlink()
    video.unlink()
    Path("a.png").unlink()
    assert seedance("resume").code == 0
    (video,) = Path("videos").glob("*.mp4")
    (entry,) = read_entries(Path("videos/run.db"))
    found = read_sidecar(video)
    assert found.body == entry.request.encode()
    assert found.files == {}
    (violation,) = found.rebuilt().violations(uploads=True)
    assert "give the file again" in violation.rule


def test_pictures_and_files_of_the_user_are_not_replaced(seedance, seedance_emulator, videos):
    write_prompts(1)
    assert seedance("batch", "prompts.txt").code == 0
    (video,) = videos().values()
    video.with_suffix(".json").write_text('{"mine": true}')
    Image.new("RGB", (8, 8), "red").save(poster_path(video))
    mine = poster_path(video).read_bytes()
    done = seedance("batch", "prompts.txt")
    assert done.code == 0
    assert "2 files beside the videos could not be written" in done.err
    assert json.loads(video.with_suffix(".json").read_text()) == {"mine": True}
    assert poster_path(video).read_bytes() == mine


def test_without_the_extra_there_are_sidecars_alone(
    seedance, seedance_emulator, videos, monkeypatch
):
    write_prompts(1)
    monkeypatch.setattr(beside, "_poster_writer", lambda: None)
    done = seedance("batch", "prompts.txt")
    assert done.code == 0
    assert "could not be written" not in done.err
    (video,) = videos().values()
    assert read_sidecar(video).line == 1
    assert not poster_path(video).exists()


def test_without_the_extra_tags_are_refused_before_anything_is_bought(
    seedance, seedance_emulator, monkeypatch
):
    write_prompts(1)
    for name in ("posters", "frames", "clips"):
        monkeypatch.delitem(sys.modules, f"seedance_async.media.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    assert beside._poster_writer() is None
    done = seedance("batch", "prompts.txt", "--tags")
    assert done.code == 3
    assert "seedance-async[media]" in done.err
    assert not seedance_emulator.jobs


def test_tags_are_for_folders(seedance, seedance_emulator):
    write_prompts(1)
    done = seedance("batch", "prompts.txt", "--tags", "-o", "s3://bucket/films/")
    assert done.code == 2
    assert "--tags is for videos in a folder" in done.err
