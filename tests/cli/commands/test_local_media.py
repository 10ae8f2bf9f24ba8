"""Media from this machine on the command line, against a real emulator."""

import json
import shutil
from pathlib import Path

import pytest

from seedance_async.journal import read_entries
from tests.cli.conftest import results
from tests.support.pictures import JPEG, PNG

FIFTY = 50


@pytest.fixture
def pictures():
    """A folder with a CSV of fifty prompts, and a folder of pictures in it."""
    folder = Path("film")
    (folder / "my images").mkdir(parents=True)
    rows = ["prompt,media_urls"]
    for number in range(FIFTY):
        name = f"my images/shot {number % 10}.png"
        (folder / name).write_bytes(PNG + bytes([number % 10]))
        rows.append(f"prompt {number},{name}")
    (folder / "shots.csv").write_text("\n".join(rows))
    return folder


def media_sent(emulator):
    return [job.body["mediaUrls"] for job in emulator.jobs.values()]


def test_a_csv_with_fifty_local_pictures_becomes_a_folder(seedance, seedance_emulator, pictures):
    done = seedance("batch", str(pictures / "shots.csv"))
    assert done.code == 0
    assert len(results()) == FIFTY
    assert all(url.startswith(seedance_emulator.url) for (url,) in media_sent(seedance_emulator))
    assert list(seedance_emulator.uploads.values()) == [1] * 10, "each picture is stored once"


def test_the_same_command_again_buys_and_uploads_nothing(seedance, seedance_emulator, pictures):
    assert seedance("batch", str(pictures / "shots.csv")).code == 0
    moved = pictures.rename("elsewhere")
    forecast = seedance("batch", str(moved / "shots.csv"), "--dry-run")
    assert "0 jobs would be submitted" in forecast.out
    assert seedance("batch", str(moved / "shots.csv")).code == 0
    assert len(seedance_emulator.jobs) == FIFTY
    assert sum(seedance_emulator.uploads.values()) == 10
    assert all("sha256:" in entry.request for entry in read_entries(Path("videos/run.db")))


def test_jobs_are_resumed_without_their_files(seedance, seedance_emulator, pictures):
    table = (pictures / "shots.csv").read_text().splitlines()
    (pictures / "shots.csv").write_text("\n".join(table[:3]))
    assert seedance("batch", str(pictures / "shots.csv")).code == 0
    shutil.rmtree(pictures)
    for video in Path("videos").glob("*.mp4"):
        video.unlink()
    assert seedance("resume", "videos").code == 0
    assert len(list(Path("videos").glob("*.mp4"))) == len(seedance_emulator.jobs) == 2


def test_a_picture_that_is_no_picture_stops_the_run_before_it_costs(
    seedance, seedance_emulator, pictures
):
    (pictures / "my images/shot 3.png").write_bytes(JPEG)
    (pictures / "my images/shot 4.png").unlink()
    done = seedance("batch", str(pictures / "shots.csv"))
    assert done.code == 2
    assert "4 (row 5): media_urls[0]: 'film/my images/shot 3.png' must be what its" in done.err
    assert "5 (row 6): media_urls[0]: 'film/my images/shot 4.png' must be a file that" in done.err
    assert "10 bad lines; nothing was sent" in done.err
    assert not seedance_emulator.jobs
    assert not seedance_emulator.uploads


def test_paths_and_urls_stand_side_by_side(seedance, seedance_emulator, pictures):
    url = "https://media.example/last.png"
    (pictures / "a.csv").write_text(
        f'prompt,media_urls\na,my images/shot 1.png | {url}\nb,"{url} {url}"\n'
    )
    line = {"prompt": "c", "media_urls": ["my images/shot 1.png"]}
    (pictures / "b.jsonl").write_text(json.dumps(line))
    assert seedance("batch", str(pictures / "a.csv")).code == 0
    assert seedance("batch", str(pictures / "b.jsonl"), "-o", "other").code == 0
    first, second, third = sorted(media_sent(seedance_emulator), key=len, reverse=True)
    assert {len(first), len(second), len(third)} == {1, 2}
    assert sum(seedance_emulator.uploads.values()) == 2


def test_lines_that_are_left_find_their_files_from_anywhere(seedance, seedance_emulator, pictures):
    assert seedance(
        "batch", str(pictures / "shots.csv"), "--max-credits", "400", "--no-journal"
    ).code
    bought = len(seedance_emulator.jobs)
    assert 0 < bought < FIFTY
    assert seedance("batch", "videos/remaining.jsonl", "-o", "more").code == 0
    assert len(seedance_emulator.jobs) == FIFTY
    assert len(seedance_emulator.uploads) == 10


def test_generate_takes_a_file(seedance, seedance_emulator, pictures):
    picture = pictures / "my images/shot 1.png"
    done = seedance("generate", "A river", "--media", str(picture), "-o", "a.mp4")
    assert done.code == 0
    assert Path("a.mp4").exists()
    assert media_sent(seedance_emulator)[0][0].endswith("/shot%201.png")


def test_without_a_bucket_the_refusal_says_what_to_do(seedance, monkeypatch, pictures):
    monkeypatch.setenv("SEEDANCE_BASE_URL", "https://api.example")
    monkeypatch.setenv("SEEDANCE_API_KEY", "key")
    done = seedance("batch", str(pictures / "shots.csv"), "--dry-run")
    assert done.code == 2
    assert done.err.count("give --upload a bucket") == 1
    done = seedance("generate", "A river", "--media", str(pictures / "my images/shot 1.png"))
    assert done.code == 2
    assert "give --upload a bucket" in done.err


def test_what_is_no_bucket_is_refused(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "key")
    done = seedance("generate", "A river", "--upload", "ftp://bucket", "--media", "a.png")
    assert done.code == 3
    assert "s3://bucket/prefix" in done.err
