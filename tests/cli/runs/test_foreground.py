"""Ctrl-C and SIGTERM: what is submitted, what is told, what is in the results afterwards."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from seedance_async import GenerationRequest, SeedanceSession, Timeouts
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.keeping import Options, run_lines
from seedance_async.cli.signals import Interrupts, _handle
from seedance_async.emulator import Fault
from tests.cli.conftest import QUICK, command, emulator, results
from tests.conftest import QUICK_POLL

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def write(count):
    Path("prompts.txt").write_text("".join(f"prompt {n}\n" for n in range(1, count + 1)))


async def running(served, count):
    """Wait until so many jobs run and the command knows of each."""
    await served.wait_until(
        lambda: (
            served.jobs.active == count
            and all(job.polls for job in served.jobs.values() if not job.is_terminal)
        )
    )


def batch(served, *args):
    """Without a journal; what one adds is in test_going_on."""
    return command("batch", "prompts.txt", "--no-journal", *QUICK, *args, served=served)


@SIGNALS
async def test_the_first_signal_stops_submitting_and_waits_for_what_runs(number):
    write(10)
    async with emulator(hold=True) as served:
        async with batch(served, "--max-in-flight", "3") as process:
            await running(served, 3)
            process.send(number)
            await process.until("Interrupted: nothing more is submitted.")
            await process.until("Waiting for 3 running jobs. Ctrl-C again leaves them.")
            line = await process.until("To take them up again: seedance status --wait -o videos ")
            assert set(line.split()[-3:]) == set(served.jobs)
            for job in list(served.jobs):
                served.jobs.finish(job)
            done = await process.done()
        assert len(served.ledger) == 3
    assert done.code == 130
    found = results()
    assert len(found) == 10
    made = [record for record in found.values() if record["state"] == "succeeded"]
    assert len(made) == 3
    assert all(Path(record["file"]).exists() for record in made)
    left = [record for record in found.values() if record["state"] == "not_submitted"]
    assert len(left) == 7
    assert len(Path("videos/remaining.jsonl").read_text().splitlines()) == 7


@SIGNALS
async def test_the_second_signal_leaves_at_once_and_every_id_is_on_record(number):
    write(10)
    async with emulator(hold=True) as served:
        async with batch(served, "--max-in-flight", "3") as process:
            await running(served, 3)
            process.send(number)
            await process.until("Interrupted")
            process.send(number)
            await process.until("Leaving 3 running jobs; they go on without this command.")
            done = await process.done()
        assert served.jobs.active == 3
        assert set(served.jobs) == {
            record["request_id"] for record in results().values() if record["request_id"]
        }
        assert all(job in done.err for job in served.jobs)
    assert done.code == 130
    states = [record["state"] for record in results().values()]
    assert (states.count("abandoned"), states.count("not_submitted")) == (3, 7)
    taken = next(line for line in done.err.splitlines() if "To go on: " in line)
    assert "seedance status --wait -o videos req_" in taken


async def test_what_was_left_running_can_be_taken_up_again():
    write(1)
    async with emulator(hold=True) as served:
        async with batch(served) as process:
            await running(served, 1)
            process.send(signal.SIGINT)
            await process.until("Interrupted")
            process.send(signal.SIGINT)
            await process.done()
        (record,) = results().values()
        served.jobs.finish(record["request_id"])
        words = record["next_step"].split()
        assert words[0] == "seedance"
        async with command(*words[1:], *QUICK, served=served) as process:
            done = await process.done()
    assert done.code == 0
    assert Path(f"videos/{record['request_id']}.mp4").exists()


async def test_a_single_generation_can_be_left_too():
    async with emulator(hold=True) as served:
        async with command("generate", "A river", *QUICK, served=served) as process:
            await running(served, 1)
            process.send(signal.SIGINT)
            await process.until("Waiting for 1 running job.")
            process.send(signal.SIGINT)
            done = await process.done()
        (job,) = served.jobs
    assert (done.code, done.out) == (130, "")
    assert f"What to do: seedance status --wait -o . {job}" in done.err


# --- in this process, where the moments can be chosen ---------------------------------------------


def lines(count):
    return [Line(n, GenerationRequest(f"prompt {n}")) for n in range(1, count + 1)]


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


async def interrupted_run(served, count, *moments, **options):
    """Run lines and press Ctrl-C at each moment; the report."""
    session = SeedanceSession(
        api_key=served.api_key, base_url=served.url, poll=QUICK_POLL, poll_rate=1000.0, **options
    )
    run = asyncio.create_task(run_lines(session, lines(count), Options(Path("out")), Screen()))
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


async def test_a_submit_that_is_out_when_the_run_is_left_is_seen_through():
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


async def test_a_video_that_is_being_saved_when_the_run_is_left_is_told_as_not_saved():
    async with emulator() as served:
        served.faults.script("media", "503", times=None)  # it is tried again for a minute
        fetched = lambda: served.requests.fault_count("media", "503") > 0  # noqa: E731
        report = await interrupted_run(served, 1, fetched, lambda: True)
    (record,) = results("out").values()
    assert (record["state"], record["file"]) == ("succeeded", None)
    assert record["next_step"] == f"seedance status -o out {record['request_id']}"
    assert report.code() is ExitCode.INTERRUPTED
    assert [path.name for path in Path("out").iterdir()] == ["results.jsonl"]


async def test_a_run_that_ends_well_in_spite_of_a_signal_says_that_it_was_interrupted():
    async with emulator(hold=True) as served:
        run = asyncio.create_task(interrupted_run(served, 1, lambda: served.jobs.active == 1))
        await running(served, 1)
        served.jobs.finish(next(iter(served.jobs)))
        report = await run
    assert report.code() is ExitCode.INTERRUPTED
    assert results("out")[1]["state"] == "succeeded"


async def test_a_cancellation_from_elsewhere_is_no_interrupt_and_loses_no_line():
    async with emulator(hold=True) as served:
        run = asyncio.create_task(interrupted_run(served, 3, max_in_flight=1))
        await running(served, 1)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert results("out")[1]["request_id"] in served.jobs
    assert sorted(results("out")) == [1, 2, 3]


async def test_a_run_that_breaks_off_tells_no_line_as_not_submitted_that_may_have_been(monkeypatch):
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


# --- the handlers ---------------------------------------------------------------------------------


async def test_a_third_signal_changes_nothing():
    told = []
    interrupts = Interrupts(lambda: told.append("stop"), lambda: told.append("leave"))
    for _ in range(3):
        interrupts.receive()
    assert told == ["stop", "leave"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)


class LoopOfWindows:
    def add_signal_handler(self, *args):
        raise NotImplementedError

    def call_soon_threadsafe(self, callback):
        callback()


def test_without_signal_handlers_of_the_loop_the_interpreters_are_used():
    before = signal.getsignal(signal.SIGINT)
    told = []
    undo = _handle(LoopOfWindows(), signal.SIGINT, lambda: told.append("signal"))
    ctrl_c()
    undo()
    assert told == ["signal"]
    assert signal.getsignal(signal.SIGINT) is before
