"""Requests with extra fields over several runs of a journal: recognised, resumed, priced apart."""

import json

import attrs
import pytest

from seedance_async import (
    APIError,
    BudgetExceededError,
    GenerationRequest,
    InvalidRequestError,
    JobState,
)
from seedance_async.journal import read_entries, request_in
from tests.support.fakes import accepted, error_reply

pytestmark = pytest.mark.virtual_time

PLAIN = GenerationRequest("a river", duration=5, resolution="720p")
SEVEN, EIGHT = (attrs.evolve(PLAIN, extra={"seed": seed, "camera": {}}) for seed in (7, 8))


def sent(api):
    return [json.loads(wire.body).get("seed") for wire in api.sent if wire.charges]


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "run.db"


async def leave(session, *requests):
    """Submit, and leave the jobs running."""
    await session.open()
    for request in requests:
        await session.submit(request)
    await session.aclose(leave=True)


async def test_a_job_is_resumed_by_its_extra_fields_and_no_other_is(make_session, api, journal):
    await leave(make_session(journal=journal), SEVEN)
    assert [request_in(entry) for entry in read_entries(journal)] == [SEVEN]
    again = attrs.evolve(PLAIN, extra={"camera": {}, "seed": 7})
    async with make_session(journal=journal) as session:
        batch = await session.run([again, EIGHT, PLAIN])
    assert batch.counts == {JobState.SUCCEEDED: 3}
    assert sent(api) == [7, 8, None]


async def test_a_journal_without_extra_fields_knows_its_jobs_as_before(make_session, api, journal):
    await leave(make_session(journal=journal), PLAIN)
    (entry,) = read_entries(journal)
    assert entry.key.startswith("f61b0ae9a55daa2960238ba452920e68")
    assert json.loads(entry.request) == {
        "model": "seedance-2.0", "prompt": "a river", "duration": 5, "resolution": "720p",
    }  # fmt: skip


async def test_what_extra_fields_cost_is_known_to_the_next_run(make_session, api, journal):
    api.script["create"].extend([accepted("req_a", 10), accepted("req_b", 100)])
    await leave(make_session(journal=journal), PLAIN, SEVEN)
    async with make_session(journal=journal, max_credits=215) as session:
        api.script["create"].append(accepted("req_c", 100))
        job = await session.submit(attrs.evolve(SEVEN, prompt="another river"))
        assert job.credits_charged == 100
        with pytest.raises(BudgetExceededError, match="210 of 215"):
            await session.submit(attrs.evolve(PLAIN, prompt="a plain river"))
        await session.aclose(leave=True)
    assert sent(api) == [None, 7, 7]


async def test_jobs_that_differ_by_extra_fields_alone_are_expected_to_take_the_same_time(
    make_session,
):
    async with make_session() as session:
        await session.run(attrs.evolve(PLAIN, extra={"seed": seed}) for seed in range(30))
        assert len(session._poller._times) == 1


TALL = attrs.evolve(PLAIN, aspect_ratio="3:4")


@pytest.mark.parametrize("key", [None, "shot-1"])
@pytest.mark.parametrize("many", [False, True])
async def test_a_job_is_resumed_though_its_model_no_longer_takes_such_requests(
    make_session, api, journal, key, many
):
    """It runs and is paid for, whatever the page or the server's list says by now."""
    session = await make_session(journal=journal, strict=False).open()
    sent_first = await session.submit(TALL, key=key)
    await session.aclose(leave=True)
    async with make_session(journal=journal) as session:
        if many:
            (job,) = await session.run([TALL if key is None else (key, TALL)])
        else:
            job = await session.submit(TALL, key=key)
            await job
        assert job.request_id == sent_first.request_id
        with pytest.raises(InvalidRequestError, match="16:9, 9:16, 1:1"):
            await session.submit(attrs.evolve(TALL, prompt="a new one"))
    assert len(sent(api)) == 1


async def test_a_request_that_the_server_has_refused_is_judged_again(make_session, api, journal):
    api.script["create"].append(error_reply(400))
    async with make_session(journal=journal, strict=False) as session:
        with pytest.raises(APIError):
            await session.submit(TALL)
    async with make_session(journal=journal) as session:
        with pytest.raises(InvalidRequestError):
            await session.submit(TALL)
    assert len(sent(api)) == 1
