"""What is told of a job while it runs."""

import asyncio
import json

import attrs
import pytest

from seedance_async import GenerationRequest
from seedance_async.api.models import Submission
from seedance_async.jobs.registry import TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.stats import FinishTimes
from seedance_async.jobs.updates import JobUpdate, JobUpdates

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def registry():
    return TaskRegistry()


@pytest.fixture
def times():
    return FinishTimes()


@pytest.fixture
def updates(registry, times):
    return JobUpdates(registry, times)


def add(registry, name, state=JobState.QUEUED):
    record = registry.add(name, GenerationRequest("a river"))
    if state is not JobState.PENDING:
        registry.move(record, JobState.SUBMITTING)
        submission = Submission(f"req_{name}", state.value, 40)
        registry.accept(record, submission, at=asyncio.get_running_loop().time())
    return record


async def told(updates, record, every=10.0):
    return [update async for update in updates.follow(record, every)]


def later(seconds, *call):
    asyncio.get_running_loop().call_later(seconds, *call)


async def test_each_state_is_told_once_and_the_last_one_ends_it(registry, updates):
    record = add(registry, "a")
    later(3, registry.move, record, JobState.PROCESSING)
    later(8, registry.move, record, JobState.SUCCEEDED)
    seen = await told(updates, record)
    assert [(u.state, u.seconds) for u in seen] == [
        ("queued", 0), ("processing", 3), ("succeeded", 8),
    ]  # fmt: skip
    assert registry._move_watchers == {}


async def test_time_that_passes_is_told_too(registry, updates):
    record = add(registry, "a", JobState.PROCESSING)
    later(25, registry.move, record, JobState.FAILED)
    assert [update.seconds for update in await told(updates, record)] == [0, 10, 20, 25]


async def test_what_happens_while_the_consumer_is_busy_is_told_afterwards(registry, updates):
    record = add(registry, "a")
    seen = []
    async for update in updates.follow(record, 100.0):
        seen.append(update.state)
        if len(seen) == 1:
            registry.move(record, JobState.PROCESSING)
            registry.move(record, JobState.SUCCEEDED)
    assert seen == ["queued", "succeeded"]


async def test_a_job_that_has_ended_is_told_once(registry, updates):
    record = add(registry, "a")
    registry.move(record, JobState.CANCELLED)
    assert await told(updates, record) == [JobUpdate(JobState.CANCELLED, 0)]


async def test_a_job_that_is_withdrawn_ends_it(registry, updates):
    record = add(registry, "a", JobState.PENDING)
    later(3, registry.discard, record)
    seen = await told(updates, record)
    assert [update.state for update in seen] == ["pending", "pending"]


async def test_what_is_left_is_the_median_of_those_that_took_longer(registry, updates, times):
    for seconds in (50, 60, 70, 100):
        times.note(seconds, 1)
    record = add(registry, "a", JobState.PROCESSING)
    later(130, registry.move, record, JobState.SUCCEEDED)
    seen = await told(updates, record, every=65)
    assert [(u.seconds, u.remaining) for u in seen] == [(0, 60), (65, 5), (130, None)]


async def test_positions_are_those_among_the_jobs_in_the_same_state(registry, updates):
    first, second = add(registry, "a"), add(registry, "b")
    waiting, also = (add(registry, name, JobState.PENDING) for name in "cd")

    async def position(record):
        async for update in updates.follow(record, 10):
            return update.position

    assert [await position(r) for r in (first, second, waiting, also)] == [1, 2, 1, 2]
    registry.move(first, JobState.PROCESSING)
    assert [await position(r) for r in (first, second)] == [None, 1]


async def test_an_update_is_ready_for_json(registry, updates):
    record = add(registry, "a")
    registry.move(record, JobState.FAILED)
    (update,) = await told(updates, record)
    shown = {"state": "failed", "seconds": 0.0, "remaining": None, "position": None}
    assert json.loads(json.dumps(attrs.asdict(update))) == shown
