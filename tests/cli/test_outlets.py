"""What a command does when stdout or stderr breaks: everything else."""

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from seedance_async.cli.app import run
from seedance_async.cli.outlets import Outlet, guarded
from tests.cli.conftest import QUICK, command, emulator, finish_all, results, stuck, write_prompts


class Broken(io.StringIO):
    """A stream without a descriptor, that breaks at the first write."""

    def __init__(self, error):
        super().__init__()
        self.error, self.tried = error, 0

    def write(self, text):
        self.tried += 1
        raise self.error


LEFT = BrokenPipeError(errno.EPIPE, "Broken pipe")
CLOSED = ValueError("I/O operation on closed file")
FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def prompts():
    write_prompts(3)


@pytest.fixture
def full():
    if not (path := Path("/dev/full")).exists():
        pytest.skip("there is no full disk")
    with path.open("w") as stream:
        yield stream.fileno()


@pytest.mark.usefixtures("prompts")
@pytest.mark.parametrize("options", [("--events", "-"), ("--verbose",)])
async def test_a_reader_that_leaves_ends_no_run(options):
    """As in `2>&1 | head -1`: the rest is silent, and nothing is lost."""
    reader, writer = os.pipe()
    async with emulator() as served:
        stuck(served, 3)
        streams = {"stdout": writer, "stderr": writer}
        async with command("batch", "prompts.txt", *QUICK, *options, served=served, **streams) as c:
            os.close(writer)
            await served.wait_until(lambda: served.jobs.active == 3)
            os.close(reader)
            finish_all(served)
            assert (await c.done()).code == 0
    assert len(results()) == 3
    assert all(each["file"] for each in results().values())


@pytest.mark.usefixtures("prompts")
async def test_results_that_stdout_cannot_take_are_on_stderr_and_the_run_goes_on(full):
    batch = ("batch", "prompts.txt", *QUICK, "--json")
    async with emulator() as served, command(*batch, served=served, stdout=full) as process:
        done = await process.done()
    assert done.code == 6
    assert done.err.count("stdout cannot be written") == 1
    assert "Traceback" not in done.err
    assert sum(line.startswith('{"line": ') for line in done.err.splitlines()) == 3
    assert all(each["file"] for each in results().values())
    assert len(results()) == 3


async def test_the_path_that_stdout_cannot_take_is_on_stderr(full):
    generate = ("generate", "A river", *QUICK, "-o", "river.mp4")
    async with emulator() as served, command(*generate, served=served, stdout=full) as process:
        done = await process.done()
    assert done.code == 6
    assert "stdout cannot be written" in done.err
    assert done.err.splitlines()[-1] == "river.mp4"
    assert "Traceback" not in done.err
    assert Path("river.mp4").stat().st_size > 0


@pytest.mark.usefixtures("prompts")
@pytest.mark.parametrize(
    ("broken", "error", "options", "code"),
    [
        ("stderr", FULL, ("--json", "--verbose"), 0),
        ("stdout", LEFT, ("--json",), 0),
        ("stdout", CLOSED, ("--events", "-"), 0),
        ("stdout", FULL, ("--events", "-"), 6),
    ],
)
def test_a_stream_that_breaks_ends_no_run(
    seedance_emulator, monkeypatch, broken, error, options, code
):
    monkeypatch.setattr(sys, broken, stream := Broken(error))
    assert run(["batch", "prompts.txt", *QUICK, *options]) == code
    assert len(results()) == 3
    assert all(each["file"] for each in results().values())
    assert stream.tried == 1
    assert getattr(sys, broken) is stream


@pytest.mark.parametrize("options", [("--help",), ("models", "--help"), ("nothing",)])
def test_what_click_writes_is_guarded_too(monkeypatch, options):
    monkeypatch.setattr(sys, "stdout", Broken(FULL))
    monkeypatch.setattr(sys, "stderr", Broken(LEFT))
    assert run(options) == (2 if options == ("nothing",) else 6)


@pytest.mark.usefixtures("prompts")
def test_a_command_may_be_started_without_streams(seedance_emulator, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run(["batch", "prompts.txt", *QUICK, "--json"]) == 0
    assert len(results()) == 3


def test_what_an_encoding_does_not_have_is_escaped(monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    with guarded(pytest.fail):
        print("fl\u00fcsse")
    written.seek(0)
    assert written.read() == "fl\\xfcsse\n"


def test_the_descriptor_of_a_broken_stream_leads_nowhere():
    """Else what is left in its buffer fails again at the exit."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        outlet = Outlet(stream, pytest.fail)
        outlet.write("to nobody")
        outlet.flush()
        assert os.fstat(stream.fileno()).st_rdev == Path(os.devnull).stat().st_rdev
    assert outlet.failure is None


def test_text_that_is_lost_at_the_end_is_told(monkeypatch):
    class FullAtTheFlush(Broken):
        def write(self, text):
            return len(text)

        def flush(self):
            raise self.error

    monkeypatch.setattr(sys, "stdout", FullAtTheFlush(FULL))
    told = []
    with guarded(told.append) as stdout:
        sys.stdout.write("a result")
    assert told == [FULL]
    assert stdout.failure is FULL
