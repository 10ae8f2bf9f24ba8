"""Workers that are killed, stopped and told to leave: real processes, and the server's ledger."""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.engines.conftest import SOON
from tests.engines.test_contract_alone import outcomes
from tests.engines.worker_process import WorkerProcess
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Seconds without a sign of life after which a worker of these tests is dead.
LEASE = 1.0

#: What takes a while is shown with the engine for many machines.
POSTGRES = pytest.mark.parametrize("engine", ["postgres"], indirect=True)
SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)

#: The step at which a worker is killed, and how many of its jobs nobody knows the outcome of.
KILLS = {
    "before the claim": 0,
    "after the claim": 1,
    "headers sent": 1,
    "after the submit": 1,
    "before a poll": 0,
    "during a download": 0,
}


@contextlib.asynccontextmanager
async def process(engine, step="never", *, stops=False, **options):
    """A worker in a process of its own, which is killed at the end if it still runs."""
    options = {"lease": LEASE, "look_every": SOON, "max_in_flight": 1, **options}
    plan = {
        "url": engine.url, "videos": str(engine.videos), "base_url": engine.emulator.url,
        "api_key": engine.emulator.api_key, "step": f"{step}:1", "stops": stops,
        "options": options,
    }  # fmt: skip
    worker = WorkerProcess(plan)
    try:
        yield worker
    finally:
        worker.kill()
        await worker.wait()


async def ended(worker):
    async with asyncio.timeout(30):
        return await worker.wait()


async def is_stopped(worker):
    """Wait until a process has been stopped by a signal."""
    async with asyncio.timeout(30):
        while " T " not in Path(f"/proc/{worker.pid}/stat").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@POSTGRES
@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_worker_that_wakes_sends_nothing_of_what_was_cancelled_meanwhile(
    engine, emulator, make_requests, forgotten
):
    """It was stopped before its first claim, and its run has been told as never sent."""
    *requests, later = make_requests(3)
    async with engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
        async with process(engine, "before the claim", stops=True, max_in_flight=2) as stopped:
            await is_stopped(stopped)
            await queue.cancel(run="autumn")
            async with engine.worker(lease=LEASE):
                told = await outcomes(queue, "autumn")
            assert [(each.state, each.sent) for each in told] == [("cancelled", False)] * 2
            if forgotten:
                await queue.forget(run="autumn")
            stopped.send_signal(signal.SIGCONT)
            await queue.enqueue([later], run="winter")
            [made] = await outcomes(queue, "winter")
    assert made.state == "succeeded"
    assert charged(emulator, [*requests, later]) == {0: 2, 1: 1}


@POSTGRES
@pytest.mark.parametrize(("step", "uncertain"), KILLS.items(), ids=list(KILLS))
async def test_what_a_killed_worker_had_is_taken_over(
    engine, emulator, make_requests, step, uncertain
):
    requests = make_requests(2)
    async with engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
        async with process(engine, step) as worker:
            assert await ended(worker) == -signal.SIGKILL
        async with engine.worker(lease=LEASE):
            told = await outcomes(queue, "autumn")
    states = Counter(each.state for each in told)
    assert states == Counter(uncertain=uncertain, succeeded=2 - uncertain)
    counts = charged(emulator, requests)
    assert counts[1] >= 2 - uncertain
    assert set(counts) <= {0, 1}
    assert len(list(engine.videos.glob("*.mp4"))) == 2 - uncertain
    assert all(each.sent for each in told)


@POSTGRES
async def test_what_a_dead_worker_had_can_be_cancelled(held_engine, make_requests):
    requests, emulator = make_requests(1), held_engine.emulator
    async with held_engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
        async with process(held_engine, "before a poll") as worker:
            await ended(worker)
        assert await queue.cancel(run="autumn") == 1
        async with held_engine.worker(lease=LEASE):
            [told] = await outcomes(queue, "autumn")
    assert (told.state, told.sent) == ("cancelled", True)
    assert charged(emulator, requests) == {1: 1}


@POSTGRES
async def test_a_worker_that_is_stopped_longer_than_its_lease_wakes_to_nothing_worse(
    held_engine, make_requests
):
    requests, emulator = make_requests(1), held_engine.emulator
    stopped = process(held_engine, "before a poll", stops=True, lease=60.0, look_every=0.3)
    async with held_engine.queue() as queue, stopped as worker:
        await queue.enqueue(requests, run="autumn")
        await is_stopped(worker)
        async with held_engine.worker(lease=LEASE) as other:
            await is_with(other, queue)
            finish_all(emulator, requests)
            [told] = await outcomes(queue, "autumn")
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
            assert await ended(worker) == 0
            assert await outcomes(queue, "autumn") == [told]
    assert told.state == "succeeded"
    assert charged(emulator, requests) == {1: 1}


@POSTGRES
async def test_an_acceptance_that_a_stopped_worker_records_late_is_not_lost(
    engine, emulator, make_requests
):
    requests = make_requests(1)
    async with engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
        async with process(engine, "after the submit", stops=True) as worker:
            await is_stopped(worker)
            async with engine.worker(lease=LEASE) as other:
                await is_with(other, queue)
                worker.send_signal(signal.SIGCONT)
                [told] = await outcomes(queue, "autumn")
    assert told.state == "succeeded"
    assert charged(emulator, requests) == {1: 1}


@POSTGRES
async def test_a_worker_that_is_told_to_leave_hands_its_tasks_back(held_engine, make_requests):
    requests, emulator = make_requests(3), held_engine.emulator
    async with held_engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
        async with process(held_engine, max_in_flight=2, lease=3600) as worker:
            await emulator.wait_until(lambda: charged(emulator, requests)[1] == 2)
            began = time.monotonic()
            worker.terminate()
            assert await ended(worker) == 0
            assert time.monotonic() - began < 5
        status = await queue.status(run="autumn")
        assert (status.waiting, status.running, status.ended) == (3, 0, {})
        async with held_engine.worker():
            await emulator.wait_until(lambda: charged(emulator, requests) == {1: 3})
            finish_all(emulator, requests)
            told = await outcomes(queue, "autumn")
    assert {each.state for each in told} == {"succeeded"}
    assert charged(emulator, requests) == {1: 3}


@POSTGRES
async def test_two_workers_that_have_one_key_pay_for_it_once(engine, emulator, make_requests):
    requests = make_requests(6)
    async with engine.queue() as queue, process(engine, max_in_flight=6), engine.worker():
        for run in ("autumn", "winter", "spring"):
            await queue.enqueue(requests, run=run)
        told = [await outcomes(queue, run) for run in ("autumn", "winter", "spring")]
    assert {each.state for some in told for each in some} == {"succeeded"}
    assert charged(emulator, requests) == {1: 6}


@SQLITE
async def test_a_queue_that_is_restored_from_an_earlier_copy_tells_again_and_buys_nothing(
    engine, emulator, make_requests
):
    requests = make_requests(3)
    async with engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
    engine.save()
    async with engine.queue() as queue, engine.worker():
        first = await outcomes(queue, "autumn")
    engine.restore()
    async with engine.queue() as queue, engine.worker():
        assert (await queue.status(run="autumn")).ended == {}
        again = await outcomes(queue, "autumn")
    assert {each.key: each for each in again} == {each.key: each for each in first}
    assert charged(emulator, requests) == {1: 3}


async def is_with(worker, queue):
    """Wait until a worker has the only task of the run."""
    async with asyncio.timeout(30):
        while worker.executor_id not in (await queue.status(run="autumn")).workers:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def finish_all(emulator, requests):
    prompts = {each.prompt for each in requests}
    for job in emulator.jobs.values():
        if job.body["prompt"] in prompts:
            emulator.jobs.start(job.request_id)
            emulator.jobs.finish(job.request_id)
