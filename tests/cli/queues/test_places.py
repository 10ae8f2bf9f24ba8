"""Where the results of a batch with a queue go: a bucket, a gallery; and a folder out of sight."""

from pathlib import Path

from seedance_async.media.sidecar import Sidecar
from tests.cli.conftest import QUICK, results
from tests.cli.queues.conftest import URL


def test_videos_in_a_bucket_have_their_sidecars_there(seedance, seedance_emulator, tmp_path):
    Path("p.txt").write_text("A river\n")
    bucket = f"file://{tmp_path}/films/"
    Path("films").mkdir()
    command = ("batch", "p.txt", "-o", bucket, "--state", "here", "--queue", URL, "--work")
    done = seedance(*command, "--run", "may", "--gallery")
    assert done.code == 0
    [made] = results("here").values()
    assert made["file"] == f"{bucket}0001-{made['request_id']}.mp4"
    sidecar = Sidecar.from_text(Path(f"films/0001-{made['request_id']}.json").read_text())
    video = Path(f"films/0001-{made['request_id']}.mp4")
    assert (sidecar.size, sidecar.line) == (video.stat().st_size, 1)
    assert "A river" in Path("here/gallery.html").read_text()
    [shown] = seedance("queue", "status", "--queue", URL, "--run", "may", "--json").records
    assert shown["ended"] == {"succeeded": 1}


def test_videos_that_cannot_be_seen_from_here_are_where_their_worker_says(
    seedance, enqueue, seedance_emulator
):
    enqueue("a")
    assert seedance("worker", "--queue", URL, *QUICK, "-o", "there", "--until-empty").code == 0
    [video] = Path("there").iterdir()
    there = str(video.absolute())
    video.unlink()
    Path("p.jsonl").write_text('{"prompt": "a", "key": "a"}\n')
    done = seedance("batch", "p.jsonl", "-o", "videos", "--queue", URL, "--work")
    assert (done.code, results()[1]["file"]) == (0, there)
    assert [path.suffix for path in Path("videos").iterdir()] == [".jsonl", ".jsonl"]
