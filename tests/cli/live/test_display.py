"""A run as it is shown: the live view on a terminal, a heartbeat elsewhere."""

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest
from rich.console import Console

from seedance_async import GenerationRequest, SeedanceSession
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.live import display
from seedance_async.cli.live.view import View
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.run import Run
from tests.cli.conftest import QUICK, emulator, write_prompts
from tests.support.terminal import Terminal


def run_of(count):
    session = SeedanceSession(api_key="sd2_live_key", base_url="http://127.0.0.1:9")
    lines = [Line(n, GenerationRequest(f"prompt {n}")) for n in range(count)]
    return Run(session, lines, lambda outcome: None, target=None, next_steps=NextSteps())


@pytest.mark.virtual_time
async def test_without_a_terminal_the_figures_are_said_every_thirty_seconds(capsys):
    async with display.shown(run_of(5), Screen()):
        await asyncio.sleep(29)
        assert capsys.readouterr().err == ""
        await asyncio.sleep(62)
    lines = capsys.readouterr().err.splitlines()
    assert [line[9:] for line in lines] == [
        f"0/5 · {elapsed} elapsed · no pace yet · 0 credits · 0 saved"
        for elapsed in ("0:30", "1:00", "1:30")
    ]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)


@pytest.mark.virtual_time
@pytest.mark.parametrize("is_terminal", [True, False])
async def test_only_a_terminal_is_shown_the_view(is_terminal, capsys):
    screen = Screen()
    screen.console = Console(stderr=True, force_terminal=is_terminal, width=200)
    async with display.shown(run_of(5), screen):
        screen.say("words")
        await asyncio.sleep(1)
    assert ("0/5" in capsys.readouterr().err) is is_terminal


@pytest.mark.virtual_time
async def test_a_dumb_terminal_gets_the_heartbeat(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    screen.console = Console(stderr=True, force_terminal=True, width=200)
    async with display.shown(run_of(5), screen):
        await asyncio.sleep(31)
    assert "0:30 elapsed" in capsys.readouterr().err


@pytest.mark.virtual_time
async def test_a_view_that_cannot_be_drawn_ends_no_run(monkeypatch, caplog, capsys):
    def broken(self, columns, height):
        raise ZeroDivisionError

    monkeypatch.setattr(View, "lines", broken)
    screen = Screen()
    screen.console = Console(stderr=True, force_terminal=True, width=200)
    async with display.shown(run_of(5), screen):
        await asyncio.sleep(1)
    assert "the live view cannot be drawn" in caplog.text


async def test_ctrl_c_on_a_terminal_leaves_no_old_bar_behind():
    write_prompts(6)
    async with emulator(hold=True) as served:
        terminal = Terminal(80, 30)
        options = ("--max-in-flight", "3", *QUICK)
        await terminal.start(
            "batch", "prompts.txt", *options, url=served.url, api_key=served.api_key
        )
        await terminal.until("3 queued · 0 saved")
        rows = [line[:10] for line in terminal.lines if line.startswith("● ")]
        assert rows == ["● 1 prompt", "● 2 prompt", "● 3 prompt"]
        for words in ("Interrupted", "Leaving 3 running jobs"):
            terminal.echo(b"^C")
            terminal.process.send_signal(signal.SIGINT)
            await terminal.until(words)
        await terminal.ended()
    assert "━" not in terminal.text, "the bar is gone"
    assert "● " not in terminal.text
    assert "^C" not in terminal.text
    assert "3 still running" in " ".join(terminal.lines[-2:])


async def test_a_server_that_is_down_is_said_before_anybody_has_waited_for_long():
    write_prompts(1)
    terminal = Terminal(120, 30)
    down = {"url": "http://127.0.0.1:9", "api_key": "sd2_live_key"}
    await terminal.start("batch", "prompts.txt", "--yes", **down)
    await terminal.until("a submit did not get through, and is sent again: ")
    assert "still waiting" not in terminal.text
    assert "ssl:default" not in terminal.text
    terminal.process.kill()
    await terminal.ended()


async def test_results_go_to_stdout_while_the_view_is_on_the_terminal():
    write_prompts(2)
    async with emulator() as served:
        terminal = Terminal(80, 30)
        await terminal.start(
            *("batch", "prompts.txt", "--json", *QUICK),
            url=served.url,
            api_key=served.api_key,
            stdout="results.ndjson",
        )
        await terminal.ended()
    records = [json.loads(line) for line in Path("results.ndjson").read_text().splitlines()]
    assert [record["state"] for record in records] == ["succeeded", "succeeded"]
    assert "request_id" not in terminal.text
