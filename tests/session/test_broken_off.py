"""An event loop that is closed in the middle: coroutines are left for good, nothing is awaited."""

import asyncio
import contextlib
import types

import pytest

from seedance_async import GenerationRequest, JournalError
from seedance_async.jobs.polling.scheduler import Scheduler
from seedance_async.journal import SQLiteJournal
from tests.support.fakes import LOST, FakeAPI, accepted
from tests.support.memory_journal import MemoryJournal
from tests.support.virtual_time import VirtualTimeLoop


class NeverOpen(MemoryJournal):
    async def entries(self):
        await asyncio.get_running_loop().create_future()


@pytest.fixture(params=[VirtualTimeLoop])
def loop(request):
    loop = request.param()
    yield loop
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()


def break_off(coroutine):
    """Close a coroutine while another loop runs, as the collection of garbage may do."""

    async def elsewhere():
        before = asyncio.all_tasks()
        coroutine.close()
        assert asyncio.all_tasks() == before

    asyncio.run(elsewhere())


def test_opening_is_broken_off_and_leaves_no_task_to_another_loop(make_session, loop):
    opening = loop.create_task(make_session(journal=NeverOpen()).open())
    loop.run_until_complete(asyncio.sleep(0.1))
    break_off(opening.get_coro())


def test_a_block_that_is_broken_off_names_what_goes_on(make_session, loop, caplog):
    api = FakeAPI()
    api.script["create"] += [accepted("req_a"), LOST]
    reached = []

    async def program():
        async with make_session(transport=api, journal=MemoryJournal()) as session:
            await session.submit(GenerationRequest("a river", duration=4))
            await session.run([GenerationRequest("a lake", duration=4)])
            reached.append(True)
            await loop.create_future()

    task = loop.create_task(program())
    loop.run_until_complete(asyncio.sleep(1))
    assert reached
    break_off(task.get_coro())
    assert "the session ends with 1 job running; attach resumes them: req_a" in caplog.text
    assert "the session ends with 1 uncertain submit, which may be charged: " in caplog.text


def test_polls_that_are_broken_off_are_followed_by_no_others(loop):
    first, second = types.SimpleNamespace(place=None), types.SimpleNamespace(place=None)

    async def poll(item):
        try:
            await loop.create_future()
        finally:
            scheduler.put(second, 0.0)

    async def start():
        scheduler = Scheduler(poll, rate=10.0, workers=4)
        scheduler.start()
        scheduler.put(first, 0.0)
        await asyncio.sleep(1)
        return scheduler

    scheduler = loop.run_until_complete(start())
    (polling,) = asyncio.all_tasks(loop)
    break_off(polling.get_coro())
    assert len(scheduler) == 1


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop], indirect=True)
def test_a_journal_whose_opening_is_broken_off_releases_its_file(tmp_path, loop):
    opening = loop.create_task(SQLiteJournal(tmp_path / "journal.db").open())
    loop.run_until_complete(asyncio.sleep(0))
    assert not opening.done()
    break_off(opening.get_coro())

    async def open_again():
        while True:
            journal = SQLiteJournal(tmp_path / "journal.db")
            with contextlib.suppress(JournalError):  # until the thread of the first one has ended
                await journal.open()
                return await journal.aclose()

    asyncio.run(open_again())
