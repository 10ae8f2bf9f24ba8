"""Keys of the caller's own in streams: they, and not the content, make a job the same."""

import asyncio
import json

import pytest

from seedance_async import GenerationRequest, InvalidRequestError, JobState, without_query
from tests.support.fakes import FakeAPI
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def api():
    return FakeAPI()


@pytest.fixture
def begin(make_session, api, tmp_path):
    return lambda: make_session(transport=api, journal=tmp_path / "run.db")


def signed(number, signature):
    url = f"https://media.example/{number}.jpg?signature={signature}"
    return GenerationRequest("a river", media_urls=[url])


async def test_lines_whose_urls_are_signed_anew_are_the_same_jobs_by_their_keys(begin, api):
    for signature in ("monday", "tuesday"):
        async with begin() as session:
            batch = await session.run((f"shot-{n}", signed(n, signature)) for n in range(3))
            assert batch.counts == {JobState.SUCCEEDED: 3}
            assert {job.key for job in batch} == {"shot-0", "shot-1", "shot-2"}
    assert api.count("create") == 3


async def test_with_a_media_key_lines_whose_urls_are_signed_anew_are_the_same_jobs(
    begin, api, make_session, tmp_path
):
    options = {"transport": api, "journal": tmp_path / "run.db", "media_key": without_query}
    for signature in ("monday", "tuesday"):
        async with make_session(**options) as session:
            batch = await session.run(signed(n, signature) for n in range(3))
            assert batch.counts == {JobState.SUCCEEDED: 3}
            again = await session.submit(signed(0, signature))
            assert again.request_id not in {job.request_id for job in batch}, "a second take"
    assert api.count("create") == 4
    assert "signature=monday" in json.loads(api.sent[0].body)["mediaUrls"][0], "sent as it is"


async def test_a_media_key_that_is_no_text_is_the_callers_mistake(api, make_session, tmp_path):
    options = {"transport": api, "journal": tmp_path / "run.db", "media_key": lambda url: 5}
    async with make_session(**options) as session:
        with pytest.raises(TypeError, match="media_key must return text, not int"):
            await session.submit(signed(1, "a"))
    assert api.count("create") == 0


def test_a_url_without_its_query_has_no_signature():
    for tail in ("", "?a=b", "#a", "?a#b?c", "#a?b"):
        assert without_query(f"https://media.example/a.jpg{tail}") == "https://media.example/a.jpg"


async def test_pairs_and_plain_requests_may_stand_side_by_side(begin, api):
    async with begin() as session:
        batch = await session.run([("mine", signed(1, "a")), signed(2, "a"), signed(2, "a")])
    assert batch.counts == {JobState.SUCCEEDED: 3}
    assert batch[0].key == "mine"
    assert api.count("create") == 3


@pytest.mark.parametrize("key", ["", "  ", 5, b"mine"])
async def test_a_key_that_cannot_be_one_is_one_bad_outcome(begin, api, key):
    async with begin() as session:
        batch = await session.run([(key, signed(1, "a")), ("good", signed(2, "a"))])
    assert isinstance(batch[0].error, InvalidRequestError)
    assert batch[1].state is JobState.SUCCEEDED


async def test_a_key_that_two_requests_share_is_one_bad_outcome(begin, api):
    api.seconds = 1000.0
    async with begin() as session:
        batch = await session.run([("mine", signed(1, "a")), ("mine", signed(2, "a"))])
    assert sorted(batch.counts) == ["rejected", "succeeded"]
    assert api.count("create") == 1


@pytest.mark.parametrize("how", ["run", "as_completed"])
async def test_a_stream_does_not_wait_for_a_job_that_another_caller_took_back(
    make_session, api, how
):
    """Both ask for one key; the one that submits it is cancelled before anything is sent."""
    async with make_session(transport=api, journal=MemoryJournal()) as session:
        session.client.submit_gate.hold(100.0)
        submit = asyncio.create_task(session.submit(signed(1, "a"), key="mine"))
        for _ in range(10):
            await asyncio.sleep(0)
        pairs = [("mine", signed(1, "a"))]
        if how == "run":
            stream = asyncio.create_task(session.run(pairs))
        else:
            stream = asyncio.create_task(_all(session.as_completed(pairs)))
        asyncio.get_running_loop().call_later(10.0, submit.cancel)
        (job,) = await stream
        assert job.state is JobState.REJECTED
        assert "before anything was sent" in str(job.error)
        assert (await session.run(pairs)).counts == {JobState.SUCCEEDED: 1}
    assert "0 in flight" in repr(session)
    assert api.count("create") == 1


async def _all(stream):
    return [job async for job in stream]
