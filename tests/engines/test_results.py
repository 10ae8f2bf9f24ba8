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


@pytest.fixture
async def session(tmp_path):
    options = EmulatorOptions(seed=SEED, speed=1000.0)  # each job has a video of its own
    async with Emulator(options) as emulator:
        session = SeedanceSession(
            base_url=emulator.url, api_key=emulator.api_key, poll=QUICK_POLL,
            journal=tmp_path / "run.db",
        )  # fmt: skip
        async with session:
            yield session


async def test_a_video_in_a_bucket_is_put_once(session, tmp_path):
    bucket = (tmp_path / "bucket").as_uri()
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


@pytest.mark.parametrize("bucket", [False, True])
async def test_two_videos_of_one_name_are_both_kept(session, tmp_path, bucket, caplog):
    """As of two runs whose names were made of the numbers of their lines."""
    folder = tmp_path / "videos"
    place = folder.as_uri() if bucket else folder
    tasks = [Task(key, GenerationRequest(key), "b/001.mp4") for key in ("river", "lake")]
    told = [await Work(session, place).make(task) for task in tasks]
    again = [await Work(session, place).make(task) for task in tasks]
    assert again == told
    names = ["001.mp4", f"001.{told[1].request_id}.mp4"]
    assert [each.file.rpartition("/")[2] for each in told] == names
    assert sorted(path.name for path in (folder / "b").iterdir()) == sorted(names)
    for each, name in zip(told, names, strict=True):
        assert hashlib.sha256((folder / "b" / name).read_bytes()).hexdigest() == each.sha256
    assert caplog.text.count("another video has the name b/001.mp4: that of lake") == 1


async def test_a_video_that_a_worker_saved_and_could_not_record_is_known(session, tmp_path):
    folder = tmp_path / "videos"
    job = await session.submit(TASK.request, key=TASK.key)
    Results(folder)
    async with job.stream() as video:
        (folder / "river.mp4").write_bytes(b"".join([piece async for piece in video]))
    told = await Work(session, folder).make(TASK)
    assert told.file == str(folder / "river.mp4")
    assert [path.name for path in folder.iterdir()] == ["river.mp4"]


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
