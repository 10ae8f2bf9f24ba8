"""What is enqueued in DBOS when somebody else is at it, or when it is broken off."""

import asyncio
import threading

import attrs
import pytest
from dbos import DBOSClient
from sqlalchemy.exc import OperationalError

from seedance_async import GenerationRequest, without_query
from seedance_async.emulator import Fault
from seedance_async.engines import QueueError, Task
from seedance_async.engines.dbos import queue as queue_module
from seedance_async.engines.dbos.rows import Rows
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def two_at_once(monkeypatch):
    monkeypatch.setattr(queue_module, "_AT_ONCE", 2)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
async def test_nothing_is_enqueued_once_a_cancelled_call_has_ended(
    engine, make_requests, monkeypatch, two_at_once
):
    arrived, goes_on = asyncio.Event(), threading.Event()
    loop, insert, inserted = asyncio.get_running_loop(), DBOSClient.enqueue_in_transaction, []

    def insert_until_the_fourth(*arguments):
        inserted.append(insert(*arguments))
        if len(inserted) == 4:
            loop.call_soon_threadsafe(arrived.set)
            goes_on.wait(10)

    monkeypatch.setattr(DBOSClient, "enqueue_in_transaction", insert_until_the_fourth)
    async with engine.queue() as queue:
        calling = asyncio.create_task(queue.enqueue(make_requests(7), run="autumn"))
        await arrived.wait()
        calling.cancel()
        await asyncio.wait({calling}, timeout=0.01)
        assert not calling.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert len(await queue.tasks(run="autumn")) == 2
        assert len(inserted) == 4


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_call_that_fails_on_one_connection_enqueues_nothing_more_and_can_be_repeated(
    engine, make_requests, monkeypatch, two_at_once
):
    monkeypatch.setattr(queue_module, "_FOR_ANOTHER", 2)
    insert, inserted, requests = DBOSClient.enqueue_in_transaction, [], make_requests(20)

    def insert_until_the_fifth(*arguments):
        inserted.append(threading.current_thread())
        if len(inserted) == 5:
            raise OperationalError("INSERT", {}, Exception("the server is shutting down"))
        return insert(*arguments)

    async with engine.queue() as queue:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(DBOSClient, "enqueue_in_transaction", insert_until_the_fifth)
            with pytest.raises(QueueError, match="shutting down"):
                await queue.enqueue(requests, run="autumn")
            tried = len(inserted)
            assert len(await queue.tasks(run="autumn")) < 20
            assert len(inserted) == tried
            assert len(set(inserted)) > 1
        keys = await queue.enqueue(requests, run="autumn")
        assert sorted(await queue.tasks(run="autumn")) == sorted(keys)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
async def test_what_is_enqueued_while_its_run_is_forgotten_stays(
    engine, make_requests, monkeypatch
):
    *requests, last = make_requests(3)
    of_run = Rows.of_run

    async def read_and_then_enqueue(self, *arguments, **filters):
        found = await of_run(self, *arguments, **filters)
        await other.enqueue([("late", last)], run="autumn")
        return found

    async with engine.queue() as queue, engine.queue() as other:
        await queue.enqueue(requests, run="autumn")
        await queue.cancel(run="autumn")
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Rows, "of_run", read_and_then_enqueue)
            assert await queue.forget(run="autumn") == 2
        assert await queue.tasks(run="autumn") == {"late": None}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_rows_are_locked_in_one_order_and_handed_out_in_that_of_the_call(
    engine, make_requests, monkeypatch, two_at_once
):
    """Else two calls with the same keys wait for each other in PostgreSQL, until one fails."""
    insert, locked = DBOSClient.enqueue_in_transaction, []

    def insert_and_note(client, connection, options, *arguments):
        locked.append((options["workflow_id"], options["priority"]))
        return insert(client, connection, options, *arguments)

    monkeypatch.setattr(DBOSClient, "enqueue_in_transaction", insert_and_note)
    async with engine.queue() as queue:
        pairs = list(zip(["d", "c", "a", "b"], make_requests(4), strict=True))
        assert await queue.enqueue(pairs, run="autumn") == ["d", "c", "a", "b"]
    assert locked == [("autumn/c", 2), ("autumn/d", 1), ("autumn/a", 3), ("autumn/b", 4)]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_key_may_be_given_again_with_its_media_signed_anew(engine):
    signed = [f"https://a.example/river.png?signature={number}" for number in range(2)]
    pairs = [("shot", GenerationRequest("river", media_urls=[url])) for url in signed]
    async with engine.queue() as queue, engine.queue(media_key=without_query) as signing:
        with pytest.raises(ValueError, match="different requests of one call have the key 'shot'"):
            await queue.enqueue(pairs, run="autumn")
        assert await signing.enqueue(pairs, run="autumn") == ["shot", "shot"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_two_videos_of_one_name_are_refused_before_anything_is_enqueued(
    engine, make_requests
):
    """One would take the place of the other, which was paid for."""
    one, other = make_requests(2)
    async with engine.queue() as queue:
        for first, second in [("River.mp4", "river.mp4"), ("b.mp4", None)]:
            tasks = [Task("a", one, first), Task("b", other, second)]
            with pytest.raises(ValueError, match="the videos of 'a' and 'b' have one name"):
                await queue.enqueue(tasks, run="autumn")
        assert await queue.runs() == []
        await queue.enqueue([Task(key, one, "{id}.mp4") for key in "ab"], run="autumn")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_signatures_that_are_new_reach_what_waits_and_wake_nothing_that_is_cancelled(engine):
    def signed(number):
        url = f"https://a.example/river.png?signature={number}"
        return GenerationRequest("river", media_urls=[url])

    async with engine.queue(media_key=without_query) as queue:
        await queue.enqueue([("waits", signed(1)), ("cancelled", signed(1))], run="autumn")
        await queue.cancel(run="autumn", keys=["cancelled"])
        pairs = [("waits", signed(2)), ("cancelled", signed(2))]
        assert await queue.changed(pairs, run="autumn") == []
        assert await queue.enqueue(pairs, run="autumn") == ["waits", "cancelled"]
        assert (await queue.task("waits")).request == signed(2)
        status = await queue.status(run="autumn")
        assert (status.waiting, status.ended) == (1, {"cancelled": 1})


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_a_worker_takes_while_it_is_to_be_replaced_stays_with_it(
    engine, make_requests, monkeypatch
):
    red, blue, other = make_requests(3)
    cancel = Rows.cancel_unseen

    async def cancel_what_is_just_taken(self, ids):
        await cancel(self, ids)
        return ["autumn/taken"]

    before = [("taken", red), ("other", other)]
    async with engine.queue() as queue:
        await queue.enqueue(before, run="autumn")
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Rows, "cancel_unseen", cancel_what_is_just_taken)
            with pytest.raises(ValueError, match=r"'taken' belongs .* a worker has taken it"):
                await queue.enqueue([("taken", blue), ("other", blue), ("c", blue)], run="autumn")
        assert await queue.tasks(run="autumn") == {"taken": None, "other": None}
        assert await queue.changed(before, run="autumn") == []


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_a_worker_has_had_is_replaced_once_it_is_cancelled(
    engine, emulator, make_requests
):
    """A worker that was stopped may have it still."""
    red, blue = make_requests(2)
    async with engine.queue() as queue:
        await queue.enqueue([("shot", red)], run="autumn")
        async with engine.worker(api_key="refused"):
            async for _, status in queue.follow(run="autumn"):
                if status.running:
                    break
        with pytest.raises(
            ValueError, match=r"whose prompt differs, .* a worker has it, or had it"
        ):
            await queue.enqueue([("shot", blue)], run="autumn")
        await queue.cancel(run="autumn")
        async with engine.worker():
            assert [each.state async for each in queue.results(run="autumn")] == ["cancelled"]
            await queue.enqueue([("shot", blue)], run="autumn")
            assert [each.state async for each in queue.results(run="autumn")] == ["succeeded"]
    assert (charged(emulator, [red]), charged(emulator, [blue])) == ({0: 1}, {1: 1})


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_the_server_has_refused_is_made_as_it_was_corrected(
    engine, emulator, make_requests
):
    red, blue = make_requests(2)
    emulator.faults.script(
        "submit", Fault("error", status=400, code="INVALID_PROMPT"), match=red.prompt
    )
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue([("shot", red)], run="autumn")
        assert [each.state async for each in queue.results(run="autumn")] == ["rejected"]
        await queue.enqueue([("shot", blue)], run="autumn")
        assert [each.state async for each in queue.results(run="autumn")] == ["succeeded"]
    assert (charged(emulator, [red]), charged(emulator, [blue])) == ({0: 1}, {1: 1})


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_somebody_else_hands_out_again_is_counted(engine, make_requests):
    async with engine.queue() as queue, engine.queue() as other:
        keys = await queue.enqueue(make_requests(2), run="autumn")
        await queue.cancel(run="autumn")
        assert (await queue.status(run="autumn")).is_complete
        assert await other.again(run="autumn", keys=keys[:1]) == 1
        status = await queue.status(run="autumn")
        assert (status.waiting, status.ended) == (1, {"cancelled": 1})


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_bought_task_may_be_enqueued_again_with_other_metadata(engine, make_requests):
    """As of a script that notes the day of its run, and is run once more."""
    [request] = make_requests(1)
    monday, tuesday = (attrs.evolve(request, metadata={"day": day}) for day in ("1", "2"))
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue([("shot", monday)], run="autumn")
        [told] = [each async for each in queue.results(run="autumn")]
        assert await queue.changed([("shot", tuesday)], run="autumn") == []
        assert await queue.enqueue([("shot", tuesday)], run="autumn") == ["shot"]
        assert await queue.tasks(run="autumn") == {"shot": told}
