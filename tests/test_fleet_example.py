"""examples/fleet, run as a user would run it where there is no Docker."""

import asyncio
import os
import sys
from pathlib import Path

import yaml

from seedance_async.cli.app import cli

FLEET = Path(__file__).parents[1] / "examples" / "fleet"


async def test_a_batch_has_every_video_although_a_worker_is_killed(tmp_path, postgres_dsn):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a heron\na lighthouse\na river\na storm\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", FLEET / "run.py", prompts, tmp_path / "out"),
        env=os.environ | {"SEEDANCE_QUEUE": postgres_dsn},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert out.decode().count('"state": "succeeded"') == 4
    assert len(list((tmp_path / "out" / "videos").glob("*.mp4"))) == 4
    assert b"4 submits received, 4 charged; prompts charged twice: 0" in err


def test_the_containers_run_commands_that_exist(monkeypatch):
    monkeypatch.chdir(FLEET.parent)  # where there are prompts
    monkeypatch.setenv("SEEDANCE_QUEUE", "postgresql://postgres/seedance")
    services = yaml.safe_load((FLEET / "compose.yaml").read_text())["services"]
    assert list(services) == ["postgres", "emulator", "worker", "batch"]
    for name in ("emulator", "worker", "batch"):
        program, *arguments = services[name]["command"].split()
        assert program == "seedance"
        command = cli.commands[arguments[0]]
        command.make_context(arguments[0], arguments[1:])  # raises what it would refuse
