"""The demo, once, as a person would run it: 24 outcomes, and videos that are videos."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import av
import pytest

from seedance_async import GenerationMode, SeedanceSession
from seedance_async.cli.app import run
from seedance_async.cli.console import Screen
from seedance_async.cli.demo import runner
from seedance_async.cli.demo.scenario import MISHAPS, SCENES
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.emulator import Emulator, EmulatorOptions
from tests.cli.conftest import results

LONG = {"480p": 854, "720p": 1280}


def size_of(scene):
    short = int(scene.resolution[:-1])
    long = LONG[scene.resolution]
    return {"16:9": (long, short), "9:16": (short, long), "1:1": (short, short)}[scene.aspect_ratio]


async def test_the_scenario_has_24_scenes_in_all_modes_and_six_kinds_of_mishap():
    assert len(SCENES) == len({scene.prompt for scene in SCENES}) == 24
    async with Emulator(EmulatorOptions()) as emulator:
        requests = [scene.request(emulator) for scene in SCENES]
    assert Counter(request.mode for request in requests) == dict.fromkeys(GenerationMode, 6)
    assert all(request.violations(allow_local=True) == [] for request in requests)
    assert len({(mishap.operation, mishap.fault.kind) for mishap in MISHAPS}) == 6
    assert len({mishap.line for mishap in MISHAPS}) == 6


def check_video(path, scene):
    with av.open(str(path)) as video:
        (stream,) = video.streams
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == size_of(scene)
        assert float(stream.duration * stream.time_base) == pytest.approx(scene.duration, abs=0.05)
        assert sum(1 for _ in video.decode(stream)) == scene.duration * 24


def test_the_demo_leaves_videos_results_and_an_honest_summary(capsys):
    begun = time.monotonic()
    assert run(["demo", "--seed", "3"]) == 0
    assert time.monotonic() - begun < 40
    shown = capsys.readouterr()
    assert shown.out == ""
    found = results("demo-out")
    assert sorted(found) == list(range(1, 25))
    states = Counter(record["state"] for record in found.values())
    assert states == {"succeeded": 22, "failed": 1, "uncertain": 1}
    videos = [number for number, record in found.items() if record["file"]]
    for number in videos:
        check_video(found[number]["file"], SCENES[number - 1])
    assert len(list(Path("demo-out").glob("*.mp4"))) == len(videos) == 22
    assert not list(Path("demo-out").glob(".*"))
    for mishap in MISHAPS:
        assert f"job {mishap.line}: {mishap.what}\n    → " in shown.err
    assert "the rest was downloaded with Range: bytes=" in shown.err
    assert "NOT" not in shown.err
    assert "25 submits received, 24 charged, charged twice: 0." in shown.err
    assert "The SDK agrees." in shown.err
    assert "sd2_live" not in shown.err


async def test_a_demo_that_does_not_go_as_expected_says_so_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(runner, "SCENES", SCENES[:4])
    assert await runner.play(Path("out"), 0, Screen(), speed=2000) == 1
    shown = capsys.readouterr().err
    assert "    → NOT as expected: no outcome" in shown
    assert "The SDK agrees." in shown


async def test_no_mishap_claims_what_the_records_do_not_show():
    other = Outcome(state="cancelled", prompt="something else", request_id="req_other")
    async with Emulator(EmulatorOptions()) as emulator:
        assert [mishap.found(emulator, other) for mishap in MISHAPS] == [None] * 6


async def test_an_interrupted_demo_does_not_explain_the_mishaps(monkeypatch, capsys):
    def interrupted(**options):
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        return SeedanceSession(**options)

    monkeypatch.setattr(runner, "SeedanceSession", interrupted)
    assert await runner.play(Path("out"), 0, Screen(), speed=2000) == 130
    shown = capsys.readouterr().err
    assert "Interrupted" in shown
    assert "What went wrong" not in shown
    assert sorted(results("out")) == list(range(1, 25))
