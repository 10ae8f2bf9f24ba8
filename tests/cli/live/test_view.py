"""The live view: what is drawn, at several widths."""

import pytest
from rich.cells import cell_len

from seedance_async import (
    GenerationRequest,
    JobAccepted,
    JobStarted,
    JobState,
    JobSucceeded,
    SessionStats,
)
from seedance_async.cli.inputs import Line
from seedance_async.cli.live.clock import clock
from seedance_async.cli.live.jobs import RunningJobs
from seedance_async.cli.live.view import Moment, View
from tests.support.for_each import for_each

NOW = 1000.0


def moment(seconds=10.0, waiting=None, *, hold=0.0, total=24, rate=None, credits=1234, **counts):
    more = {name: counts.pop(name) for name in ("last_ends_in", "is_stopping") if name in counts}
    known = dict.fromkeys(JobState, 0) | {JobState(state): n for state, n in counts.items()}
    in_flight = sum(n for state, n in known.items() if not state.is_final)
    stats = SessionStats(
        known, in_flight, credits, 0, polls=9, refusals=0, waiting=waiting or {},
        submit_hold=hold, finish_rate=rate,
    )  # fmt: skip
    return Moment(stats, total, 7, seconds, **more)


def running(count, *, ended=(), prompt="A river in autumn, seen from a slow boat"):
    """So many jobs, the first one ten seconds old and each other a second younger."""
    lines = {}

    def line_of(request):
        return lines.get(id(request))

    jobs = RunningJobs(line_of, saves=True)
    for seconds in ended:
        request = GenerationRequest(prompt)
        jobs.hear(JobAccepted(at=0.0, key=f"e{seconds}", request_id="e", request=request))
        jobs.hear(JobSucceeded(at=seconds, key=f"e{seconds}", seconds=seconds, request=request))
    for number in range(1, count + 1):
        request = GenerationRequest(f"{prompt}", duration=None)
        lines[id(request)] = Line(number, request)
        told = {"key": f"k{number}", "request_id": f"req_{number:016x}", "request": request}
        jobs.hear(JobAccepted(at=NOW - 11 + number, seconds=0.0, **told))
        if number % 2:
            jobs.hear(JobStarted(at=NOW - 1, **told))
    return jobs


def drawn(columns, height=40, *, jobs=None, **counts):
    found = moment(**counts) if counts else moment(processing=3, queued=2, succeeded=10, failed=1)
    view = View(found, running(0) if jobs is None else jobs, NOW)
    lines = [line.plain for line in view.lines(columns, height)]
    return lines[1:] if lines[0] == "" else lines


MUST_STAY = ["1.1/s", "ETA 0:12", "1,234 credits", "11/24", "0:10 elapsed"]


@for_each("columns", [24, 40, 60, 80, 120, 200])
def test_at_any_width_the_figures_stay_and_no_line_is_longer_than_the_terminal(columns):
    lines = drawn(columns, jobs=running(5, ended=[20.0]))
    for part in MUST_STAY:
        assert any(part in line for line in lines), part
    assert "1 failed" in " ".join(lines)
    assert max(map(cell_len, lines)) <= columns - 4, "room for the ^C that a terminal echoes"


def test_at_80_columns_large_figures_take_a_second_line_and_none_is_cut():
    counts = {"processing": 20, "succeeded": 9_000}
    assert drawn(80, seconds=3723.0, total=10_000, credits=1_234_567, **counts) == [
        "━" * 63 + " 9,000/10,000",
        "1:02:03 elapsed · ETA 6:54 · 2.4/s · 1,234,567 credits",
        "20 processing · 9,000 succeeded · 7 saved",
    ]


def test_each_running_job_has_a_row_with_its_elapsed_and_its_expected_time():
    lines = drawn(80, jobs=running(3, ended=[20.0]))
    assert lines[0].startswith("● 1 A river in autumn, seen from a slow")
    assert lines[0].endswith(" processing ━━━━━━━━━━ 0:10 of ~0:20")
    assert lines[1].startswith("● 3 ")
    assert lines[2].startswith("● 2 ")
    assert lines[2].endswith(" queued     ━━━━━━━━━━ 0:09 of ~0:20")


def test_a_wide_terminal_shows_what_was_asked_for_and_the_id():
    (row, *_) = drawn(120, jobs=running(1))
    assert " req_0000000000000001 processing " in row


def test_a_narrow_terminal_keeps_line_prompt_and_times():
    (row, *_) = drawn(40, jobs=running(1, ended=[20.0]))
    assert row == "● 1 A river in autumn… 0:10 of ~0:20"


def test_a_single_job_has_its_row_and_no_count_of_one():
    lines = drawn(80, jobs=running(1, ended=[20.0]), total=1, processing=1, last_ends_in=9.6)
    assert lines[0].startswith("● 1 A river in autumn")
    assert lines[1:] == ["0:10 elapsed · ETA 0:10 · 1,234 credits"]


def test_before_any_job_has_ended_the_elapsed_time_stands_alone():
    (row, *_) = drawn(80, jobs=running(1))
    assert row.endswith(" processing            0:10")


def test_a_job_that_takes_longer_than_any_other_has_a_full_bar():
    jobs = running(1, ended=[5.0])
    (_, row, *_) = View(moment(processing=1), jobs, NOW).lines(80, 40)
    assert row.plain.endswith("━━━━━━━━━━ 0:10 of ~0:05")
    assert "yellow" in {str(span.style) for span in row.spans}


def test_as_many_rows_are_shown_as_fit_and_the_rest_is_counted():
    lines = drawn(80, 24, jobs=running(30, ended=[20.0]))
    assert len(lines) <= 24 - 6
    assert lines[14] == "… and 16 more"
    assert lines[0].startswith("●  1 "), "the oldest come first"


def test_wide_characters_and_controls_do_not_break_a_row():
    jobs = running(1, prompt="秋の川をゆっくり下る船から見る紅葉\x1b[2J" * 3)
    (row, *_) = drawn(60, jobs=jobs)
    assert cell_len(row) == 56
    assert "\x1b" not in row


def test_a_long_wait_and_a_hold_are_shown():
    lines = drawn(80, pending=3, waiting={"network": 83.0, "gate": 12.0}, hold=7.0)
    assert lines[-2:] == [
        "waiting for the network 1:23 · waiting for the gate 0:12",
        "submits held back for 0:07",
    ]


def test_a_gate_that_is_shut_for_good_is_no_hold():
    assert "held back" not in " ".join(drawn(80, processing=3, hold=float("inf")))


def test_the_figures_are_not_faint():
    summary = moment(processing=3, succeeded=10)
    (first, *_) = View(summary, running(0), NOW).lines(120, 40)
    at = first.plain.index("1,234 credits")
    assert not first.style
    assert [span for span in first.spans if span.start <= at < span.end and span.style] == []


def test_a_slow_pace_is_shown_per_minute():
    assert "6.0/min" in " ".join(drawn(80, succeeded=1, queued=1))


def test_before_the_first_job_ends_there_is_no_pace_and_no_eta():
    lines = " ".join(drawn(80, queued=3))
    assert "no pace yet" in lines
    assert "ETA" not in lines


def test_the_eta_goes_by_how_many_run_at_once_and_not_by_the_slow_start():
    """After 90 s one of 20 jobs has ended: the others do not take 90 s each."""
    found = moment(90.0, total=100, processing=20, succeeded=1, rate=20 / 90)
    assert found.eta == pytest.approx(99 * 90 / 20)


def test_when_nothing_is_left_to_submit_the_eta_is_the_end_of_the_last_job():
    found = moment(90.0, total=23, processing=3, succeeded=20, rate=3 / 90, last_ends_in=12.0)
    assert found.eta == 12.0


def test_jobs_that_nobody_has_sent_are_not_about_to_end():
    assert moment(90.0, total=30, pending=30, last_ends_in=0.0).eta is None
    found = moment(90.0, total=30, pending=20, processing=10, rate=0.5, last_ends_in=12.0)
    assert found.eta == 60.0


def test_after_ctrl_c_the_eta_is_that_of_the_running_jobs():
    found = moment(90.0, processing=3, succeeded=1, last_ends_in=12.0, is_stopping=True)
    assert found.eta == 12.0
    assert "interrupted: only running jobs are waited for" in found.troubles()


@for_each(("seconds", "shown"), [(0, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (7384, "2:03:04")])
def test_durations_are_shown_like_a_clock(seconds, shown):
    assert clock(seconds) == shown
