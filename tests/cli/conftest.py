"""What the command line's tests share: running it in this process, and as a real process."""

import asyncio
import io
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from seedance_async.cli.app import run
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.journal import read_entries

JOURNAL = Path("videos/run.db")
QUICK = ("--poll-interval", "0.03")
ASKING = ("generate", "batch", "reroll", "status", "cancel", "resume")


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
    monkeypatch.setenv("SEEDANCE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SEEDANCE_ASK_ABOVE", "1000000")  # of an emulator
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
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

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


@pytest.fixture(scope="session", autouse=True)
def hangups_end_commands():
    """Commands inherit what this process does with SIGHUP, which is to ignore it under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@attrs.define
class Command:
    """The command as a real process."""

    process: asyncio.subprocess.Process
    shown: list = attrs.field(factory=list)

    def send(self, number):
        self.process.send_signal(number)

    async def until(self, words):
        """Read stderr up to the line that holds these words."""
        while line := (await self.process.stderr.readline()).decode():
            self.shown.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words} was not shown, but {self.shown}")

    async def done(self):
        out, err = await asyncio.wait_for(self.process.communicate(), 20)
        shown = "".join(self.shown) + (err or b"").decode()
        return Done(self.process.returncode, (out or b"").decode(), shown)


@asynccontextmanager
async def command(
    *args,
    served=None,
    stdin=asyncio.subprocess.DEVNULL,
    stdout=asyncio.subprocess.PIPE,
    stderr=asyncio.subprocess.PIPE,
    **environment,
):
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
        stdout=stdout,
        stderr=stderr,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def write_prompts(count):
    Path("prompts.txt").write_text("".join(f"prompt {n}\n" for n in range(1, count + 1)))


def batch(served, *args):
    return command("batch", "prompts.txt", *QUICK, *args, served=served)


def entries(**wanted):
    """The journal's entries with these values; none if there is no journal yet."""
    found = read_entries(JOURNAL) if JOURNAL.exists() else []
    return [e for e in found if all(getattr(e, name) == value for name, value in wanted.items())]


def stuck(served, count):
    """Keep the first jobs running until the test ends them."""
    served.faults.script("job", "stuck", match="prompt", times=count)


def finish_all(served):
    for job in served.jobs.values():
        if not job.is_terminal:
            served.jobs.finish(job.request_id)


async def recorded(served, count):
    """Wait until the journal has this many running jobs."""
    await served.wait_until(lambda: len(entries(state="queued")) == count)


async def running(served, count):
    """Wait until so many jobs are running and the command has polled each."""
    await served.wait_until(
        lambda: (
            served.jobs.active == count
            and all(job.polls for job in served.jobs.values() if not job.is_terminal)
        )
    )
