"""Requests whose media are the videos of other jobs of the session, or of its journal."""

import asyncio
import gc
import json

import pytest

from seedance_async import (
    GenerationRequest,
    InvalidRequestError,
    Job,
    JobMedium,
    JobState,
    JobToken,
    SeedanceError,
    SourceJobError,
)
from tests.support.fakes import LOST, error_reply, told
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time


def request(prompt, *media):
    return GenerationRequest(prompt, media_urls=list(media))


def sent(api):
    """By prompt, the media of each submit, in order."""
    bodies = [json.loads(each.body) for each in api.sent if each.charges]
    return {body["prompt"]: body.get("mediaUrls") for body in bodies}


@pytest.fixture
def store():
    store = memory_store()
    yield store
    store.close()


async def test_a_job_is_sent_with_the_video_of_another_once_that_has_succeeded(make_session, api):
    async with make_session() as session:
        first = await session.submit(request("first"))
        second = await session.submit(request("second", first, "https://example.com/a.png"))
        assert first.state is JobState.SUCCEEDED
        assert second.request.media_urls[0] == first.as_medium()
    video = f"https://media.example/{first.request_id}.mp4"
    assert sent(api) == {"first": None, "second": [video, "https://example.com/a.png"]}


async def test_a_job_that_waits_for_its_source_holds_no_slot(make_session, api):
    async with make_session(max_in_flight=2) as session:
        first = await session.submit(request("first"))
        waiting = asyncio.create_task(session.submit(request("second", first)))
        await asyncio.sleep(1)
        await session.submit(request("another"))
        assert not waiting.done()
        assert list(sent(api)) == ["first", "another"]
        await waiting
    assert api.active_peak == 2


@pytest.mark.parametrize("at_once", [1, 2, 20])
@pytest.mark.parametrize("lazy", [False, True])
async def test_a_film_is_one_batch_however_few_jobs_run_at_once(make_session, api, at_once, lazy):
    shots = [("shot-0", request("0"))]
    shots += [(f"shot-{n}", request(f"{n}", {"from": f"shot-{n - 1}"})) for n in range(1, 12)]
    others = [request(f"other {n}") for n in range(5)]
    async with make_session(max_in_flight=at_once) as session:
        if lazy:  # the jobs are named by their handles then

            async def film():
                job = await session.submit(request("0"))
                for number in range(1, 12):
                    job = await session.submit(request(f"{number}", job))
                    yield request(f"beside {number}")

            batch = await session.run(film())
            assert len(batch) == 11
        else:
            batch = await session.run(shots + others)
            assert len(batch) == 17
    assert batch.counts == {JobState.SUCCEEDED: len(batch)}
    bought = [f"{n}" for n in range(12)]
    assert [prompt for prompt in sent(api) if prompt in bought] == bought
    assert all(sent(api)[prompt] for prompt in bought[1:])
    assert set(api.prompts.values()) == {1}


async def _no_longer_wanted(session, api, first):
    await first.cancel()


async def _failed(session, api, first):
    api.script["get"].append(told(first.request_id, "failed"))


async def _given_up(session, api, first):
    api.seconds = 1e6


@pytest.mark.parametrize(
    ("fate", "reason"),
    [(_no_longer_wanted, "it was cancelled"), (_failed, "it failed"), (_given_up, "is abandoned")],
)
async def test_nothing_is_sent_for_a_job_whose_source_has_no_video(make_session, api, fate, reason):
    async with make_session(job_timeout=500.0, queue_timeout=500.0) as session:
        first = await session.submit(request("first"))
        await fate(session, api, first)
        batch = await session.run([request("second", first), ("3", request("x", {"from": "2"}))])
        with pytest.raises(SourceJobError, match=f"the video of job {first.key}: .*{reason}"):
            await session.submit(request("third", first))
    assert batch.counts == {JobState.REJECTED: 2}
    assert isinstance(batch[0].error, SourceJobError)
    assert batch[0].credits_charged is None
    assert reason in str(batch[0].error)
    assert "no job with this key" in str(batch[1].error)
    assert list(sent(api)) == ["first"]


@pytest.mark.parametrize(
    ("answer", "reason"), [(LOST, "it is uncertain"), (error_reply(400), "it was rejected")]
)
async def test_the_whole_chain_ends_where_a_submit_came_to_nothing(
    make_session, api, answer, reason
):
    api.script["create"].append(answer)
    chain = [("1", request("1")), ("2", request("2", {"from": "1"}))]
    chain.append(("3", request("3", {"from": "2"})))
    async with make_session() as session:
        batch = await session.run(chain)
    assert reason in str(batch[1].error)
    assert str(batch[2].error).startswith(
        "nothing was submitted, for want of the video of job 2, which waited for job 1: "
    )
    assert batch[2].error.key == "1"
    assert batch[2].error.reason == batch[1].error.reason
    assert type(batch[2].error.__cause__) is type(batch[0].error)
    assert list(sent(api)) == ["1"]


async def test_a_job_that_comes_later_in_the_list_is_not_waited_for(make_session, api):
    later = [("2", request("2", {"from": "1"})), ("1", request("1"))]
    async with make_session(max_in_flight=1) as session:
        batch = await session.run(later)
    assert [job.state for job in batch] == [JobState.REJECTED, JobState.SUCCEEDED]
    assert "no job with this key has come before" in str(batch[0].error)


@pytest.mark.parametrize("with_journal", [False, True])
async def test_jobs_that_wait_for_each_other_are_refused_and_not_waited_for(
    make_session, api, store, with_journal
):
    circle = [("1", request("1", {"from": "2"})), ("2", request("2", {"from": "1"}))]
    alone = request("3", {"from": "3"})
    async with make_session(journal=MemoryJournal(store) if with_journal else None) as session:
        batch = await session.run([*circle, ("3", alone)])
        assert batch.counts == {JobState.REJECTED: 3}
        with pytest.raises(SourceJobError, match="it was not submitted"):
            await session.submit(alone, key="3")
        submits = (session.submit(each, key=key) for key, each in circle)
        errors = await asyncio.gather(*submits, return_exceptions=True)
        assert [type(error) for error in errors] == [SourceJobError] * 2
    assert api.count("create") == 0


async def test_the_next_run_buys_nothing_again_and_a_new_source_is_bought_with_all_after_it(
    make_session, api, store
):
    """What a job is made from is part of what it is known by, all the way down."""

    async def film(first):
        async with make_session(journal=MemoryJournal(store)) as session:
            job = await session.submit(first)
            await job
            for number in range(3):
                job = await session.submit(request(f"{number}", job))
            await job
            return job.key

    key = await film(request("first"))
    bought = api.count("create")
    assert await film(request("first")) == key
    assert api.count("create") == bought == 4
    assert await film(request("first, again")) != key
    assert api.count("create") == 8
    assert api.prompts["2"] == 2


async def test_a_job_that_was_sent_is_resumed_whatever_has_become_of_its_source(
    make_session, api, store
):
    """What is paid for is not given up because its source cannot be found any more."""
    second = ("2", request("2", {"from": "1"}))
    async with make_session(journal=MemoryJournal(store)) as session:
        await session.run([("1", request("1")), second])
    store.execute("UPDATE jobs SET state = 'failed' WHERE key = '1'")
    async with make_session(journal=MemoryJournal(store)) as session:
        batch = await session.run([second])
        resumed = await session.submit(second[1], key="2")
    assert batch.counts == {JobState.SUCCEEDED: 1}
    assert resumed.request_id == batch[0].request_id
    assert api.count("create") == 2


async def test_a_job_of_an_earlier_run_can_be_named_by_its_key(make_session, api, store):
    async with make_session(journal=MemoryJournal(store)) as session:
        first = await session.submit(request("1"), key="1")
    async with make_session(journal=MemoryJournal(store)) as session:
        await session.submit(request("2", JobMedium("1")))
        with pytest.raises(SourceJobError, match="none is in the journal"):
            await session.submit(request("3", JobMedium("elsewhere")))
    assert sent(api)["2"] == [f"https://media.example/{first.request_id}.mp4"]


async def test_sessions_that_share_a_journal_buy_each_shot_once(make_session, api, store):
    film = [("0", request("0"))]
    film += [(f"{n}", request(f"{n}", {"from": f"{n - 1}"})) for n in range(1, 5)]

    async def run():
        async with make_session(journal=MemoryJournal(store, shared=True)) as session:
            return await session.run(film)

    one, other = await asyncio.gather(run(), run())
    assert one.counts == other.counts == {JobState.SUCCEEDED: 5}
    assert [job.request_id for job in one] == [job.request_id for job in other]
    assert set(api.prompts.values()) == {1}


async def test_a_job_that_waits_ends_when_nothing_more_may_be_sent(make_session, api):
    async with make_session() as session:
        first = await session.submit(request("1"))
        waiting = asyncio.create_task(session.run([request("2", first)]))
        await asyncio.sleep(1)
        session.stop_submitting(SeedanceError("enough"))
        batch = await waiting
    assert str(batch[0].error) == "enough"
    assert list(sent(api)) == ["1"]


async def test_who_is_cancelled_while_waiting_for_a_source_leaves_no_trace(make_session, api):
    async with make_session(max_in_flight=2) as session:
        first = await session.submit(request("1"))
        for work in (session.submit(request("2", first)), session.run([request("3", first)])):
            waiting = asyncio.create_task(work)
            await asyncio.sleep(1)
            assert len(session.jobs()) == 2
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert [job.key for job in session.jobs()] == [first.key]
        assert session.stats().in_flight == 1
    assert list(sent(api)) == ["1"]


async def test_a_session_that_is_left_does_not_wait_for_those_that_wait(make_session, api):
    api.seconds = 1e6
    session = await make_session().open()
    first = await session.submit(request("1"))
    waiting = asyncio.create_task(session.submit(request("2", first)))
    await asyncio.sleep(1)
    await session.aclose(leave=True)
    with pytest.raises((RuntimeError, SeedanceError), match=r"closed|left"):
        await waiting
    assert list(sent(api)) == ["1"]


def jobs_kept():
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Job)]


async def test_a_chain_without_end_is_not_kept_whole(make_session, api):
    of_others = jobs_kept()
    async with make_session() as session:
        job = await session.submit(request("0"))
        for number in range(1, 50):
            job = await session.submit(request(f"{number}", job))
        await job
        assert job.request == request("49", JobMedium(job.request.media_urls[0].key))
        assert len(jobs_kept()) < len(of_others) + 5
    assert api.count("create") == 50


async def test_the_wait_for_a_source_is_told(make_session, api):
    api.seconds = 100.0
    async with make_session() as session:
        first = await session.submit(request("1"))
        waiting = asyncio.create_task(session.submit(request("2", first)))
        await asyncio.sleep(60)
        assert session.stats().waiting["source"] >= 50
        await waiting


async def test_the_job_of_another_session_is_named_by_its_token_and_can_be_a_source(
    make_session, api
):
    async with make_session() as session:
        first = await session.submit(request("1"))
    async with make_session() as session:
        attached = await session.attach(JobToken(first.request_id).dump())
        await session.submit(request("2", attached))
    assert sent(api)["2"] == [f"https://media.example/{first.request_id}.mp4"]


async def test_a_video_that_has_no_public_url_is_no_medium(make_session, api):
    async with make_session() as session:
        first = await session.submit(request("1"))
        await first
        output = {"type": "video", "url": "http://10.0.0.1/a.mp4"}
        api.script["get"].append(told(first.request_id, "succeeded", output=output))
        with pytest.raises(SourceJobError, match="its URL must be"):
            await session.submit(request("2", first))
        api.script["get"].append(told(first.request_id, "succeeded", output=None))
        with pytest.raises(SourceJobError, match="gives no URL"):
            await session.submit(request("2", first))
        api.script["get"].append(error_reply(404))
        with pytest.raises(SourceJobError, match="HTTP 404"):
            await session.submit(request("2", first))
    assert list(sent(api)) == ["1"]


async def test_a_client_alone_takes_no_other_job(make_client, api):
    async with make_client() as client:
        with pytest.raises(InvalidRequestError, match="only a session"):
            await client.create(request("x", JobMedium("1")))
    assert api.sent == []
