"""What every engine does while a worker is there, whatever is below it: see `Queue`."""

import secrets
from pathlib import Path

import attrs
import pytest

from seedance_async.engines import Task
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_each_task_is_made_once_and_its_outcome_told_once(running, emulator, make_requests):
    requests = make_requests(10)
    keys = await running.queue.enqueue(requests, run=running.run)
    told = await running.outcomes()
    status = await running.queue.status(run=running.run)
    assert (status.ended, status.total, status.is_complete) == ({"succeeded": 10}, 10, True)
    assert sorted(each.key for each in told) == sorted(keys)
    assert {each.state for each in told} == {"succeeded"}
    assert charged(emulator, requests) == {1: 10}
    assert len({each.file for each in told}) == 10


async def test_runs_their_tasks_and_outcomes_are_known(running, make_requests):
    queue, other = running.queue, f"{running.run}/2"
    *requests, last = make_requests(3)
    keys = await queue.enqueue(requests, run=running.run)
    await queue.enqueue([last], run=other)
    assert (await queue.runs())[-2:] == [running.run, other]
    making = set()
    async for told, status in queue.follow(run=running.run):
        making |= set(status.making) | {outcome.key for outcome in told}
    found = await queue.tasks(run=running.run)
    assert making == set(keys) == set(found)
    assert {each.state for each in found.values()} == {"succeeded"}
    assert await queue.tasks(run="nothing") == {}


async def test_what_is_enqueued_again_is_not_made_again(running, emulator, make_requests):
    requests, queue = make_requests(3), running.queue
    keys = await queue.enqueue(requests, run=running.run)
    assert await queue.enqueue(requests, run=running.run) == keys
    assert len(await running.outcomes()) == 3
    assert await queue.enqueue(requests, run=running.run) == keys
    assert len(await running.outcomes()) == 3
    assert charged(emulator, requests) == {1: 3}


async def test_equal_requests_of_a_call_are_jobs_of_their_own(running, emulator, make_requests):
    [request] = make_requests(1)
    keys = await running.queue.enqueue([request, request], run=running.run)
    assert len(set(keys)) == 2
    assert len(await running.outcomes()) == 2
    assert charged(emulator, [request]) == {2: 1}


async def test_a_key_in_two_runs_is_one_job(running, emulator, make_requests):
    requests, queue = make_requests(3), running.queue
    other = attrs.evolve(running, run=running.run.lower())
    keys = await queue.enqueue(requests, run=running.run)
    assert await queue.enqueue(requests, run=other.run) == keys
    first, second = await running.outcomes(), await other.outcomes()
    assert {each.key: each for each in first} == {each.key: each for each in second}
    assert charged(emulator, requests) == {1: 3}


async def test_a_task_says_what_its_file_is_called(running, make_requests):
    first, second, third = make_requests(3)
    name, videos = secrets.token_hex(4), running.engine.videos
    tasks = [Task(f"{name}/b", first, f"{name}.mp4"), Task(name, third, file=f"{name}-{{id}}.mp4")]
    keys = await running.queue.enqueue([*tasks, (f"{name}\\b", second)], run=running.run)
    told = {each.key: each for each in await running.outcomes()}
    assert keys == [f"{name}/b", name, f"{name}\\b"]
    assert told[keys[0]].file == str(videos / f"{name}.mp4")
    assert told[name].file == str(videos / f"{name}-{told[name].request_id}.mp4")
    assert told[keys[2]].file != told[keys[0]].file


async def test_what_the_server_refuses_is_rejected_and_not_sent(running, make_requests):
    [request] = make_requests(1)
    await running.queue.enqueue([type(request)(request.prompt, duration=10_000)], run=running.run)
    [told] = await running.outcomes()
    assert (told.state, told.sent, told.request_id) == ("rejected", False, None)
    assert "duration" in told.error
    assert told.error_type == "InvalidRequestError"


async def test_a_run_that_is_forgotten_is_not_bought_again(running, emulator, make_requests):
    requests, queue = make_requests(2), running.queue
    await queue.enqueue(requests, run=running.run)
    first = await running.outcomes()
    assert await queue.forget(run=running.run) == 2
    assert await running.outcomes() == []
    await queue.enqueue(requests, run=running.run)
    second = await running.outcomes()
    assert {each.key: each for each in first} == {each.key: each for each in second}
    assert charged(emulator, requests) == {1: 2}


async def test_a_video_that_is_gone_or_damaged_is_fetched_again_and_not_bought(
    running, emulator, make_requests
):
    requests, queue = make_requests(3), running.queue
    keys = await queue.enqueue(requests, run=running.run)
    first = {each.key: each for each in await running.outcomes()}
    gone, damaged, whole = (Path(first[key].file) for key in keys)
    gone.unlink()
    damaged.write_bytes(b"damaged")
    before = whole.stat().st_ino
    assert await queue.again(run=running.run, keys=keys) == 3
    assert {each.key: each for each in await running.outcomes()} == first
    assert gone.read_bytes() == damaged.read_bytes() == whole.read_bytes() != b"damaged"
    assert whole.stat().st_ino == before
    assert charged(emulator, requests) == {1: 3}
