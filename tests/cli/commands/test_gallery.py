"""`seedance gallery`: a folder in, a page beside its videos out."""

import json
import os
import signal
import time
from pathlib import Path

import aiohttp

from seedance_async import JobState
from seedance_async.cli.runs.shots import ShotFolder
from seedance_async.emulator.render import Picture, render
from tests.cli.conftest import batch, command, emulator, results, stuck, write_prompts
from tests.media.gallery.test_page import data_of

PAGE = Path("videos/gallery.html")


def shots_of(text):
    return {shot.get("line"): shot for shot in data_of(text)["shots"]}


def test_the_page_shows_each_line_with_its_video_or_the_reason(seedance, seedance_emulator):
    Path("shots.csv").write_text(
        "prompt,resolution,duration,scene\nA river,480p,4,opening\nA storm,720p,5,sea\n"
    )
    seedance_emulator.faults.script("job", "failed", match="storm")
    assert seedance("batch", "shots.csv").code == 1
    done = seedance("gallery", "videos")
    assert (done.code, done.out.strip()) == (0, str(PAGE))
    assert done.err.strip() == "1 video, 1 failed"
    shots = shots_of(PAGE.read_text("utf-8"))
    river, storm = shots[1], shots[2]
    assert river["request"]["resolution"] == "480p"
    assert river["columns"] == {"scene": "opening"}
    assert Path("videos", river["video"]).read_bytes()
    assert Path("videos", river["poster"]).read_bytes().startswith(b"\xff\xd8")
    assert river["credits"] == results()[1]["credits_charged"] > 0
    assert (river["state"], river["mode"], "take" in river) == ("succeeded", "text", False)
    assert (storm["state"], "video" in storm) == ("failed", False)
    assert storm["error"] == "The prompt was refused by content moderation"


async def test_a_served_page_follows_a_batch_from_running_to_saved():
    write_prompts(2)
    async with emulator() as served:
        stuck(served, 1)
        async with (
            batch(served) as run,
            command("gallery", "videos", "--serve", "--port", "0") as page,
        ):
            url = (await page.process.stdout.readline()).decode().strip()
            async with aiohttp.ClientSession() as session, session.get(f"{url}events") as events:
                states = {}
                async for line in events.content:
                    if line.startswith(b"data: "):
                        for shot in json.loads(line.removeprefix(b"data: "))["shots"]:
                            states[shot["request"]["prompt"]] = shot["state"]
                    if sorted(states.values()) == ["running", "succeeded"]:
                        for job in list(served.jobs.values()):
                            if not job.is_terminal:
                                served.jobs.finish(job.request_id)
                    if sorted(states.values()) == ["succeeded", "succeeded"]:
                        break
            page.send(signal.SIGINT)
            assert (await page.done()).code == 0
            assert (await run.done()).code == 0


def test_a_folder_of_videos_alone_has_a_page():
    Path("clips").mkdir()
    for name in ("b.mp4", "a #1.mp4", ".part.mp4", "notes.txt"):
        Path("clips", name).write_bytes(b"no video")
    shots = ShotFolder.of(Path("clips")).read()
    assert [shot.video.name for shot in shots] == ["a #1.mp4", "b.mp4"]
    assert {shot.state for shot in shots} == {JobState.SUCCEEDED}
    assert len({shot.id for shot in shots}) == 2


def test_an_empty_folder_is_refused(seedance):
    Path("videos").mkdir()
    done = seedance("gallery")
    assert done.code == 2
    assert "videos has no results, no journal and no videos" in done.err
    assert not PAGE.exists()


def test_a_folder_that_moved_has_its_videos(seedance):
    Path("elsewhere/sea").mkdir(parents=True)
    Path("elsewhere/sea/1.mp4").write_bytes(b"v")
    record = {"line": 1, "prompt": "p", "state": "succeeded", "file": "/gone/videos/sea/1.mp4"}
    Path("elsewhere/results.jsonl").write_text(json.dumps(record) + '\n{"line": 2, "pro')
    assert seedance("gallery", "elsewhere").code == 0
    shots = shots_of(Path("elsewhere/gallery.html").read_text("utf-8"))
    assert shots[1]["video"] == "sea/1.mp4"
    assert len(shots) == 1


def test_the_key_is_not_on_the_page(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_secret_key")
    Path("videos").mkdir()
    error = {"type": "APIError", "message": "no account for sd2_live_secret_key"}
    record = {"line": 1, "prompt": "p", "state": "rejected", "error": error}
    Path("videos/results.jsonl").write_text(json.dumps(record) + "\n")
    seedance("gallery")
    assert shots_of(PAGE.read_text("utf-8"))[1]["error"] == "no account for ***"


def test_files_of_this_machine_are_named_again_for_the_export():
    Path("videos").mkdir()
    Path("videos/1.mp4").write_bytes(b"v")
    sidecar = {
        "seedance": 1,
        "request": {"prompt": "p", "mediaUrls": ["https://a.example/1.png", "local:1"]},
        "files": {"local:1": "images/river.jpg"},
        "line": 7,
    }
    Path("videos/1.json").write_text(json.dumps(sidecar))
    (shot,) = ShotFolder.of(Path("videos")).read()
    assert shot.request["mediaUrls"] == ["https://a.example/1.png", "images/river.jpg"]
    assert shot.line == 7


def test_a_video_without_a_poster_gets_one_once_no_run_is_about_to_write_it(seedance):
    Path("videos").mkdir()
    for name, age in (("old", 100), ("fresh", 0)):
        video = Path(f"videos/{name}.mp4")
        render(Picture(name, "", "240p", "16:9", 1), video)
        os.utime(video, (time.time() - age, time.time() - age))
    Path("videos/broken.mp4").write_bytes(b"no video")
    os.utime("videos/broken.mp4", (0, 0))
    assert seedance("gallery").code == 0
    shots = data_of(PAGE.read_text("utf-8"))["shots"]
    posters = {shot["video"]: shot.get("poster") for shot in shots}
    assert posters == {"broken.mp4": None, "fresh.mp4": None, "old.mp4": "old.jpg"}
    assert Path("videos/old.jpg").is_file()


def test_a_video_in_a_bucket_is_told_of():
    Path("videos").mkdir()
    record = {"line": 1, "prompt": "p", "state": "succeeded", "file": "s3://bucket/films/1.mp4"}
    Path("videos/results.jsonl").write_text(json.dumps(record) + "\n")
    (shot,) = ShotFolder.of(Path("videos")).read()
    assert (shot.video, shot.next_step) == (None, "saved as s3://bucket/films/1.mp4")


def test_a_batch_writes_the_page_at_its_end(seedance, seedance_emulator):
    write_prompts(1)
    done = seedance("batch", "prompts.txt", "--gallery")
    assert done.code == 0
    assert f"Gallery: {PAGE}" in done.err
    assert shots_of(PAGE.read_text("utf-8"))[1]["state"] == "succeeded"
    PAGE.unlink()
    assert seedance("batch", "prompts.txt", "--gallery", "--dry-run").code == 0
    assert not PAGE.exists()


def test_a_page_that_cannot_be_written_leaves_a_run_as_it_is(seedance, seedance_emulator):
    write_prompts(1)
    PAGE.mkdir(parents=True)
    done = seedance("batch", "prompts.txt", "--gallery")
    assert done.code == 0
    assert "the gallery could not be written" in done.err
    assert seedance("gallery").code == 2
