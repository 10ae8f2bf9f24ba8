"""Where videos go: a folder, or a bucket."""

import hashlib

import attrs
import pytest

from seedance_async import ConfigurationError, GenerationRequest, SavedFile, SeedanceSession
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.engines import Task, Work
from seedance_async.engines.results import Results
from tests.conftest import QUICK_POLL, SEED

TASK = Task("river", GenerationRequest("A river"))


async def test_a_video_in_a_bucket_is_put_once(tmp_path):
    bucket = (tmp_path / "bucket").as_uri()
    options = EmulatorOptions(seed=SEED, speed=1000.0, media="shared")
    async with Emulator(options) as emulator:
        session = SeedanceSession(
            base_url=emulator.url, api_key=emulator.api_key, poll=QUICK_POLL,
            journal=tmp_path / "run.db",
        )  # fmt: skip
        async with session:
            told = await Work(session, bucket).make(TASK)
            video = tmp_path / "bucket" / "river.mp4"
            before = video.stat().st_mtime_ns
            again = await Work(session, bucket).make(TASK)
    assert told == again
    assert told.file == f"{bucket}/river.mp4"
    assert hashlib.sha256(video.read_bytes()).hexdigest() == told.sha256
    assert video.stat().st_mtime_ns == before


async def test_a_file_is_there_only_as_it_is_on_record(tmp_path):
    results = Results.at(str(tmp_path / "new" / "videos"))
    place = results.place(TASK, "req_1")
    saved = SavedFile(place, 3, hashlib.sha256(b"abc").hexdigest())
    assert place == tmp_path / "new" / "videos" / "river.mp4"
    assert not await results.has(TASK, "req_1", None)
    assert not await results.has(TASK, "req_1", saved)
    place.write_bytes(b"abc")
    assert await results.has(TASK, "req_1", saved)
    elsewhere = SavedFile(tmp_path / "other.mp4", 3, saved.sha256)
    assert not await results.has(TASK, "req_1", elsewhere)
    place.write_bytes(b"abd")
    assert not await results.has(TASK, "req_1", saved)


def test_a_video_may_be_in_a_folder_of_its_own(tmp_path):
    place = Results(tmp_path).place(attrs.evolve(TASK, file="b/{id}.mp4"), "req_1")
    assert place == tmp_path / "b" / "req_1.mp4"
    assert place.parent.is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "videos").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"cannot be made: .*videos"):
        Results(tmp_path / "videos")


def test_results_are_taken_as_they_are(tmp_path):
    results = Results(tmp_path)
    assert Results.at(results) is results
    assert Results.at(None) is None
