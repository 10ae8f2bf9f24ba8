"""The live line on a terminal, and what else the screen shows."""

import asyncio

import pytest
from rich.console import Console

from seedance_async import JobState, SeedanceSession, SessionStats
from seedance_async.cli.console import Screen, printable, short
from seedance_async.cli.runs import progress
from seedance_async.cli.runs.advice import Advice
from seedance_async.cli.runs.progress import Moment, clock
from seedance_async.cli.runs.run import Run


def moment(seconds=10.0, **counts):
    known = dict.fromkeys(JobState, 0) | {JobState(state): n for state, n in counts.items()}
    in_flight = sum(n for state, n in known.items() if not state.is_final)
    stats = SessionStats(known, in_flight, 1234, 0, polls=9, refusals=0)
    return Moment(stats, 24, 7, seconds)


def test_the_line_tells_how_far_in_which_states_at_what_cost_and_how_long_still():
    line = moment(processing=3, queued=2, succeeded=10, failed=1, uncertain=1).line().plain
    assert "12/24" in line
    assert "2 queued · 3 processing · 10 succeeded · 1 failed · 1 uncertain" in line
    assert "7 saved · 1,234 credits · 1.2/s · ETA 0:10" in line


def test_a_slow_pace_is_told_by_the_minute():
    assert "6.0/min · ETA 3:50" in moment(succeeded=1, queued=1).line().plain


def test_before_the_first_end_there_is_no_pace():
    assert moment(queued=3).line().plain.endswith("no pace yet")
    assert moment(seconds=0, succeeded=3).line().plain.endswith("no pace yet")


def test_at_the_end_the_time_that_it_took_is_told():
    assert moment(succeeded=24).line().plain.endswith("2.4/s · 0:10")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")]
)
def test_times_are_told_as_a_clock_does(seconds, told):
    assert clock(seconds) == told


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_only_a_terminal_is_shown_the_line(is_terminal, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_TICK", 0.0)
    screen = Screen()
    screen.console = Console(stderr=True, force_terminal=is_terminal, width=200)
    session = SeedanceSession(api_key="sd2_live_key", base_url="http://127.0.0.1:9")
    run = Run(session, [], lambda outcome: None, target=None, advice=Advice())
    async with progress.shown(run, 5, screen):
        screen.say("words")
        for _ in range(3):
            await asyncio.sleep(0)
    assert ("0/5" in capsys.readouterr().err) is is_terminal


def test_control_characters_are_spelled_out_and_all_else_is_left():
    assert printable("a\x1b[2J\x07\n漢字 🦊\u3000é") == "a\\x1b[2J\\x07\n漢字 🦊\u3000é"
    assert printable("\u202e\u2028\ud800") == "\\u202e\\u2028\\ud800"


def test_a_long_prompt_is_shortened():
    assert short("a\n b") == "a b"
    assert short("x" * 100, 10) == "x" * 9 + "…"


def test_the_key_is_blotted_out_of_all_that_is_written(monkeypatch, capsys):
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_secret")
    screen = Screen()
    screen.say("the key is sd2_live_secret")
    screen.answer("sd2_live_secret!")
    screen.record({"key": "sd2_live_secret"})
    told = capsys.readouterr()
    assert told.err == "the key is ***\n"
    assert told.out == '***!\n{"key": "***"}\n'


def test_a_placeholder_for_a_key_garbles_no_words(monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "a")
    assert Screen().without_key("a river") == "a river"
