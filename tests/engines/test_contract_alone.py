"""What every engine does before a worker comes, after it went, and without any: see `Queue`."""

import attrs
import pytest

from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def outcomes(queue, run):
    return [outcome async for outcome in queue.results(run=run)]


async def test_a_run_waits_for_a_worker_and_is_told_however_late_somebody_asks(
    engine, make_requests
):
    async with engine.queue() as queue:
        assert await outcomes(queue, "autumn") == []
        keys = await queue.enqueue(make_requests(3), run="autumn")
        assert await queue.tasks(run="autumn") == dict.fromkeys(keys)
        status = await queue.status(run="autumn")
        assert (status.waiting, status.total, status.is_complete) == (3, 3, False)
        with pytest.raises(ValueError, match="no outcome"):
            await queue.forget(run="autumn")
        async with engine.worker():
            first = await outcomes(queue, "autumn")
    async with engine.queue() as late:
        assert sorted(map(str, await outcomes(late, "autumn"))) == sorted(map(str, first))
    assert len(first) == 3


async def test_what_no_worker_has_is_cancelled_and_never_sent(engine, emulator, make_requests):
    *requests, later = make_requests(4)
    async with engine.queue() as queue:
        first, *others = await queue.enqueue(requests, run="autumn")
        assert await queue.cancel(run="autumn", keys=[first, "of another run"]) == 1
        assert await queue.cancel(run="autumn") == 2
        assert await queue.cancel(run="autumn") == 0
        told = await outcomes(queue, "autumn")
        async with engine.worker():
            await queue.enqueue([*requests, later], run="autumn")
            made = [each for each in await outcomes(queue, "autumn") if each not in told]
    assert {each.key for each in told} == {first, *others}
    assert {(each.state, each.sent) for each in told} == {("cancelled", False)}
    assert [each.state for each in made] == ["succeeded"]
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


async def test_what_waits_or_is_cancelled_is_made_as_it_was_asked_for_last(
    engine, emulator, make_requests
):
    red, blue, other = make_requests(3)
    async with engine.queue() as queue:
        await queue.enqueue([("shot", red), ("cancelled", red), ("other", other)], run="autumn")
        await queue.cancel(run="autumn", keys=["cancelled"])
        keys = await queue.enqueue([("shot", blue), ("cancelled", blue)], run="autumn")
        assert await queue.tasks(run="autumn") == dict.fromkeys([*keys, "other"])
        assert (await queue.status(run="autumn")).waiting == 3
        async with engine.worker():
            told = await outcomes(queue, "autumn")
    assert sorted((each.key, each.state) for each in told) == [
        (key, "succeeded") for key in ("cancelled", "other", "shot")
    ]
    assert (charged(emulator, [red]), charged(emulator, [blue, other])) == ({0: 1}, {2: 1, 1: 1})


async def test_what_was_rejected_is_made_as_it_was_corrected(engine, emulator, make_requests):
    [good] = make_requests(1)
    bad = attrs.evolve(good, duration=10_000)
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue([("shot", bad)], run="autumn")
        assert [each.state for each in await outcomes(queue, "autumn")] == ["rejected"]
        await queue.enqueue([("shot", good)], run="autumn")
        assert [each.state for each in await outcomes(queue, "autumn")] == ["succeeded"]
    assert charged(emulator, [good]) == {1: 1}


async def test_what_is_sent_is_not_replaced_and_nothing_is_enqueued(held_engine, make_requests):
    requests, emulator = make_requests(3), held_engine.emulator
    red, blue, late = requests
    async with held_engine.queue() as queue, held_engine.worker():
        await queue.enqueue([("shot", red)], run="autumn")
        await emulator.wait_until(lambda: charged(emulator, [red]) == {1: 1})
        with pytest.raises(ValueError, match="to another request"):
            await queue.enqueue([("shot", blue), ("late", late)], run="autumn")
        assert list(await queue.tasks(run="autumn")) == ["shot"]
        await queue.enqueue([("shot", red)], run="autumn")
        await queue.cancel(run="autumn")
        assert [each.sent for each in await outcomes(queue, "autumn")] == [True]
        with pytest.raises(ValueError, match="shot"):
            await queue.enqueue([("shot", blue)], run="autumn")
    assert charged(emulator, requests) == {1: 1, 0: 2}


async def test_a_key_of_two_different_requests_is_refused_and_nothing_enqueued(
    engine, make_requests
):
    one, other = make_requests(2)
    async with engine.queue() as queue:
        with pytest.raises(ValueError, match="different requests"):
            await queue.enqueue([other, ("shot", one), ("shot", other)], run="autumn")
        assert await queue.tasks(run="autumn") == {}
        keys = await queue.enqueue([("shot", one), ("shot", one)], run="autumn")
        assert keys == ["shot", "shot"]
        assert list(await queue.tasks(run="autumn")) == ["shot"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
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
