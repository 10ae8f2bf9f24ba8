"""The examples, run as a user would run them, against an emulator."""

import asyncio
import os
import re
import sys
from pathlib import Path

import av
import pytest

from tests.support.emulator_process import emulator_process

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "examples" / "prompts.txt"


@pytest.fixture
async def emulator():
    async with emulator_process(speed=600, seed=7, media="shared") as running:
        yield running


async def run(emulator, *arguments, cwd):
    """A Python program in a process of its own, with warnings as errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", *map(str, arguments),
        cwd=cwd,
        env=os.environ | {"SEEDANCE_BASE_URL": emulator.url, "SEEDANCE_API_KEY": emulator.api_key},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def assert_plays(path):
    with av.open(path) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in video.decode(video.streams.video[0])) >= 4 * 24


async def test_the_first_example_saves_a_video(emulator, tmp_path):
    code, out, err = await run(emulator, ROOT / "examples" / "first.py", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert_plays(tmp_path / out.partition("saved ")[2].strip())


async def test_the_first_script_of_the_readme_saves_a_video_in_every_run(emulator, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    assert len(code.strip().splitlines()) <= 15
    for runs in (1, 2):  # each run pays, so each keeps its video
        returned, _, err = await run(emulator, "readme.py", cwd=tmp_path)
        assert (returned, err) == (0, "")
        videos = list(tmp_path.glob("*.mp4"))
        assert len(videos) == runs
    for video in videos:
        assert_plays(video)


async def test_the_bulk_example_saves_a_video_of_every_prompt(emulator, tmp_path):
    code, out, err = await run(
        emulator, ROOT / "examples" / "bulk.py", PROMPTS, tmp_path / "videos", cwd=tmp_path
    )
    assert (code, err) == (0, "")
    videos = list((tmp_path / "videos").iterdir())
    assert len(videos) == out.count("saved") == len(PROMPTS.read_text().splitlines())
    for video in videos:
        assert_plays(video)


async def test_the_film_goes_on_where_it_was_and_another_shot_is_another_end(emulator, tmp_path):
    prompts = tmp_path / "shots.txt"
    for shots, bought in (["one", "two"], 2), (["one", "zwei"], 3):
        prompts.write_text("\n".join(shots))
        code, out, err = await run(
            emulator, ROOT / "examples" / "film.py", prompts, tmp_path / "film", cwd=tmp_path
        )
        assert (code, err) == (0, "")
        assert out.endswith(f"{tmp_path}/film/film.mp4: {2 * 4 * 24} frames\n")
        assert len(await emulator.ledger()) == bought


async def test_the_pipeline_makes_drafts_and_then_the_videos(emulator, tmp_path):
    code, out, err = await run(emulator, ROOT / "examples" / "pipeline.py", PROMPTS, cwd=tmp_path)
    assert (code, err) == (0, "")
    prompts = PROMPTS.read_text().splitlines()
    assert sorted(out.splitlines()) == sorted(f"succeeded: {prompt}" for prompt in prompts)
    models = [entry["body"]["model"] for entry in await emulator.ledger()]
    assert models.count("seedance-2.0-fast") == models.count("seedance-2.0") == len(prompts)


async def test_a_pipeline_that_is_broken_out_of_leaves_no_traceback(emulator, tmp_path):
    code, out, err = await run(
        emulator, ROOT / "examples" / "pipeline.py", PROMPTS, 1, cwd=tmp_path
    )
    assert code == 0
    assert out.startswith("succeeded: ")
    assert len(out.splitlines()) == 1
    assert all(line.startswith("a stream was left early: ") for line in err.splitlines())
