"""A run that is interrupted, in this process, where the moments can be chosen."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from seedance_async import GenerationRequest, SeedanceSession, Timeouts
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.batch_run import BatchOptions, run_batch
from seedance_async.emulator import Fault
from tests.cli.conftest import emulator, results, running
from tests.conftest import QUICK_POLL


def lines(count):
    return [Line(n, GenerationRequest(f"prompt {n}")) for n in range(1, count + 1)]


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


async def interrupted_run(served, count, *moments, **options):
    """Run lines, press Ctrl-C at each moment, return the report."""
    session = SeedanceSession(
        api_key=served.api_key, base_url=served.url, poll=QUICK_POLL, poll_rate=1000.0, **options
    )
    run = asyncio.create_task(run_batch(session, lines(count), BatchOptions(Path("out")), Screen()))
    for moment in moments:
        await served.wait_until(moment)
        ctrl_c()
        await asyncio.sleep(0)
    return await run


async def test_what_waits_behind_a_rate_limit_is_not_submitted_after_the_first_signal():
    async with emulator() as served:
        served.faults.script("submit", Fault("rate_limited", retry_after=500), times=None)
        report = await interrupted_run(served, 5, lambda: len(served.ledger) == 1)
        assert len(served.ledger.charged) == 0
    assert report.code() is ExitCode.INTERRUPTED
    assert {record["state"] for record in results("out").values()} == {"not_submitted"}
    assert len(results("out")) == 5


async def test_a_submit_in_progress_is_completed_when_the_run_is_left():
    async with emulator(hold=True) as served:
        slow = Fault("latency", seconds=0.5, accepted=True)
        served.faults.script("submit", slow, times=None)
        accepted = lambda: served.jobs.active == 2  # noqa: E731
        report = await interrupted_run(served, 9, accepted, lambda: True, max_in_flight=2)
        charged = {entry.request_id for entry in served.ledger.charged}
    found = results("out").values()
    assert {record["request_id"] for record in found if record["request_id"]} == charged
    assert len(charged) == 2
    assert report.code() is ExitCode.INTERRUPTED


async def test_a_submit_whose_answer_does_not_come_in_time_is_uncertain_when_the_run_is_left():
    async with emulator(hold=True) as served:
        served.faults.script("submit", Fault("latency", seconds=0.5, accepted=True))
        accepted, now = (lambda: served.jobs.active == 1), (lambda: True)
        hurried = {"max_in_flight": 1, "timeouts": Timeouts(submit_grace=0.1)}
        report = await interrupted_run(served, 2, accepted, now, **hurried)
        await served.wait_until(lambda: served.requests.count("submit") == 1)
    assert report.code() is ExitCode.UNCERTAIN
    assert [record["state"] for record in results("out").values()] == ["uncertain", "not_submitted"]


async def test_a_video_that_is_being_saved_when_the_run_is_left_is_reported_as_not_saved():
    async with emulator() as served:
        served.faults.script("media", "503", times=None)  # it is tried again for a minute
        fetched = lambda: served.requests.fault_count("media", "503") > 0  # noqa: E731
        report = await interrupted_run(served, 1, fetched, lambda: True)
    (record,) = results("out").values()
    assert (record["state"], record["file"]) == ("succeeded", None)
    assert record["next_step"] == f"seedance status -o out {record['request_id']}"
    assert report.code() is ExitCode.INTERRUPTED
    assert [path.name for path in Path("out").iterdir()] == ["results.jsonl"]


async def test_a_run_that_succeeds_after_a_signal_still_exits_as_interrupted():
    async with emulator(hold=True) as served:
        run = asyncio.create_task(interrupted_run(served, 1, lambda: served.jobs.active == 1))
        await running(served, 1)
        served.jobs.finish(next(iter(served.jobs)))
        report = await run
    assert report.code() is ExitCode.INTERRUPTED
    assert results("out")[1]["state"] == "succeeded"


async def test_a_cancellation_from_elsewhere_is_not_an_interrupt_and_loses_no_line():
    async with emulator(hold=True) as served:
        run = asyncio.create_task(interrupted_run(served, 3, max_in_flight=1))
        await running(served, 1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert results("out")[1]["request_id"] in served.jobs
    assert sorted(results("out")) == [1, 2, 3]


async def test_a_run_that_breaks_off_reports_a_line_that_may_be_sent_as_uncertain(
    monkeypatch,
):
    async def broken(self, requests):
        next(iter(requests))
        raise ZeroDivisionError
        yield

    monkeypatch.setattr(SeedanceSession, "as_completed", broken)
    async with emulator() as served:
        with pytest.raises(ExceptionGroup):
            await interrupted_run(served, 2)
    found = results("out")
    assert (found[1]["state"], found[2]["state"]) == ("uncertain", "not_submitted")
    assert "dashboard" in found[1]["next_step"]
