"""The root of the command line: what any way of calling it ends as."""

import asyncio
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from seedance_async import SeedanceError
from seedance_async.cli import app, connection, main
from tests.cli.conftest import QUICK, command, emulator
from tests.support.for_each import for_each


def exit_code(*args, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["seedance", *args])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


def test_the_version_is_the_packages(monkeypatch, capsys):
    assert exit_code("--version", monkeypatch=monkeypatch) == 0
    assert version("seedance-async") in capsys.readouterr().out


def commands_under(group, *path):
    """The words that call each command."""
    for name, each in group.commands.items():
        yield *path, name
        if isinstance(each, click.Group):
            yield from commands_under(each, *path, name)


@for_each("path", commands_under(app.cli))
def test_every_command_explains_itself_with_an_example_that_it_understands(path, seedance):
    done = seedance(*path, "--help")
    assert done.code == 0
    assert f"Usage: seedance {' '.join(path)}" in done.out
    calls = "seedance " + " ".join(path) + " "
    examples = [
        shlex.split(line)
        for line in re.findall(r"^ {4}(seedance .*)", done.out, re.MULTILINE)
        if f"{line} ".startswith(calls)
    ]
    assert examples, "there is none on a line of its own"
    for words in examples:
        command, words = app.cli, words[1:]
        while isinstance(command, click.Group) and words:
            command, words = command.commands[words[0]], words[1:]
        context = click.Context(command)
        options, left, _ = command.make_parser(context).parse_args(list(words))
        assert not left or left == [None]
        for parameter in command.params:
            value = options.get(parameter.name)
            if value is not None and isinstance(parameter.type, (click.Choice, click.IntRange)):
                parameter.type_cast_value(context, value)


@for_each("args", [["nonsense"], ["generate"], ["batch", "a", "--max-in-flight", "0"], []])
def test_a_wrong_command_line_exits_with_2(args):
    assert app.run(args) == 2


SAVING = [
    path[0]
    for path in commands_under(app.cli)
    if any("--output" in each.opts for each in app.cli.commands[path[0]].params)
]


@for_each("name", SAVING)
def test_an_output_that_names_nothing_is_no_folder(name, capsys):
    for output, hint in (("", "names no place"), (" ", "names no place"), ("-", "./-")):
        assert app.run([name, "-o", output]) == 2
        shown = capsys.readouterr().err
        assert "'-o' / '--output'" in shown
        assert hint in shown
    assert not list(Path().iterdir())


def test_a_folder_for_the_record_of_a_bucket_is_named_too(capsys):
    assert app.run(["batch", "-o", "s3://bucket", "--state", ""]) == 2
    assert "'--state'" in capsys.readouterr().err


def test_no_option_takes_the_key():
    for each in app.cli.commands.values():
        names = {option for parameter in each.params for option in parameter.opts}
        assert each.name == "emulator" or "--api-key" not in names


@pytest.mark.parametrize("module", ["click", "rich"])
def test_without_its_extra_the_command_says_how_to_install_it(module):
    """In a fresh interpreter: modules imported twice would confuse the tests that come later."""
    code = f"import sys; sys.modules['{module}'] = None; import seedance_async.cli as it; it.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith(f"seedance: {module}")
    assert 'pip install "seedance-async[cli]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_module_that_is_missing_for_another_reason_is_not_blamed_on_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "seedance_async.cli.app")
    monkeypatch.setitem(sys.modules, "seedance_async.cli.commands.batch", None)
    with pytest.raises(ModuleNotFoundError):
        main()


def test_it_runs_as_a_module(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["seedance", "--version"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("seedance_async.cli", run_name="__main__")
    assert exit_.value.code == 0


async def test_ctrl_c_ends_the_wait_for_standard_input():
    end, begin = os.pipe()
    try:
        async with command("batch", "-", "--dry-run", stdin=end) as process:
            # More than a pipe holds: once it is written, the command is reading.
            await asyncio.to_thread(os.write, begin, b"A river\n" * 20_000)
            process.send(signal.SIGINT)
            done = await process.done()
    finally:
        os.close(begin)
        os.close(end)
    assert done.code == 130
    assert "seedance: interrupted" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_wait_for_a_job_and_exits_with_130(number):
    async with emulator(hold=True) as served:
        hurry = ("--queue-timeout", "0.1")
        async with command("generate", "A river", *hurry, served=served) as process:
            await process.done()
        (job,) = served.jobs
        async with command("status", job, "--wait", *QUICK, served=served) as process:
            await served.wait_until(lambda: served.jobs[job].polls > 3)
            process.send(number)
            done = await process.done()
        assert (done.code, done.out) == (130, "")
        assert "seedance: interrupted" in done.err
        assert served.jobs.active == 1


def test_an_unexpected_error_of_the_sdk_is_one_message(seedance, monkeypatch):
    def fail(*args):
        raise SeedanceError("something else")

    monkeypatch.setattr(connection.Connection, "session", fail)
    done = seedance("models")
    assert (done.code, done.err) == (1, "seedance: something else\n")


async def test_the_real_process_ends_with_the_code():
    async with command("generate", "A river") as process:
        done = await process.done()
    assert done.code == 3
    assert "no API key" in done.err
    async with emulator() as served, command("models", "--json", served=served) as process:
        done = await process.done()
    assert (done.code, done.err) == (0, "")
    assert done.records[0]["id"] == "seedance-2.0"
