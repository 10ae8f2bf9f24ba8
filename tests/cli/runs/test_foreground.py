"""Ctrl-C and other signals: what is submitted, what is shown, what is in the results afterwards."""

import asyncio
import fcntl
import os
import signal
import sys
import termios
from pathlib import Path

import pytest

from tests.cli.conftest import QUICK, command, emulator, results, running, write_prompts

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


def batch(served, *args):
    """Without a journal; what one adds is in test_batch_run."""
    return command("batch", "prompts.txt", "--no-journal", *QUICK, *args, served=served)


@SIGNALS
async def test_the_first_signal_stops_submitting_and_waits_for_running_jobs(number):
    write_prompts(10)
    async with emulator(hold=True) as served:
        async with batch(served, "--max-in-flight", "3") as process:
            await running(served, 3)
            process.send(number)
            await process.until("Interrupted: nothing more is submitted.")
            await process.until("Waiting for 3 running jobs. Press Ctrl-C again to leave.")
            line = await process.until("To resume: seedance status --wait -o videos ")
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
    write_prompts(10)
    async with emulator(hold=True) as served:
        async with batch(served, "--max-in-flight", "3") as process:
            await running(served, 3)
            process.send(number)
            await process.until("Interrupted")
            process.send(number)
            await process.until("Leaving 3 running jobs: they go on at the server.")
            done = await process.done()
        assert served.jobs.active == 3
        assert set(served.jobs) == {
            record["request_id"] for record in results().values() if record["request_id"]
        }
        assert all(job in done.err for job in served.jobs)
    assert done.code == 130
    states = [record["state"] for record in results().values()]
    assert (states.count("abandoned"), states.count("not_submitted")) == (3, 7)
    assert "3 jobs go on at the server, and can be resumed:" in done.err
    assert "3 still running, 7 not submitted" in done.err.splitlines()[-1]
    assert "abandoned" not in done.err
    resume = next(line for line in done.err.splitlines() if "  To resume: " in line)
    assert "seedance status --wait -o videos req_" in resume


async def test_jobs_that_were_left_running_can_be_resumed():
    write_prompts(1)
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
            await process.until("Leaving 1 running job: it goes on at the server.")
            done = await process.done()
        (job,) = served.jobs
    assert (done.code, done.out) == (130, "")
    assert f"What to do: seedance status --wait -o . {job}" in done.err


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="shows that it was handled")
async def test_a_run_whose_terminal_is_closed_saves_what_is_running():
    write_prompts(10)
    async with emulator(hold=True) as served:
        ours, terminal = os.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seedance_async.cli"),
            *("batch", "prompts.txt", "--max-in-flight", "3", *QUICK),
            env=os.environ | {"SEEDANCE_BASE_URL": served.url, "SEEDANCE_API_KEY": served.api_key},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)
        try:
            await running(served, 3)
            os.close(ours)  # the kernel sends SIGHUP; reads and writes fail from now on
            stderr = Path(f"/proc/{process.pid}/fd/2")
            await served.wait_until(lambda: stderr.readlink() == Path(os.devnull))
            for job in list(served.jobs):
                served.jobs.finish(job)
            assert await process.wait() == 130
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert len(served.ledger) == 3
    made = [record for record in results().values() if record["state"] == "succeeded"]
    assert len(made) == 3
    assert all(Path(record["file"]).exists() for record in made)
