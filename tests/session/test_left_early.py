"""Streams, batches and waits that end early: what they leave behind is named."""

import asyncio

import pytest

from seedance_async import GenerationRequest, JobState, TooManyUncertainError
from tests.support.fakes import LOST, FakeAPI, error_reply
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def api():
    return FakeAPI(seconds=100.0)


@pytest.fixture
def begin(make_session, api):
    return lambda **options: make_session(transport=api, **options)


def prompts(count):
    return [GenerationRequest(f"prompt {number}") for number in range(count)]


async def test_a_stream_that_is_broken_out_of_names_the_jobs_that_it_did_not_yield(
    begin, api, caplog
):
    async with begin() as session:
        async for job in session.as_completed(prompts(20)):
            seen = job.request_id
            break
        await asyncio.sleep(1)  # the loop closes the stream
        line = next(m for m in caplog.messages if "a stream was left early" in m)
        assert line.startswith("a stream was left early: 19 jobs not seen")
        assert all((f"{known} (" in line) == (known != seen) for known in api.jobs)


def cancellation_behind(error):
    """What asyncio.timeout turned into a TimeoutError; early 3.11 has it as the context."""
    return error.__cause__ or error.__context__


async def test_a_batch_that_times_out_names_its_jobs_in_the_exception_and_the_log(
    begin, api, caplog
):
    async with begin(max_in_flight=40) as session:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(50):
                await session.run(prompts(40))
        cancelled = cancellation_behind(caught.value)
        assert {job.request_id for job in cancelled.jobs} == set(api.jobs)
        assert "40 jobs still running; attach resumes: req_0, " in cancelled.__notes__[0]
        assert "a stream was left early: 40 jobs not seen" in caplog.text


async def test_a_generation_that_times_out_names_its_job(begin, api, caplog):
    async with begin() as session:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(50):
                await session.generate(prompts(1)[0])
        (job,) = cancellation_behind(caught.value).jobs
        assert job.request_id == "req_0"
        assert "the wait for job req_0 was cancelled; it goes on" in caplog.text
        assert (await job).status == "succeeded"


async def test_jobs_of_a_group_that_fails_are_in_the_log(begin, caplog):
    async def failing():
        await asyncio.sleep(50)
        raise LookupError

    async with begin() as session:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.generate(prompts(1)[0]))
                tasks.create_task(failing())
    assert "the wait for job req_0 was cancelled" in caplog.text


# --- a service that answers nothing --------------------------------------------------------------


@pytest.mark.parametrize("bad", [error_reply(502), LOST], ids=["502", "lost"])
async def test_a_run_of_uncertain_submits_stops_a_batch_and_says_what_to_do(begin, api, bad):
    api.script["create"] += [bad] * 200
    async with begin(max_uncertain_in_a_row=5, max_connections=1) as session:
        batch = await session.run(prompts(100))
    assert batch.counts == {JobState.UNCERTAIN: 5, JobState.REJECTED: 95}
    assert api.count("create") == 5
    error = batch[50].error
    assert isinstance(error, TooManyUncertainError)
    assert "dashboard" in str(error)


async def test_a_stream_stops_at_a_run_of_uncertain_submits_and_a_later_one_may_go_on(begin, api):
    api.script["create"] += [LOST] * 3
    async with begin(max_uncertain_in_a_row=3, max_connections=1) as session:
        with pytest.raises(TooManyUncertainError, match="3 submits in a row"):
            async for _ in session.as_completed(prompts(50)):
                pass
        assert api.count("create") == 3
        assert (await session.run(prompts(2))).counts == {JobState.SUCCEEDED: 2}


async def test_an_answer_of_the_server_ends_a_run_of_uncertain_submits(begin, api):
    for _ in range(10):
        api.script["create"] += [LOST, LOST, error_reply(422)]
    async with begin(max_uncertain_in_a_row=3, max_connections=1) as session:
        batch = await session.run(prompts(31))
    assert batch.counts[JobState.UNCERTAIN] == 20
    assert batch[30].state is JobState.SUCCEEDED


@pytest.mark.parametrize("turns", range(6))
async def test_a_session_that_is_left_while_a_batch_begins_ends_the_batch(
    begin, api, caplog, turns
):
    async with begin() as session:
        batch = asyncio.create_task(session.run(prompts(3)))
        for _ in range(turns):
            await asyncio.sleep(0)
    if turns == 0:
        with pytest.raises(RuntimeError, match="not open"):
            await batch
        return
    result = await batch
    assert result.stopped_by is None or str(result.stopped_by) == "the session was left"
    seen = {job.request_id for job in result}
    assert all(known in seen or f"{known} (queued)" in caplog.text for known in api.jobs)


async def test_a_session_that_is_left_while_a_batch_submits_has_its_jobs_in_the_result(begin, api):
    api.answer_after = 2.0
    async with begin() as session:
        batch = asyncio.create_task(session.run(prompts(3)))
        await asyncio.sleep(1)
    result = await batch
    assert [job.request_id for job in result] == list(api.jobs)
    assert result.counts == {JobState.SUCCEEDED: 3}


async def test_a_batch_of_a_session_that_is_left_has_the_last_refusal_too(begin, api):
    async def refuse(_):
        await asyncio.sleep(2)
        return error_reply(401)

    api.script["create"] += [error_reply(401), refuse]
    async with begin() as session:
        batch = asyncio.create_task(session.run(prompts(2)))
        await asyncio.sleep(1)
    result = await batch
    assert result.counts == {JobState.REJECTED: 2}
    assert result.stopped_by is None


async def test_a_submit_whose_session_is_left_while_it_is_recorded_returns_its_job(begin, api):
    class SlowJournal(MemoryJournal):
        async def record(self, attempt, **changes):
            await asyncio.sleep(1)
            await super().record(attempt, **changes)

    with pytest.raises(LookupError):
        async with begin(journal=SlowJournal()) as session:
            submit = asyncio.create_task(session.submit(prompts(1)[0]))
            while not api.jobs:  # noqa: ASYNC110 - on virtual time
                await asyncio.sleep(0.1)
            raise LookupError
    job = await submit
    assert (job.request_id, job.state) == ("req_0", JobState.ABANDONED)


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_request_whose_submit_is_withdrawn_as_a_stopped_batch_is_left_has_an_outcome(
    make_session, api, is_async
):
    async def yielding():
        for request in prompts(4):
            yield request

    api.script["create"] += [error_reply(429, retry_after="60"), LOST, LOST]
    session = await make_session(transport=api, max_in_flight=3, max_uncertain_in_a_row=2).open()
    requests = yielding() if is_async else prompts(4)
    batch = asyncio.create_task(session.run(requests))
    await asyncio.sleep(5)  # the first request is held back; the other two have ended the batch
    await session.aclose(leave=True)
    result = await batch
    first, *others = result
    assert first.request.prompt == "prompt 0"
    assert first.state is JobState.REJECTED
    assert isinstance(first.error, TooManyUncertainError)
    states = [job.state for job in others]
    assert states[:2] == [JobState.UNCERTAIN, JobState.UNCERTAIN]
    assert states[2:] == ([] if is_async else [JobState.REJECTED])
    assert (result.stopped_by is None) == (not is_async)  # the rest of an async source is unknown
    assert api.count("create") == 3
