"""Several sessions on one journal: what one has bought, another follows and does not buy."""

import asyncio

import pytest

from seedance_async import BudgetExceededError, GenerationRequest, JobState, JournalError
from tests.support.fakes import error_reply
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time

RIVER, LAKE = GenerationRequest("A river", duration=5), GenerationRequest("A lake", duration=5)


@pytest.fixture
def store():
    store = memory_store()
    yield store
    store.close()


@pytest.fixture
def begin(make_session, api, store):
    def make(**options):
        return make_session(transport=api, journal=MemoryJournal(store, shared=True), **options)

    return make


async def test_two_sessions_with_the_same_input_buy_each_job_once(begin, api):
    requests = [GenerationRequest(f"{number}", duration=5) for number in range(20)]
    async with begin(max_in_flight=5) as one, begin(max_in_flight=5) as other:
        batches = await asyncio.gather(one.run(requests), other.run(requests[::-1]))
    assert [batch.counts for batch in batches] == [{JobState.SUCCEEDED: 20}] * 2
    assert api.prompts == {f"{number}": 1 for number in range(20)}


async def test_a_session_waits_for_the_outcome_of_what_another_is_submitting(begin, api):
    api.answer_after = 10.0
    async with begin() as one, begin() as other:
        first = asyncio.create_task(one.submit(RIVER))
        await asyncio.sleep(1)
        second = await other.submit(RIVER)
        assert (await first).request_id == second.request_id
    assert api.count("create") == 1


async def test_what_the_other_session_was_refused_is_submitted(begin, api):
    api.script["create"].append(error_reply(422))
    api.answer_after = 10.0
    async with begin() as one, begin() as other:
        first = asyncio.create_task(one.run([RIVER]))
        await asyncio.sleep(1)
        second = await other.submit(RIVER)
        assert (await first).counts == {JobState.REJECTED: 1}
        assert (await second).status == "succeeded"


async def test_a_key_that_another_session_takes_at_the_gate_is_followed(begin, api):
    """Both have looked, and found the key free; then one is held up at its gate."""
    async with begin() as one, begin() as other:
        other.client.submit_gate.hold(5.0)
        late = asyncio.create_task(other.submit(RIVER))
        await asyncio.sleep(1)
        job = await one.submit(RIVER)
        assert (await late).request_id == job.request_id
        assert (await late).state == JobState.QUEUED
    assert api.count("create") == 1


async def test_a_limit_holds_over_the_sessions_that_share_a_journal(begin, api):
    api.answer_after = 1.0
    requests = [GenerationRequest(f"{number}", duration=5) for number in range(10)]
    async with begin(max_credits=130) as one, begin(max_credits=130) as other:
        batches = await asyncio.gather(one.run(requests[:5]), other.run(requests[5:]))
    assert api.count("create") == 3  # 40 credits each
    errors = [job.error for batch in batches for job in batch.failures]
    assert {type(error) for error in errors} == {BudgetExceededError}
    assert {error.spent for error in errors} == {120}


async def test_a_job_of_another_api_is_not_taken_for_this_ones(begin, make_session, api, store):
    async with begin() as session:
        await session.generate(RIVER)
    journal = MemoryJournal(store)
    elsewhere = make_session(transport=api, journal=journal, base_url="https://other.example")
    async with elsewhere as session:
        with pytest.raises(JournalError, match="belongs to a job at https://"):
            await session.submit(RIVER)
        await session.generate(LAKE)
    assert api.prompts == {"A river": 1, "A lake": 1}
