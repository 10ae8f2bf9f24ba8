"""What the command line's tests share: running it in this process, and as a real process."""

import asyncio
import io
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from seedance_async.cli.app import run
from seedance_async.emulator import Emulator, EmulatorOptions

QUICK = ("--poll-interval", "0.03")
ASKING = ("generate", "batch", "status", "cancel", "resume")


@attrs.frozen
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("SEEDANCE_API_KEY", "SEEDANCE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def seedance(capsys, monkeypatch):
    """Run a command line in this process."""

    def command(*args, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(
                sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(stdin)))
            )
        code = run([*args[:1], *(QUICK if args[0] in ASKING else ()), *args[1:]])
        told = capsys.readouterr()
        return Done(code, told.out, told.err)

    return command


def results(folder="videos"):
    """The outcomes in a folder's results.jsonl, by line."""
    text = (Path(folder) / "results.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.split("\n") if line]
    assert len({record["line"] for record in records}) == len(records)
    return {record["line"]: record for record in records}


@asynccontextmanager
async def emulator(**options):
    """An emulator in this event loop, so that a test can wait for what happens in it."""
    options = {"speed": 600.0, "media": "shared", **options}
    async with asyncio.timeout(30), Emulator(EmulatorOptions(**options)) as running:
        yield running


@attrs.define
class Command:
    """The command as a real process."""

    process: asyncio.subprocess.Process
    told: list = attrs.field(factory=list)

    def send(self, number):
        self.process.send_signal(number)

    async def until(self, words):
        """Read stderr up to the line that holds these words."""
        while line := (await self.process.stderr.readline()).decode():
            self.told.append(line)
            if words in line:
                return line
        raise AssertionError(f"never told: {words}; but {self.told}")

    async def done(self):
        out, err = await asyncio.wait_for(self.process.communicate(), 20)
        return Done(self.process.returncode, out.decode(), "".join(self.told) + err.decode())


@asynccontextmanager
async def command(*args, served=None, stdin=asyncio.subprocess.DEVNULL, **environment):
    """Start `python -m seedance_async.cli` in the current folder."""
    environment = {**os.environ, "PYTHONWARNINGS": "error", **environment}
    if served is not None:
        environment |= {"SEEDANCE_BASE_URL": served.url, "SEEDANCE_API_KEY": served.api_key}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "seedance_async.cli",
        *args,
        env=environment,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
