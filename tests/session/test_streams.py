"""Streams that keep their word: their sources, their ends, their slots, and what they keep."""

import asyncio
import contextlib
import gc
import tracemalloc

import anyio
import pytest

from seedance_async import (
    Backoff,
    GenerationRequest,
    InsufficientCreditsError,
    JobState,
    SeedanceError,
)
from seedance_async.session import batch as batches
from tests.support.fakes import LOST, error_reply

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def begin(make_session, api):
    return lambda **options: make_session(transport=api, **options)


def prompts(count):
    return [GenerationRequest(f"prompt {number}") for number in range(count)]


def endless():
    while True:
        yield GenerationRequest("and on")


@contextlib.contextmanager
def no_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- one task pulls ------------------------------------------------------------------------------


async def test_a_source_is_pulled_and_closed_by_one_task(begin):
    tasks = set()

    async def source():
        try:
            for request in prompts(30):
                tasks.add(asyncio.current_task())
                await asyncio.sleep(0.1)
                yield request
        finally:
            tasks.add(asyncio.current_task())

    async with begin() as session:
        assert len(await session.run(source())) == 30
    assert len(tasks) == 1


async def test_a_source_that_waits_for_something_cancelled_does_not_look_complete(begin, api):
    async def source():
        for number, request in enumerate(prompts(100)):
            if number == 10:
                never = asyncio.get_running_loop().create_future()
                never.cancel()
                await never
            yield request

    async with begin() as session:
        batch = await session.run(source())
        assert batch.counts == {JobState.SUCCEEDED: 10}
        assert "cut short" in str(batch.stopped_by)
        with pytest.raises(SeedanceError, match="cut short"):
            async for _ in session.as_completed(source()):
                pass
    assert api.count("create") == 20


async def test_a_timeout_in_a_source_cuts_no_submit_short(begin, api):
    """It fires while submits are in progress and the source is not running."""
    api.answer_after = 3.0

    async def source():
        async with asyncio.timeout(8):
            for request in prompts(100):
                yield request

    async with begin(max_in_flight=10) as session:
        batch = await session.run(source())
    assert isinstance(batch.stopped_by, TimeoutError)
    assert batch.counts == {JobState.SUCCEEDED: 10}
    assert len(api.jobs) == 10


async def test_a_cancel_scope_in_a_source_ends_what_is_in_it_and_nothing_else(begin, api):
    async def source():
        with anyio.move_on_after(8):
            for request in prompts(100):
                yield request
        for request in prompts(5):
            yield request

    async with begin(max_in_flight=10) as session:
        batch = await session.run(source())
    assert batch.stopped_by is None
    assert batch.counts == {JobState.SUCCEEDED: 15}


async def test_a_scope_in_a_source_without_athrow_is_an_error_of_the_source(begin):
    class Source:
        def __aiter__(self):
            return self

        async def __anext__(self):
            task = asyncio.current_task()
            asyncio.get_running_loop().call_later(1, task.cancel)
            return prompts(1)[0]

    async with begin(max_in_flight=1) as session:
        batch = await session.run(Source())
    assert batch.counts == {JobState.SUCCEEDED: 1}
    assert "cut short" in str(batch.stopped_by)


async def test_a_paid_job_has_an_outcome_though_the_task_of_its_submit_is_cancelled(begin, api):
    api.answer_after = 3.0

    async with begin() as session:
        running = asyncio.create_task(session.run(prompts(8)))
        await asyncio.sleep(1)
        submits = [task for task in asyncio.all_tasks() if task.get_name() == "seedance-feed"]
        assert len(submits) == api.count("create") == 8
        submits[0].cancel()
        batch = await running
    assert batch.counts == {JobState.SUCCEEDED: 8}


async def test_a_source_that_is_cancelled_in_closing_keeps_nobody_waiting(begin):
    async def source():
        try:
            yield prompts(1)[0]
        finally:
            raise asyncio.CancelledError

    async with begin() as session:
        batch = await session.run(source())
    assert batch.counts == {JobState.SUCCEEDED: 1}


async def test_a_failure_in_closing_a_source_is_told(begin):
    async def source():
        try:
            yield prompts(1)[0]
        finally:
            raise LookupError

    async with begin() as session:
        batch = await session.run(source())
    assert isinstance(batch.stopped_by, LookupError)
    assert batch.counts == {JobState.SUCCEEDED: 1}


async def test_an_async_source_is_closed_when_its_consumer_leaves(begin):
    closed = []

    async def source():
        try:
            for request in prompts(100):
                yield request
        finally:
            await asyncio.sleep(1)
            closed.append(asyncio.get_running_loop().time())

    async with begin() as session:
        async with contextlib.aclosing(session.as_completed(source())) as jobs:
            async for _ in jobs:
                break
        assert closed == [asyncio.get_running_loop().time()]


async def test_what_a_source_yields_after_its_stream_is_stopped_is_not_submitted(begin, api):
    async def source():
        yield prompts(1)[0]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1e6)
        yield GenerationRequest("too late")

    async with begin() as session:
        running = asyncio.create_task(session.run(source()))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert api.prompts == {"prompt 0": 1}


async def test_a_sync_source_can_be_read_on_by_its_owner(begin):
    source = iter(prompts(100))
    async with begin(max_in_flight=1) as session:
        async with contextlib.aclosing(session.as_completed(source)) as jobs:
            async for _ in jobs:
                break
        assert next(source).prompt == "prompt 1"


async def test_streams_in_streams_close_without_the_garbage_collector(begin):
    closed = []

    def first():
        try:
            yield from endless()
        finally:
            closed.append("first")

    async def second(session):
        try:
            async for job in session.as_completed(first()):
                yield GenerationRequest(f"{job.request.prompt} again")
        finally:
            closed.append("second")

    with no_garbage_collection():
        async with begin() as session:
            async for _ in session.as_completed(second(session)):
                break
            for _ in range(30):
                await asyncio.sleep(0)
            assert closed == ["second", "first"]


async def test_a_stream_whose_session_is_left_before_it_pulls_ends(begin, api):
    async with begin() as session:
        running = asyncio.create_task(session.run(prompts(10)))
        await asyncio.sleep(0)  # it has begun, and its task that pulls has not
    batch = await running
    assert "the session was left" in str(batch.stopped_by)
    assert len(batch) == 0
    assert api.sent == []


# --- the ends of a run ---------------------------------------------------------------------------


async def test_a_run_on_a_session_that_is_not_open_raises(begin):
    session = begin()
    with pytest.raises(RuntimeError, match="not open"):
        await session.run(prompts(1))
    async with session:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await session.run(prompts(1))
    with pytest.raises(RuntimeError, match="not open"):
        async for _ in session.as_completed(prompts(1)):
            pass


async def test_without_credits_an_endless_input_ends(begin, api, monkeypatch):
    monkeypatch.setattr(batches, "MOST_REJECTED", 1000)
    api.script["create"] += [error_reply(402)] * 20
    async with begin() as session:
        batch = await session.run(endless())
    assert isinstance(batch.stopped_by, InsufficientCreditsError)
    assert batch.counts == {JobState.REJECTED: 1001}


async def test_without_credits_each_request_of_a_list_has_an_outcome(begin, api, monkeypatch):
    monkeypatch.setattr(batches, "MOST_REJECTED", 1000)
    api.script["create"] += [error_reply(402)] * 20
    async with begin() as session:
        batch = await session.run(prompts(5000))
    assert batch.stopped_by is None
    assert [job.request.prompt for job in batch] == [p.prompt for p in prompts(5000)]


async def test_without_credits_nothing_more_is_awaited_of_an_async_source(begin, api):
    """Its next request may be far away, or be one that a stage before this one would pay for."""
    api.script["create"] += [error_reply(402)] * 20
    closed = []

    async def source():
        try:
            yield prompts(1)[0]
            await asyncio.sleep(1e9)
            yield prompts(1)[0]
        finally:
            closed.append(True)

    async with begin() as session:
        batch = await session.run(source())
        assert isinstance(batch.stopped_by, InsufficientCreditsError)
        assert batch.counts == {JobState.REJECTED: 1}
        with pytest.raises(InsufficientCreditsError):
            async for _ in session.as_completed(source()):
                pass
    assert closed == [True, True]


async def test_a_run_without_credits_gives_others_their_turns(begin, api):
    api.script["create"] += [error_reply(402)] * 20
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with begin() as session:
        working = asyncio.create_task(others())
        await session.run(prompts(10_000))
        working.cancel()
    assert turns >= 100


# --- slots ---------------------------------------------------------------------------------------


async def made_in(seconds, *makers):
    """How many videos each of the makers, which go on forever, gets in this time."""
    made = [0] * len(makers)

    async def count(number, jobs):
        async for _ in jobs:
            made[number] += 1

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            for number, maker in enumerate(makers):
                tasks.create_task(count(number, maker()))
    return made


@pytest.mark.parametrize("singles", [10, 100])
@pytest.mark.parametrize("slots", [1, 10])
async def test_a_stream_and_single_submits_share_the_slots(begin, singles, slots):
    async with begin(max_in_flight=slots, poll=Backoff(initial=1, maximum=1)) as session:

        async def single():
            while True:
                yield await session.generate(prompts(1)[0])

        made = await made_in(2000, lambda: session.as_completed(endless()), *[single] * singles)
    share = made[0] / sum(made)  # with a single slot it cannot wait for one while its job runs
    assert share == pytest.approx(0.5 if slots > 1 else 1 / 3, rel=0.1)
    assert max(made[1:]) - min(made[1:]) <= 2


async def test_single_submits_are_not_behind_many_streams(begin):
    async with begin(max_in_flight=4, poll=Backoff(initial=1, maximum=1)) as session:

        async def single():
            while True:
                yield await session.generate(prompts(1)[0])

        def stream():
            return session.as_completed(endless())

        made = await made_in(1000, single, single, *[stream] * 20)
    assert min(made[:2]) > 70  # of 98 if they never waited


async def test_a_cancelled_wait_for_a_slot_keeps_nobody_else_waiting(begin):
    async with begin(max_in_flight=1) as session:
        job = await session.submit(prompts(1)[0])
        stream = asyncio.create_task(session.run(prompts(1)))
        waiting = [asyncio.create_task(session.submit(prompts(1)[0])) for _ in range(3)]
        await asyncio.sleep(1)
        waiting[0].cancel()
        waiting[1].cancel()
        await job
        assert (await stream).counts == {JobState.SUCCEEDED: 1}
        assert (await (await waiting[2])).status == "succeeded"


async def test_a_stream_that_is_left_while_it_waits_for_an_orphan_gives_its_slot_back(begin, api):
    api.answer_after = 50.0
    async with begin(max_in_flight=3) as session:
        single = asyncio.create_task(session.submit(prompts(1)[0]))
        await asyncio.sleep(1)
        single.cancel()
        await asyncio.sleep(10)  # it goes on without its caller
        stream = asyncio.create_task(session.run(prompts(1)))
        await asyncio.sleep(1)
        stream.cancel()
        await asyncio.sleep(100)
        await session.run(GenerationRequest(f"{n}") for n in range(9))
    assert api.active_peak == 3


# --- what is kept --------------------------------------------------------------------------------


async def bytes_of(session, script, api, count=500):
    """What each outcome of a batch takes that is kept."""
    api.script["create"].extend(script * count)
    tracemalloc.start()
    try:
        with no_garbage_collection():
            before = tracemalloc.get_traced_memory()[0]
            batch = await session.run(GenerationRequest(f"{n}") for n in range(count))
            api.sent.clear()
            api.jobs.clear()
            taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(batch) == count
    return taken / count


async def test_a_kept_failure_is_as_small_as_a_success(begin, api, caplog):
    caplog.set_level("CRITICAL")
    api.seconds = 0.0
    async with begin(max_uncertain_in_a_row=10_000) as session:
        for script in ([], [error_reply(400)], [LOST]):  # what is made when first needed
            await bytes_of(session, script, api, 20)
        success = await bytes_of(session, [], api)
        refused = await bytes_of(session, [error_reply(400)], api)
        uncertain = await bytes_of(session, [LOST], api)
    assert refused < 1.2 * success
    assert uncertain < 1.5 * success  # it stays in the registry: a callback may settle it


async def test_a_kept_failure_holds_no_frames_even_if_it_was_raised(begin, api):
    api.script["create"] += [error_reply(502), error_reply(400)]
    async with begin() as session:
        for request in prompts(2):
            with pytest.raises(SeedanceError):
                await session.submit(request)
        batch = await session.run(["no request"])
        uncertain = session.registry.find(key=next(iter(session.registry)).key)
    for error in (uncertain.error, uncertain.error.__cause__, batch[0].error):
        assert error is not None
        assert error.__traceback__ is None
        assert error.__context__ is None
