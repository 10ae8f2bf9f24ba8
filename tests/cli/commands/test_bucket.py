"""Batches whose videos go to a bucket, against a server that speaks S3."""

import hashlib
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from seedance_async.journal import read_entries
from seedance_async.media.sidecar import Sidecar
from tests.cli.conftest import results
from tests.support.pictures import PNG
from tests.support.s3 import environment_of, options_of, s3_server

STATE = Path("films-may")
OUTPUT = ("-o", "s3://films/may/")


@pytest.fixture(scope="module")
def server():
    with s3_server("films") as url:
        yield url


@pytest.fixture
def bucket(server, monkeypatch):
    """The prefix of the bucket, empty."""
    for name, value in environment_of(server).items():
        monkeypatch.setenv(name, value)
    store = S3Store("films", prefix="may", **options_of(server))
    yield store
    obstore.delete(store, list(objects_in(store)))


@pytest.fixture
def prompts():
    Path("prompts.txt").write_text("A river\nA sea\nA lake\n")


def objects_in(store):
    return {meta["path"]: meta["size"] for metas in obstore.list(store) for meta in metas}


def sizes(store):
    return {name: size for name, size in objects_in(store).items() if name.endswith(".mp4")}


def fetched(emulator):
    return len(emulator.media_requests)


def test_a_table_of_fifty_pictures_becomes_a_folder_and_a_page_by_one_command(
    seedance, seedance_emulator, bucket
):
    """Each picture is put into the bucket once, however many lines name it."""
    rows = ["prompt,media_urls"]
    for number in range(50):
        picture = Path(f"shot {number}.png")
        picture.write_bytes(PNG + bytes([number]))
        rows.append(f"prompt {number},{picture}")
    rows += [f"from the left {number},shot {number}.png" for number in range(10)]
    Path("shots.csv").write_text("\n".join(rows))
    done = seedance("batch", "shots.csv", "--upload", "s3://films/may/inputs", "--gallery")
    assert done.code == 0, done.err
    stored = [name for name in objects_in(bucket) if name.startswith("inputs/")]
    assert len(stored) == 50
    assert all(
        "Signature" in url
        for job in seedance_emulator.jobs.values()
        for url in job.body["mediaUrls"]
    )
    videos = sorted(path.name for path in Path("videos").glob("*.mp4"))
    page = Path("videos/gallery.html").read_text()
    assert len(videos) == 60
    assert all(name in page for name in videos)


def test_a_batch_fills_a_bucket_and_is_recorded_here(seedance, seedance_emulator, bucket, prompts):
    done = seedance("batch", "prompts.txt", *OUTPUT)
    assert done.code == 0, done.err
    assert "3 videos saved" in done.err
    found = results(STATE)
    objects = sizes(bucket)
    for entry in read_entries(STATE / "run.db"):
        name = entry.path.removeprefix("s3://films/may/")
        data = bytes(obstore.get(bucket, name).bytes())
        assert (objects[name], hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)
    assert {found[n]["file"] for n in (1, 2, 3)} == {f"s3://films/may/{name}" for name in objects}
    assert sorted(path.name for path in STATE.iterdir() if path.suffix == ".mp4") == []


def test_the_same_command_again_buys_and_fetches_only_what_is_missing(
    seedance, seedance_emulator, bucket, prompts
):
    assert seedance("batch", "prompts.txt", *OUTPUT).code == 0
    before = sizes(bucket)
    lost = results(STATE)[2]["file"].removeprefix("s3://films/may/")
    obstore.delete(bucket, lost)
    count = fetched(seedance_emulator)
    assert seedance("batch", "prompts.txt", *OUTPUT).code == 0
    assert fetched(seedance_emulator) == count + 1
    assert sizes(bucket) == before
    assert len(seedance_emulator.jobs) == 3


def test_resume_knows_the_bucket_of_a_batch(seedance, seedance_emulator, bucket, prompts):
    assert seedance("batch", "prompts.txt", *OUTPUT, "--state", "here").code == 0
    before = sizes(bucket)
    obstore.delete(bucket, list(before))
    done = seedance("resume", "here")
    assert done.code == 0, done.err
    assert sorted(sizes(bucket).values()) == sorted(before.values())
    assert "Nothing to resume" in seedance("resume", "here").err
    assert seedance("resume", "here", "-o", "s3://films/may/other/").code == 0
    assert len(sizes(bucket)) == 2 * len(before)


def test_a_sidecar_is_beside_each_video(seedance, seedance_emulator, bucket, prompts):
    assert seedance("batch", "prompts.txt", *OUTPUT).code == 0
    entries = {entry.request_id: entry for entry in read_entries(STATE / "run.db")}
    names = [name for name in objects_in(bucket) if name.endswith(".json")]
    assert {name.replace(".json", ".mp4") for name in names} == set(sizes(bucket))
    for name in names:
        found = Sidecar.from_text(bytes(obstore.get(bucket, name).bytes()))
        assert found.body == entries[found.request_id].request.encode()
    obstore.delete(bucket, names[:1])
    obstore.put(bucket, names[1], b'{"mine": true}')
    obstore.delete(bucket, [names[1].replace(".json", ".mp4")])
    done = seedance("batch", "prompts.txt", *OUTPUT)
    assert done.code == 0
    assert "1 file beside the videos could not be written" in done.err
    assert set(names) < set(objects_in(bucket))
    assert bytes(obstore.get(bucket, names[1]).bytes()) == b'{"mine": true}'


def test_a_reroll_goes_to_the_bucket_of_its_batch(seedance, seedance_emulator, bucket, prompts):
    assert seedance("batch", "prompts.txt", *OUTPUT).code == 0
    assert seedance("reroll", str(STATE), "2").code == 0
    assert [name for name in sizes(bucket) if name.startswith("0002-take2-")]
    assert len(sizes(bucket)) == 4
    assert seedance("batch", "prompts.txt", *OUTPUT).code == 0
    assert len(seedance_emulator.jobs) == 4


def test_names_in_a_bucket_are_those_of_the_template(seedance, seedance_emulator, bucket, prompts):
    command = ("batch", "prompts.txt", *OUTPUT, "--name", "{line}-{slug}")
    assert seedance(*command).code == 0
    assert set(sizes(bucket)) == {"1-a-river.mp4", "2-a-sea.mp4", "3-a-lake.mp4"}
    assert seedance(*command).code == 0
    Path("prompts.txt").write_text("A river!\n")
    done = seedance(*command, "--leave-unmatched")
    assert done.code == 2
    assert "there is another file of that name" in done.err
    assert len(seedance_emulator.jobs) == 3


@pytest.mark.parametrize(
    ("output", "words"),
    [("s3://nowhere/", "cannot be written"), ("ftp://films/", "a bucket is s3://bucket")],
)
def test_a_bucket_that_cannot_be_used_costs_nothing(
    seedance, seedance_emulator, bucket, prompts, output, words
):
    done = seedance("batch", "prompts.txt", "-o", output)
    assert done.code == 3
    assert words in done.err
    assert not seedance_emulator.jobs


def test_a_folder_has_the_record_of_one_bucket(seedance, seedance_emulator, bucket, prompts):
    STATE.mkdir()
    (STATE / "bucket.txt").write_text("s3://other/\n")
    done = seedance("batch", "prompts.txt", *OUTPUT)
    assert done.code == 2
    assert "has the record of a batch into s3://other/" in done.err
    done = seedance("batch", "prompts.txt", "-o", "folder", "--state", "here")
    assert "--state is for a bucket" in done.err
    assert not seedance_emulator.jobs


def test_a_folder_named_by_a_url_is_a_bucket_too(seedance, seedance_emulator, prompts, tmp_path):
    url = (tmp_path / "store").as_uri()
    assert seedance("batch", "prompts.txt", "-o", url, "--state", "here").code == 0
    assert {r["file"] for r in results("here").values()} == {
        path.as_uri() for path in (tmp_path / "store").glob("*.mp4")
    }
    assert seedance("batch", "prompts.txt", "-o", url, "--state", "here").code == 0
    assert len(seedance_emulator.jobs) == 3
