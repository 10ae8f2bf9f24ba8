"""A session that lives as long as a server does: opened, left within a time, and taken up again."""

import asyncio
import contextlib
import sqlite3
import weakref

import pytest

from seedance_async import GenerationRequest, JobState
from tests.support.fakes import LOST, FakeAPI, accepted
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def api():
    return FakeAPI(seconds=100.0)


def prompts(count):
    return [GenerationRequest(f"prompt {number}") for number in range(count)]


class KeptJournal(MemoryJournal):
    """A `MemoryJournal` that a later process can open again."""

    async def aclose(self):
        self.left = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.unused = weakref.finalize(self, self.left.close)
        self.store.backup(self.left)
        await super().aclose()

    def reopened(self):
        self.unused.detach()
        return MemoryJournal(self.left, own=True)


def now():
    return asyncio.get_running_loop().time()


async def never(*_, **__):
    await asyncio.sleep(1e6)


# --- opening and closing -------------------------------------------------------------------------


async def test_a_session_can_be_opened_and_closed_without_a_block(make_session, api):
    session = await make_session().open()
    job = await session.submit(prompts(1)[0])
    await session.aclose()
    assert job.state is JobState.SUCCEEDED
    assert api.closed
    await session.aclose()
    with pytest.raises(RuntimeError, match="once"):
        await session.open()


async def test_closing_what_was_never_opened_does_nothing(make_session):
    await make_session().aclose()


async def test_jobs_are_left_running_at_once_and_named(make_session, api, caplog):
    session = await make_session(journal=MemoryJournal(), max_in_flight=40).open()
    jobs = [await session.submit(request) for request in prompts(40)]
    began = now()
    await session.aclose(leave=True, within=5.0)
    assert now() == began
    assert {job.state for job in jobs} == {JobState.ABANDONED}
    line = next(m for m in caplog.messages if "the session ends with 40 jobs running" in m)
    assert all(job.request_id in line for job in jobs)
    assert api.count("cancel") == 0


async def test_leaving_cancels_nothing_whatever_the_options_say(make_session, api):
    session = await make_session(cancel_on_error=True).open()
    await session.submit(prompts(1)[0])
    await session.aclose(leave=True)
    assert api.count("cancel") == 0


async def test_submits_in_progress_have_half_of_the_time_for_their_ids(make_session, api):
    api.answer_after = 2.0
    session = await make_session().open()
    running = asyncio.create_task(session.run(prompts(5)))
    single = asyncio.create_task(session.submit(prompts(1)[0]))
    await asyncio.sleep(1)
    began = now()
    await session.aclose(leave=True, within=5.0)
    assert now() - began == 1
    assert (await single).state is JobState.ABANDONED
    assert (await running).counts == {JobState.ABANDONED: 5}


async def test_a_submit_without_an_answer_does_not_hold_up_the_end(make_session, api, caplog):
    broken = asyncio.get_running_loop().create_future()

    async def unanswered(_):
        await broken

    async def aclose():
        broken.set_exception(LOST)

    api.script["create"].append(unanswered)
    api.aclose = aclose
    session = await make_session().open()
    running = asyncio.create_task(session.run(prompts(1)))
    await asyncio.sleep(1)
    began = now()
    await session.aclose(leave=True, within=3.0)
    assert now() - began <= 3.0
    assert (await running).counts == {JobState.UNCERTAIN: 1}
    assert "may have been accepted" in caplog.text


async def test_a_slow_submit_has_half_of_the_time_given_to_learn_its_id(make_session, api):
    async def slow(request):
        answer = api.create(request)
        await asyncio.sleep(12)
        return answer

    api.script["create"].append(slow)
    session = await make_session().open()
    running = asyncio.create_task(session.run(prompts(1)))
    await asyncio.sleep(1)
    began = now()
    await session.aclose(leave=True, within=30.0)
    assert now() - began == pytest.approx(11.0, abs=0.5)
    (left,) = await running
    assert (left.state, left.request_id) == (JobState.ABANDONED, "req_0")


@pytest.mark.parametrize("part", ["journal", "transport"])
async def test_whatever_hangs_the_end_comes_in_time(make_session, api, caplog, part):
    journal = MemoryJournal()
    session = await make_session(journal=journal).open()
    await session.submit(prompts(1)[0])
    hanging = journal if part == "journal" else api
    close, hanging.aclose = hanging.aclose, never
    began = now()
    await session.aclose(leave=True, within=3.0)
    assert now() - began == pytest.approx(3.0)
    assert "the session did not end in time" in caplog.text
    assert "req_0" in caplog.text
    await close()


async def test_jobs_are_waited_for_within_the_time_and_then_left(make_session, caplog):
    session = await make_session().open()
    job = await session.submit(prompts(1)[0])
    began = now()
    await session.aclose(within=60.0)
    assert 55 <= now() - began <= 60
    assert job.state is JobState.ABANDONED


async def test_the_time_to_wait_for_jobs_has_the_end_in_it(make_session, api, caplog):
    session = await make_session().open()
    await session.submit(prompts(1)[0])
    api.aclose = never
    began = now()
    await session.aclose(within=60.0)
    assert now() - began == pytest.approx(60.0)
    assert "the session did not end in time" in caplog.text


async def test_a_stream_ends_when_its_session_is_left(make_session, api):
    session = await make_session(max_in_flight=3).open()
    running = asyncio.create_task(session.run(prompts(10)))
    await asyncio.sleep(1)
    await session.aclose(leave=True, within=5.0)
    batch = await running
    assert batch.counts == {JobState.ABANDONED: 3}
    assert "the session was left" in str(batch.stopped_by)


# --- jobs, taken up again ------------------------------------------------------------------------


async def test_the_jobs_of_a_session_are_those_that_can_change(make_session, api):
    api.script["create"] += [LOST, accepted("req_b"), accepted("req_c")]
    async with make_session() as session:
        with contextlib.suppress(Exception):
            await session.submit(prompts(1)[0])
        first, second = [await session.submit(request) for request in prompts(2)]
        api.jobs |= {"req_b": now() - 100, "req_c": now()}
        await first
        uncertain, running = session.jobs()
        assert uncertain.state is JobState.UNCERTAIN
        assert running == second
    with pytest.raises(RuntimeError, match="not open"):
        session.jobs()


async def test_the_next_session_takes_up_what_one_has_left(make_session, api):
    journal = KeptJournal()
    first = await make_session(journal=journal).open()
    left = [await first.submit(request, key=request.prompt) for request in prompts(5)]
    await first.aclose(leave=True)
    async with make_session(journal=journal.reopened()) as second:
        jobs = await second.resume()
        assert [job.request_id for job in jobs] == [job.request_id for job in left]
        assert [job.request for job in jobs] == prompts(5)
        assert second.stats().in_flight == 5
        assert jobs == second.jobs() == await second.resume()
        assert [(await job).status for job in jobs] == ["succeeded"] * 5
        assert await second.resume() == []
    assert api.count("create") == 5


async def test_jobs_taken_up_hold_back_submits_until_there_is_a_slot(make_session, api):
    journal = KeptJournal()
    first = await make_session(journal=journal).open()
    for request in prompts(8):
        await first.submit(request)
    await first.aclose(leave=True)
    async with make_session(journal=journal.reopened(), max_in_flight=3) as second:
        await second.resume()
        assert second.stats().in_flight == 8
        peak = api.active_peak
        batch = await second.run(GenerationRequest(f"new {n}") for n in range(10))
    assert batch.counts == {JobState.SUCCEEDED: 10}
    assert api.active_peak == peak == 8
    assert second.stats().in_flight == 0


async def test_an_uncertain_job_is_taken_up_as_such_and_not_submitted(make_session, api):
    journal = KeptJournal()
    api.script["create"].append(LOST)
    async with make_session(journal=journal) as first:
        await first.run(prompts(1))
    async with make_session(journal=journal.reopened(), resubmit_uncertain=True) as second:
        (job,) = await second.resume()
        assert job.state is JobState.UNCERTAIN
        assert second.stats().in_flight == 0
    assert api.count("create") == 1


async def test_a_job_that_ends_while_the_journal_is_read_is_not_taken_up(make_session, api):
    journal = KeptJournal()
    async with make_session(journal=journal) as session:
        job = await session.submit(prompts(1)[0])
        entries = journal.entries

        async def entries_read_slowly():
            found = await entries()
            await job
            return found

        journal.entries = entries_read_slowly
        assert await session.resume() == []
        assert session.jobs() == []
    assert session.stats().counts[JobState.SUCCEEDED] == 1
    assert session.stats().counts.get(JobState.REJECTED, 0) == 0


async def test_jobs_of_another_api_are_not_taken_up(make_session, api):
    journal = KeptJournal()
    first = await make_session(journal=journal).open()
    await first.submit(prompts(1)[0])
    await first.aclose(leave=True)
    async with make_session(journal=journal.reopened(), base_url="https://other.example") as second:
        assert await second.resume() == []
    assert api.count("get") == 0


async def test_without_a_journal_there_is_nothing_to_take_up(make_session):
    async with make_session() as session:
        assert await session.resume() == []


async def test_a_job_is_followed_through_its_session(make_session):
    async with make_session() as session:
        job = await session.submit(prompts(1)[0])
        seen = [update.state async for update in job.updates(every=1000)]
    assert seen == ["queued", "processing", "succeeded"]
