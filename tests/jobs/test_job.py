"""The handle by itself: what can be read of it, and what survives pickling."""

import asyncio
import pickle

import pytest

from seedance_async import GenerationCancelledError, GenerationRequest, Job, JobTimeoutError
from seedance_async.jobs.job import JobActions, JobToken
from seedance_async.jobs.registry import JobRecord, TaskRegistry
from seedance_async.jobs.state import JobState

pytestmark = pytest.mark.virtual_time


async def never(*_):
    raise AssertionError


ACTIONS = JobActions(never, never, never, never)


@pytest.fixture
def registry():
    return TaskRegistry()


def running(registry, request_id="req_1"):
    record = registry.add("mine", GenerationRequest("a river"))
    registry.resume(record, request_id)
    return record


def test_a_job_without_an_id_has_no_token_and_names_its_state(registry):
    job = Job(registry.add("mine", GenerationRequest("a river")), ACTIONS)
    assert repr(job) == "<Job mine pending>"
    assert (job.error, job.generation, job.done) == (None, None, False)
    with pytest.raises(RuntimeError, match="no request id"):
        _ = job.token
    with pytest.raises(RuntimeError, match="has not ended"):
        job.result()


def test_a_token_is_plain_json_and_names_job_and_key(registry):
    job = Job(running(registry), ACTIONS)
    assert JobToken.parse(job.token) == JobToken("req_1", "mine")
    assert repr(job) == "<Job req_1 queued>"


def test_two_handles_of_one_job_are_equal(registry):
    record, other = running(registry), registry.add("other", GenerationRequest("a river"))
    assert Job(record, ACTIONS) == Job(record, None)
    assert len({Job(record, ACTIONS), Job(record, ACTIONS), Job(other, ACTIONS)}) == 2
    assert Job(record, ACTIONS) != "mine"


async def test_tasks_can_be_made_of_a_job_and_each_waits_by_itself(registry):
    record = running(registry)
    job = Job(record, ACTIONS)
    asyncio.get_running_loop().call_later(3, registry.move, record, JobState.CANCELLED)
    tasks = [asyncio.create_task(job), asyncio.create_task(job), asyncio.ensure_future(job)]
    await asyncio.sleep(1)
    tasks[0].cancel()
    done, _ = await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, False, False]
    assert all(isinstance(t.exception(), GenerationCancelledError) for t in tasks[1:])
    assert len(done) == 3
    assert record._watchers == ()


async def test_a_group_can_wait_for_a_job(registry):
    record = running(registry)
    asyncio.get_running_loop().call_later(3, registry.move, record, JobState.CANCELLED)
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Job(record, ACTIONS))
    assert caught.group_contains(GenerationCancelledError)


async def test_waiting_for_a_bare_job_says_that_a_task_is_needed(registry):
    with pytest.raises(TypeError, match="use tasks explicitly"):
        await asyncio.wait({Job(running(registry), ACTIONS)})


def test_a_job_is_run_by_a_task_or_not_at_all(registry):
    with pytest.raises(RuntimeError):
        Job(running(registry), ACTIONS).send(None)


async def test_many_can_wait_for_one_job_and_leave_nothing_behind(registry):
    record = running(registry)
    job = Job(record, ACTIONS)
    waiting = [asyncio.ensure_future(job.wait(3)) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [JobTimeoutError] * 3
    assert "_watchers=()" not in repr(record)
    assert record._watchers == ()


async def test_a_wait_that_ends_with_its_timeout_still_gets_the_end(registry):
    record = running(registry)
    asyncio.get_running_loop().call_later(3, registry.move, record, JobState.CANCELLED)
    with pytest.raises(Exception, match="cancelled"):
        await Job(record, ACTIONS).wait(3)


@pytest.mark.parametrize("path", [5, None, b"river.mp4"])
async def test_a_download_to_no_place_is_refused_before_any_waiting(registry, path):
    with pytest.raises(TypeError, match="path must be text, a Path, or a place with a save method"):
        await Job(running(registry), ACTIONS).download(path)


async def test_an_unpickled_job_can_be_read_but_not_awaited(registry):
    job = pickle.loads(pickle.dumps(Job(running(registry), ACTIONS)))
    assert (job.request_id, job.state, job.request.prompt) == ("req_1", "queued", "a river")
    with pytest.raises(RuntimeError, match="attach its token"):
        job.updates()
    for call in (job.wait(), job.cancel(), job.download("x")):
        with pytest.raises(RuntimeError, match="attach its token"):
            await call


async def test_cancelling_a_job_that_has_ended_asks_nobody(registry):
    record = running(registry)
    registry.move(record, JobState.FAILED)
    await Job(record, ACTIONS).cancel()


def test_a_record_calls_a_late_watcher_at_once():
    seen = []
    JobRecord("k", None, JobState.REJECTED).on_final(seen.append)
    assert len(seen) == 1
