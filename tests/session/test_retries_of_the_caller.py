"""Programs that submit again what went wrong: nothing that was bought is bought a second time.

Each test runs a program twice over one journal, as its user would after a failure.
"""

import asyncio

import pytest

from seedance_async import (
    APIError,
    GenerationRequest,
    JobState,
    RateLimitError,
    SubmitUncertainError,
)
from seedance_async.journal import read_entries
from tests.support.fakes import NOT_SENT, FakeAPI, accepted, error_reply, reply
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time

REQUEST = GenerationRequest("a river in autumn", duration=4)


@pytest.fixture
def api():
    return FakeAPI()


@pytest.fixture
def begin(make_session, api, tmp_path):
    def make(**options):
        return make_session(transport=api, journal=tmp_path / "run.db", **options)

    return make


# --- the same job, tried again -------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 402, 422])
async def test_a_submit_tried_again_after_a_refusal_is_the_same_job_in_the_next_run(
    begin, api, status
):
    api.script["create"] += [error_reply(status)]
    for _ in range(2):
        async with begin() as session:
            try:
                job = await session.submit(REQUEST)
            except APIError:
                await asyncio.sleep(31)
                job = await session.submit(REQUEST)
            await job
    assert len(api.jobs) == 1


async def test_a_submit_tried_again_after_a_rate_limit_is_the_same_job_in_the_next_run(begin, api):
    api.script["create"] += [error_reply(429, retry_after="100000")]
    for _ in range(2):
        async with begin() as session:
            try:
                job = await session.submit(REQUEST)
            except RateLimitError:
                await asyncio.sleep(31)
                job = await session.submit(REQUEST)
            await job
    assert len(api.jobs) == 1


async def test_a_submit_that_timed_out_waiting_for_a_slot_is_the_same_job_in_the_next_run(
    make_session, api
):
    """Its journal is in memory: virtual time would pass while a disk is waited for."""
    other, entries = GenerationRequest("another"), {}
    for timed_out in (1, 0):
        journal = MemoryJournal()
        journal.recorded |= entries
        async with make_session(transport=api, journal=journal, max_in_flight=1) as session:
            first = await session.submit(other)
            try:
                async with asyncio.timeout(1):
                    job = await session.submit(REQUEST)
            except TimeoutError:
                timed_out -= 1
                await first
                job = await session.submit(REQUEST)
            await job
            entries = dict(journal.recorded)
        assert timed_out == 0
    assert api.prompts == {"another": 1, REQUEST.prompt: 1}


async def test_running_what_failed_once_more_buys_nothing_in_the_next_run(begin, api):
    api.script["create"] += [error_reply(422), error_reply(422)]
    inputs = [REQUEST, GenerationRequest("another"), REQUEST]
    for _ in range(2):
        async with begin() as session:
            batch = await session.run(inputs)
            again = await session.run([job.request for job in batch.failures])
            assert not again.failures
    assert len(api.jobs) == 3


async def test_equal_requests_keep_their_own_jobs_though_one_is_refused_between(begin, api):
    api.script["create"] += [accepted("req_a"), error_reply(422), accepted("req_c")]
    api.jobs |= dict.fromkeys(("req_a", "req_c"), 0.0)
    async with begin() as session:
        batch = await session.run([REQUEST] * 3)
        assert batch.counts == {JobState.SUCCEEDED: 2, JobState.REJECTED: 1}
    async with begin() as session:
        batch = await session.run([REQUEST] * 3)
        assert batch.counts == {JobState.SUCCEEDED: 3}
    assert api.count("create") == 4


# --- what was attached by its id -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["submit", "run"])
async def test_a_job_that_was_attached_by_its_bare_id_is_the_one_of_its_request(begin, api, how):
    api.seconds = 1000.0
    with pytest.raises(LookupError):
        async with begin() as session:
            request_id = (await session.submit(REQUEST)).request_id
            raise LookupError
    async with begin() as session:
        attached = await session.attach(request_id)
        if how == "submit":
            assert (await session.submit(REQUEST)).request_id == request_id
        else:
            batch = await session.run([REQUEST])
            assert [job.request_id for job in batch] == [request_id]
        assert (await attached).status == "succeeded"
    assert len(api.jobs) == 1


async def test_a_token_with_the_key_of_another_job_changes_nothing_on_record(begin, api, tmp_path):
    async with begin() as session:
        job = await session.submit(REQUEST)
        await job
    api.jobs["req_other"] = 0.0
    token = job.token.replace(job.request_id, "req_other")
    async with begin() as session:
        with pytest.raises(ValueError, match=f"belongs to the job {job.request_id}"):
            await session.attach(token)
    assert [entry.request_id for entry in read_entries(tmp_path / "run.db")] == [job.request_id]


# --- answers that contradict themselves ----------------------------------------------------------

CHARGED = {"success": True, "requestId": "req_7", "status": "queued", "creditsCharged": 40}


@pytest.mark.parametrize(
    "answer",
    [
        reply(429, CHARGED),
        reply(400, CHARGED),
        reply(500, CHARGED),
        reply(422, {**CHARGED, "success": False}),
        reply(200, {"success": True, "data": CHARGED}),
        reply(200, {**CHARGED, "success": False}),
    ],
    ids=["429", "400", "500", "an error with a charge", "nested", "success false"],
)
async def test_an_error_that_reports_a_charge_is_uncertain_and_named_and_never_sent_again(
    begin, api, tmp_path, answer
):
    api.jobs["req_7"] = 0.0
    api.script["create"] += [answer]
    async with begin() as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit(REQUEST)
        assert caught.value.request_id == "req_7"
    assert [entry.request_id for entry in read_entries(tmp_path / "run.db")] == ["req_7"]
    async with begin(resubmit_uncertain=True) as session:
        job = await session.submit(REQUEST)
        assert (await job).request_id == "req_7"
    assert api.count("create") == 1


async def test_an_error_with_a_trace_id_alone_is_a_refusal(begin, api):
    refusal = {"success": False, "error": {"code": "bad", "message": "x"}, "requestId": "trace-1"}
    api.script["create"] += [reply(422, refusal), NOT_SENT]
    async with begin() as session:
        with pytest.raises(APIError):
            await session.submit(REQUEST)
        await (await session.submit(REQUEST))
    assert len(api.jobs) == 1


async def test_a_success_that_says_false_is_uncertain_and_shows_the_servers_words(begin, api):
    body = {"success": False, "error": {"code": "moderation", "message": "not this prompt"}}
    api.script["create"] += [reply(200, body)]
    async with begin() as session:
        with pytest.raises(SubmitUncertainError, match="moderation: not this prompt"):
            await session.submit(REQUEST)


async def test_an_acceptance_is_in_the_log_with_its_id(begin, caplog):
    caplog.set_level("INFO", logger="seedance_async")
    async with begin() as session:
        job = await session.submit(REQUEST)
    assert f"job {job.request_id} is accepted, charged 40 credits" in caplog.text
