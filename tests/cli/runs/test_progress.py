"""The live line on a terminal."""

import asyncio

import pytest
from rich.console import Console

from seedance_async import GenerationRequest, JobState, SeedanceSession, SessionStats
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs import progress
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.progress import Moment, clock
from seedance_async.cli.runs.run import Run


def moment(seconds=10.0, waiting=None, **counts):
    known = dict.fromkeys(JobState, 0) | {JobState(state): n for state, n in counts.items()}
    in_flight = sum(n for state, n in known.items() if not state.is_final)
    stats = SessionStats(known, in_flight, 1234, 0, polls=9, refusals=0, waiting=waiting or {})
    return Moment(stats, 24, 7, seconds)


def test_the_line_shows_progress_states_cost_pace_and_time_left():
    line = moment(processing=3, queued=2, succeeded=10, failed=1, uncertain=1).line().plain
    assert "12/24" in line
    assert "2 queued · 3 processing · 10 succeeded · 1 failed · 1 uncertain" in line
    assert "7 saved · 1,234 credits · 1.2/s · ETA 0:10" in line


def test_a_slow_pace_is_shown_per_minute():
    assert "6.0/min · ETA 3:50" in moment(succeeded=1, queued=1).line().plain


def test_before_the_first_job_ends_there_is_no_pace():
    assert moment(queued=3).line().plain.endswith("no pace yet")
    assert moment(seconds=0, succeeded=3).line().plain.endswith("no pace yet")


def test_what_is_waited_for_for_long_is_shown():
    line = moment(pending=3, waiting={"network": 83.0, "gate": 12.0}).line().plain
    assert line.endswith(" · waiting for the network 1:23 · waiting for the gate 0:12")


def test_at_the_end_the_elapsed_time_is_shown():
    assert moment(succeeded=24).line().plain.endswith("2.4/s · 0:10")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")]
)
def test_durations_are_shown_like_a_clock(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_only_a_terminal_is_shown_the_line(is_terminal, capsys, monkeypatch):
    monkeypatch.setattr(progress, "TICK", 0.0)
    screen = Screen()
    screen.console = Console(stderr=True, force_terminal=is_terminal, width=200)
    session = SeedanceSession(api_key="sd2_live_key", base_url="http://127.0.0.1:9")
    lines = [Line(n, GenerationRequest(f"prompt {n}")) for n in range(5)]
    run = Run(session, lines, lambda outcome: None, target=None, next_steps=NextSteps())
    async with progress.shown(run, screen):
        screen.say("words")
        for _ in range(3):
            await asyncio.sleep(0)
    assert ("0/5" in capsys.readouterr().err) is is_terminal
