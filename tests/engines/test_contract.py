"""What every engine does, whatever is below it: see `Queue`."""

from collections import Counter

import pytest

from seedance_async.engines import Task

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def outcomes(queue, run):
    return [outcome async for outcome in queue.results(run=run)]


def charged_prompts(emulator, requests):
    return [emulator.ledger.charged_prompts()[each.prompt] for each in requests]


def charged(emulator, requests):
    """How many of the requests were charged how often."""
    return Counter(charged_prompts(emulator, requests))


async def test_each_task_is_made_once_and_its_outcome_told_once(engine, emulator, make_requests):
    requests = make_requests(20)
    async with engine.queue() as queue:
        keys = await queue.enqueue(requests, run="autumn")
        before = await queue.status(run="autumn")
        async with engine.worker():
            told = await outcomes(queue, "autumn")
        after = await queue.status(run="autumn")
    assert (before.waiting, before.total, before.is_complete) == (20, 20, False)
    assert (after.ended, after.total, after.is_complete) == ({"succeeded": 20}, 20, True)
    assert sorted(each.key for each in told) == sorted(keys)
    assert {each.state for each in told} == {"succeeded"}
    assert charged(emulator, requests) == {1: 20}
    assert len({each.file for each in told}) == len(list(engine.videos.iterdir())) == 20


async def test_runs_their_tasks_and_outcomes_are_known(engine, make_requests):
    async with engine.queue() as queue:
        *requests, last = make_requests(3)
        keys = await queue.enqueue(requests, run="autumn/1")
        await queue.enqueue([last], run="winter")
        assert await queue.runs() == ["autumn/1", "winter"]
        assert await queue.tasks(run="autumn/1") == dict.fromkeys(keys)
        making = set()
        async with engine.worker():
            async for told, status in queue.follow(run="autumn/1"):
                making |= set(status.making) | {outcome.key for outcome in told}
        found = await queue.tasks(run="autumn/1")
        assert await queue.tasks(run="nothing") == {}
    assert making == set(keys) == set(found)
    assert {each.state for each in found.values()} == {"succeeded"}


async def test_outcomes_are_told_however_late_somebody_asks(engine, make_requests):
    async with engine.queue() as queue:
        await queue.enqueue(make_requests(3), run="autumn")
        async with engine.worker():
            first = await outcomes(queue, "autumn")
    async with engine.queue() as late:
        assert sorted(map(str, await outcomes(late, "autumn"))) == sorted(map(str, first))


async def test_a_run_without_tasks_ends_at_once(engine):
    async with engine.queue() as queue:
        assert await outcomes(queue, "nothing") == []


async def test_what_is_enqueued_again_is_not_made_again(engine, emulator, make_requests):
    requests = make_requests(3)
    async with engine.queue() as queue, engine.worker():
        keys = await queue.enqueue(requests, run="autumn")
        assert await queue.enqueue(requests, run="autumn") == keys
        assert len(await outcomes(queue, "autumn")) == 3
        assert await queue.enqueue(requests, run="autumn") == keys
        assert len(await outcomes(queue, "autumn")) == 3
    assert charged(emulator, requests) == {1: 3}


async def test_equal_requests_of_a_call_are_jobs_of_their_own(engine, emulator, make_requests):
    [request] = make_requests(1)
    async with engine.queue() as queue, engine.worker():
        keys = await queue.enqueue([request, request], run="autumn")
        assert len(set(keys)) == 2
        assert len(await outcomes(queue, "autumn")) == 2
    assert charged(emulator, [request]) == {2: 1}


async def test_a_key_in_two_runs_is_one_job(engine, emulator, make_requests):
    requests = make_requests(3)
    async with engine.queue() as queue, engine.worker():
        keys = await queue.enqueue(requests, run="autumn")
        assert await queue.enqueue(requests, run="Autumn") == keys
        first, second = await outcomes(queue, "autumn"), await outcomes(queue, "Autumn")
    assert {each.key: each for each in first} == {each.key: each for each in second}
    assert charged(emulator, requests) == {1: 3}


async def test_a_task_says_what_its_file_is_called(engine, make_requests):
    first, second, third = make_requests(3)
    named = [Task("a/b", first, file="first.mp4"), Task("c", third, file="3-{id}.mp4")]
    async with engine.queue() as queue, engine.worker():
        keys = await queue.enqueue([*named, ("a\\b", second)], run="autumn")
        told = {each.key: each async for each in queue.results(run="autumn")}
    assert keys == ["a/b", "c", "a\\b"]
    assert told["a/b"].file == str(engine.videos / "first.mp4")
    assert told["c"].file == str(engine.videos / f"3-{told['c'].request_id}.mp4")
    assert told["a\\b"].file != told["a/b"].file


async def test_what_the_server_refuses_is_rejected_and_not_sent(engine, make_requests):
    [request] = make_requests(1)
    impossible = type(request)(request.prompt, duration=10_000)
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue([impossible], run="autumn")
        [told] = await outcomes(queue, "autumn")
    assert (told.state, told.sent, told.request_id) == ("rejected", False, None)
    assert "duration" in told.error
    assert told.error_type == "InvalidRequestError"


# --- cancelling -----------------------------------------------------------------------------------


async def test_what_no_worker_has_is_cancelled_and_never_sent(engine, emulator, make_requests):
    requests = make_requests(3)
    async with engine.queue() as queue:
        first, *others = await queue.enqueue(requests, run="autumn")
        assert await queue.cancel(run="autumn", keys=[first, "of another run"]) == 1
        assert await queue.cancel(run="autumn") == 2
        assert await queue.cancel(run="autumn") == 0
        told = await outcomes(queue, "autumn")
        async with engine.worker():
            await queue.enqueue(make_requests(3), run="autumn")
            assert await outcomes(queue, "autumn") == told
    assert {each.key for each in told} == {first, *others}
    assert {(each.state, each.sent) for each in told} == {("cancelled", False)}
    assert charged(emulator, requests) == {0: 3}


async def test_what_runs_is_cancelled_at_the_server_and_told(held_engine, make_requests):
    requests, emulator = make_requests(2), held_engine.emulator
    async with held_engine.queue() as queue, held_engine.worker():
        first, _ = await queue.enqueue(requests, run="autumn")
        await emulator.wait_until(lambda: charged(emulator, requests) == {1: 2})
        assert await queue.cancel(run="autumn", keys=[first]) == 1
        told = await anext(queue.results(run="autumn"))
        status = await queue.status(run="autumn")
        await queue.cancel(run="autumn")
        assert len(await outcomes(queue, "autumn")) == 2
    assert (told.key, told.state, told.sent) == (first, "cancelled", True)
    assert told.request_id
    assert (status.running, status.ended) == (1, {"cancelled": 1})
    assert charged(emulator, requests) == {1: 2}


async def test_what_is_enqueued_after_all_was_cancelled_is_made(engine, make_requests):
    first, second = make_requests(2)
    async with engine.queue() as queue:
        await queue.enqueue([first], run="autumn")
        await queue.cancel(run="autumn")
        async with engine.worker():
            await queue.enqueue([second], run="autumn")
            states = [each.state for each in await outcomes(queue, "autumn")]
    assert sorted(states) == ["cancelled", "succeeded"]


async def test_what_was_cancelled_can_be_handed_out_again(engine, emulator, make_requests):
    requests = make_requests(2)
    async with engine.queue() as queue:
        keys = await queue.enqueue(requests, run="autumn")
        await queue.cancel(run="autumn")
        assert await queue.again(run="autumn", keys=keys[:1]) == 1
        async with engine.worker():
            told = {each.key: each.state for each in await outcomes(queue, "autumn")}
    assert told == {keys[0]: "succeeded", keys[1]: "cancelled"}
    assert charged(emulator, requests) == {1: 1, 0: 1}


# --- forgetting -----------------------------------------------------------------------------------


async def test_a_run_that_is_forgotten_is_not_bought_again(engine, emulator, make_requests):
    requests = make_requests(2)
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue(requests, run="autumn")
        first = await outcomes(queue, "autumn")
        assert await queue.forget(run="autumn") == 2
        assert await outcomes(queue, "autumn") == []
        await queue.enqueue(requests, run="autumn")
        second = await outcomes(queue, "autumn")
    assert {each.key: each for each in first} == {each.key: each for each in second}
    assert charged(emulator, requests) == {1: 2}


async def test_a_run_with_tasks_that_have_no_outcome_is_not_forgotten(engine, make_requests):
    async with engine.queue() as queue:
        await queue.enqueue(make_requests(1), run="autumn")
        with pytest.raises(ValueError, match="no outcome"):
            await queue.forget(run="autumn")
        assert (await queue.status(run="autumn")).waiting == 1


async def test_what_a_limit_keeps_from_being_sent_is_rejected_and_can_be_handed_out_again(
    engine, emulator, make_requests
):
    requests = make_requests(3)  # 40 credits each
    async with engine.queue() as queue:
        await queue.enqueue(requests, run="autumn")
        async with engine.worker(max_credits=100):
            told = await outcomes(queue, "autumn")
        [left] = [each for each in told if each.state != "succeeded"]
        assert (left.state, left.sent) == ("rejected", False)
        assert "credits" in left.error
        assert await queue.again(run="autumn", keys=[left.key]) == 1
        async with engine.worker(max_credits=120):
            assert {each.state for each in await outcomes(queue, "autumn")} == {"succeeded"}
    assert charged(emulator, requests) == {1: 3}
