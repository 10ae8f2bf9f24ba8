"""Jobs: the GPUs limit how many run, time is virtual, and the seed decides the rest."""

import asyncio
from collections.abc import Callable
from math import log
from random import Random
from statistics import stdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async.emulator import Jobs
from seedance_async.emulator.clock import Changes, Clock
from seedance_async.emulator.jobs import Fate

from .conftest import BODY, SEED, Api, Start


def make(**options: Any) -> tuple[Jobs, Changes]:
    changes = Changes()
    given = {"gpus": 2, "median_seconds": 90.0, "sigma": 0.3, **options}
    clock = Clock(given.pop("speed", 1e6))
    return Jobs(clock, changes, Random(SEED), **given), changes


def accept(jobs: Jobs, count: int, fate: Fate | None = None) -> list[str]:
    ids = [jobs.new_id() for _ in range(count)]
    for request_id in ids:
        jobs.accept(request_id, "account-1", BODY, 40, fate or Fate())
    return ids


async def test_a_job_goes_from_queued_through_processing_to_succeeded(start: Start) -> None:
    api: Api = await start(hold=False, speed=6000, gpus=1)
    request_id = await api.accepted()
    job = api.emulator.jobs[request_id]
    assert job.status == "processing"
    waiting = api.emulator.jobs[await api.accepted()]
    assert waiting.status in ("queued", "processing")
    await api.emulator.wait_until(lambda: waiting.is_terminal)
    assert (job.status, waiting.status) == ("succeeded", "succeeded")
    assert job.created_at <= job.started_at <= job.ended_at <= waiting.started_at


async def test_no_more_jobs_run_than_there_are_gpus() -> None:
    jobs, changes = make(gpus=3)
    accept(jobs, 50)
    assert (jobs.counts["processing"], jobs.counts["queued"], jobs.active) == (3, 47, 50)
    await changes.wait_until(lambda: jobs.active == 0)
    assert jobs.peak_active == 50
    assert jobs.peak_processing == 3
    assert jobs.counts["succeeded"] == 50


async def test_jobs_run_in_the_order_in_which_they_were_accepted() -> None:
    ended: list[str] = []
    jobs, changes = make(gpus=1, on_end=lambda job: ended.append(job.request_id))
    ids = accept(jobs, 20)
    await changes.wait_until(lambda: jobs.active == 0)
    assert ended == ids


class StillClock(Clock):
    """A clock that stands still and records the delays it is asked for."""

    def __init__(self) -> None:
        super().__init__(speed=1)
        self.delays: list[float] = []

    def call_later(self, virtual_seconds: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        self.delays.append(virtual_seconds)
        return asyncio.get_running_loop().call_later(3600, act)


async def test_running_times_are_log_normal_around_the_median() -> None:
    clock = StillClock()
    jobs = Jobs(clock, Changes(), Random(SEED), gpus=2000, median_seconds=90, sigma=0.5)
    accept(jobs, 2000)
    jobs.close()
    logs = sorted(log(seconds) for seconds in clock.delays)
    assert logs[1000] == pytest.approx(log(90), abs=0.06)
    assert stdev(logs) == pytest.approx(0.5, abs=0.05)


async def test_the_seed_decides_ids_and_times() -> None:
    def draw() -> tuple[list[str], list[float]]:
        clock = StillClock()
        jobs = Jobs(clock, Changes(), Random(SEED), gpus=5, median_seconds=90, sigma=0.5)
        ids = accept(jobs, 5)
        jobs.close()
        return ids, clock.delays

    assert draw() == draw()


async def test_tens_of_thousands_of_jobs_cost_no_task_and_few_timers() -> None:
    jobs, changes = make(gpus=100, speed=1e9)
    tasks = len(asyncio.all_tasks())
    accept(jobs, 20_000)
    assert len(asyncio.all_tasks()) == tasks
    assert jobs.counts["processing"] == 100
    await changes.wait_until(lambda: jobs.active == 0)
    assert jobs.peak_active == 20_000
    assert len(jobs) == 20_000


async def test_a_held_job_changes_only_when_told_to() -> None:
    jobs, _ = make(hold=True)
    first, second, third = accept(jobs, 3)
    assert jobs.counts["queued"] == 3
    jobs.start(first)
    assert jobs[first].status == "processing"
    with pytest.raises(ValueError, match="is processing, so it cannot start"):
        jobs.start(first)
    jobs.finish(first, "failed")
    assert jobs[first].error == {
        "code": "generation_failed",
        "message": "The generation failed",
    }
    with pytest.raises(ValueError, match="is already failed"):
        jobs.finish(first)
    jobs.finish(second, "cancelled")
    jobs.start(third)
    jobs.close()
    assert [job.status for job in jobs.values()] == ["failed", "cancelled", "processing"]


async def test_finishing_a_running_job_frees_its_gpu_for_the_next() -> None:
    jobs, _ = make(gpus=1, speed=0.001)
    first, second = accept(jobs, 2)
    jobs.finish(first, "cancelled")
    assert jobs[second].status == "processing"
    jobs.close()


async def test_a_job_cancelled_in_the_queue_never_runs() -> None:
    jobs, _ = make(gpus=1, speed=0.001)
    first, second, third = accept(jobs, 3)
    jobs.finish(second, "cancelled")
    jobs.finish(first)
    assert [jobs[each].status for each in (first, second, third)] == [
        "succeeded",
        "cancelled",
        "processing",
    ]
    assert jobs[second].started_at is None
    jobs.close()


async def test_a_stuck_job_keeps_its_gpu_until_it_is_ended_by_hand() -> None:
    jobs, changes = make(gpus=2)
    (stuck,) = accept(jobs, 1, Fate(None))
    accept(jobs, 3)
    await changes.wait_until(lambda: jobs.counts["succeeded"] == 3)
    assert jobs[stuck].status == "processing"
    jobs.finish(stuck)
    assert jobs.active == 0


async def test_a_job_ends_as_its_fate_says() -> None:
    jobs, changes = make()
    error = {"code": "moderation", "message": "No"}
    (failed,) = accept(jobs, 1, Fate("failed", error))
    (cancelled,) = accept(jobs, 1, Fate("cancelled", error))
    await changes.wait_until(lambda: jobs.active == 0)
    assert (jobs[failed].status, jobs[failed].error) == ("failed", error)
    assert (jobs[cancelled].status, jobs[cancelled].error) == ("cancelled", None)


async def test_jobs_are_a_mapping_with_an_honest_repr() -> None:
    jobs, _ = make(hold=True)
    assert repr(jobs) == "<Jobs 0: none; peak 0 active>"
    ids = accept(jobs, 2)
    assert list(jobs) == ids
    assert ids[0] in jobs
    assert jobs.get("nobody") is None
    jobs.finish(ids[0])
    assert repr(jobs) == "<Jobs 2: 1 queued, 1 succeeded; peak 2 active>"


@settings(max_examples=60, deadline=None)
@given(gpus=st.integers(1, 4), steps=st.lists(st.sampled_from("asfc"), max_size=30))
async def test_the_counts_stay_right_through_any_events(gpus: int, steps: list[str]) -> None:
    jobs, _ = make(gpus=gpus, speed=1e-6)
    random = Random(SEED)
    for step in steps:
        open_jobs = [job for job in jobs.values() if not job.is_terminal]
        if step == "a":
            accept(jobs, 1)
        elif open_jobs:
            end = {"s": "succeeded", "f": "failed", "c": "cancelled"}[step]
            jobs.finish(random.choice(open_jobs).request_id, end)
        by_status: dict[str, int] = {}
        for job in jobs.values():
            by_status[job.status] = by_status.get(job.status, 0) + 1
        assert {status: n for status, n in jobs.counts.items() if n} == by_status
        assert by_status.get("processing", 0) == min(gpus, jobs.active)
    jobs.close()


async def test_a_true_predicate_is_not_waited_for_and_a_cancelled_wait_leaves_nothing() -> None:
    changes = Changes()
    await changes.wait_until(lambda: True)
    evaluated = 0

    def never() -> bool:
        nonlocal evaluated
        evaluated += 1
        return False

    waiting = asyncio.create_task(changes.wait_until(never))
    await asyncio.sleep(0)
    changes.notify()
    assert evaluated == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    changes.notify()
    assert evaluated == 2
