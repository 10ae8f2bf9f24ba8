"""Programs that submit again what went wrong: nothing that was bought is bought a second time.

Each test runs a program twice over one journal, as its user would after a failure.
"""

import asyncio
import contextlib
import gc
import json

import attrs
import pytest

from seedance_async import (
    APIError,
    GenerationRequest,
    JobState,
    JournalError,
    RateLimitError,
    SubmitUncertainError,
)
from seedance_async.jobs.job import JobToken
from seedance_async.jobs.registry import JobRecord
from seedance_async.journal import read_entries
from seedance_async.session.completed_jobs import CompletedJobs
from tests.support.fakes import LOST, NOT_SENT, FakeAPI, accepted, error_reply, reply
from tests.support.memory_journal import MemoryJournal, memory_store

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
    other, store = GenerationRequest("another"), memory_store()
    for timed_out in (1, 0):
        journal = MemoryJournal(store)
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
        assert timed_out == 0
    store.close()
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


async def test_an_uncertain_submit_has_the_same_words_in_every_run(begin, api):
    api.script["create"] += [LOST]
    told = []
    for _ in range(3):
        async with begin() as session:
            with pytest.raises(SubmitUncertainError) as caught:
                await session.submit(REQUEST)
            told.append(str(caught.value))
    assert len(set(told)) == 1
    assert "the connection broke" in told[0]


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


class SlowRecord(MemoryJournal):
    async def record(self, *arguments, **named):
        await asyncio.sleep(1)
        await super().record(*arguments, **named)


@pytest.mark.parametrize("how", ["submit", "attach", "a cancelled attach"])
async def test_a_job_that_is_being_attached_is_returned_once_it_is_on_record(
    make_session, api, how
):
    store = memory_store()
    api.script["create"] += [LOST]
    async with make_session(journal=MemoryJournal(store)) as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit(REQUEST)
    api.jobs["req_lost"] = asyncio.get_running_loop().time()
    token = JobToken("req_lost", caught.value.key).dump()
    journal = SlowRecord(store)
    async with make_session(journal=journal) as session:
        attaching = asyncio.ensure_future(session.attach(token))
        await asyncio.sleep(0.5)
        if how == "a cancelled attach":
            attaching.cancel()
        again = session.submit(REQUEST) if how == "submit" else session.attach(token)
        job = await again
        (entry,) = await journal.entries()
        assert job.request_id == entry.request_id == "req_lost"
        await asyncio.wait([attaching])
        assert attaching.cancelled() == (how == "a cancelled attach")
    assert api.count("create") == 1
    store.close()


class LateRecord(MemoryJournal):
    """Looks up slowly, and writes what nobody waits for when somebody waits."""

    def __init__(self, store):
        super().__init__(store)
        self.late = []

    async def find(self, key):
        await asyncio.sleep(60)
        return await super().find(key)

    def record_soon(self, *arguments, **named):
        self.late.append((arguments, named))

    async def flush(self):
        late, self.late = self.late, []
        for arguments, named in late:
            super().record_soon(*arguments, **named)
        await super().flush()


async def test_a_job_that_ends_while_it_is_attached_is_on_record(make_session, api):
    store = memory_store()
    async with make_session(journal=MemoryJournal(store)) as session:
        job = await session.submit(REQUEST)
        await session.aclose(leave=True)
    journal = LateRecord(store)
    async with make_session(journal=journal) as session:
        job = await session.attach(job.token)
        (entry,) = await journal.entries()
        assert job.state == entry.state == "succeeded"
    store.close()


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


async def test_a_submit_behind_a_failed_record_does_not_have_the_id_of_that_job(make_session, api):
    store = memory_store()
    journal = MemoryJournal(store)
    async with make_session(transport=api, journal=journal) as session:
        await session.submit(REQUEST)
        journal.fail_next(JournalError("the disk is full", request_id="req_1"))
        with pytest.raises(JournalError, match="req_1 is not on record") as caught:
            await session.submit(attrs.evolve(REQUEST, prompt="another river"))
        assert caught.value.request_id is None
    assert api.count("create") == 1
    store.close()


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


# --- submits whose callers were cancelled while they were in progress ----------------------------


def slow(api, seconds, answer=None):
    """An answer that comes late: an acceptance, or the one given."""

    async def respond(request):
        accepted_at_once = api.create(request) if answer is None else answer
        await asyncio.sleep(seconds)
        return accepted_at_once

    return respond


async def with_timeouts(session, seconds, request=REQUEST):
    """As programs do: try again whenever it took too long."""
    for _ in range(20):
        try:
            async with asyncio.timeout(seconds):
                return await session.submit(request)
        except TimeoutError:
            pass
    raise AssertionError("it never came")


@pytest.mark.parametrize("journal", [False, True])
async def test_a_retry_after_a_timeout_gets_the_job_that_went_on(make_session, api, journal):
    api.script["create"] += [slow(api, 30)]
    options = {"journal": MemoryJournal()} if journal else {}
    async with make_session(transport=api, **options) as session:
        job = await with_timeouts(session, 10)
        assert (await job).status == "succeeded"
        assert (await (await session.submit(REQUEST))).request_id == "req_1", "one more is wanted"
    assert len(api.jobs) == 2


@pytest.mark.parametrize("journal", [False, True])
async def test_a_wait_for_a_video_that_is_tried_again_buys_one(make_session, api, journal):
    options = {"journal": MemoryJournal()} if journal else {}
    async with make_session(transport=api, **options) as session:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4):
                    await session.generate(REQUEST)
        assert (await session.generate(REQUEST)).request_id == "req_0"
        assert (await session.generate(REQUEST)).request_id == "req_1", "one more is wanted"
    assert len(api.jobs) == 2


@pytest.mark.parametrize("seconds", [2, 4])
@pytest.mark.parametrize("how", ["submit", "generate", "run"])
async def test_a_retry_gets_the_job_whose_answer_came_while_its_caller_was_being_cancelled(
    make_session, api, how, seconds
):
    """The answer comes within `Timeouts.submit_grace`, before the cancellation goes on."""
    api.script["create"] += [slow(api, seconds)]
    async with make_session(transport=api, journal=MemoryJournal()) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await {"submit": session.submit, "generate": session.generate}.get(
                    how, lambda request: session.run([request])
                )(REQUEST)
        assert (await session.generate(REQUEST)).status == "succeeded"
    assert len(api.jobs) == 1


async def test_a_retry_gets_the_job_whose_caller_was_cancelled_while_it_was_recorded(
    make_session, api
):
    class SlowJournal(MemoryJournal):
        seconds = 10.0

        async def record(self, attempt, **changes):
            seconds, self.seconds = self.seconds, 0.0
            await asyncio.sleep(seconds)
            await super().record(attempt, **changes)

    async with make_session(transport=api, journal=SlowJournal()) as session:
        job = await with_timeouts(session, 5)
        assert (await job).status == "succeeded"
    assert len(api.jobs) == 1


class BusyJournal(MemoryJournal):
    """What nobody waits for is recorded with the next change that somebody waits for."""

    def __init__(self):
        super().__init__()
        self.queued = []

    def record_soon(self, attempt, **changes):
        self.queued.append((attempt, changes))

    async def record(self, attempt, **changes):
        await self.flush()
        await super().record(attempt, **changes)

    async def flush(self):
        await asyncio.sleep(1)
        queued, self.queued = self.queued, []
        for each, earlier in queued:
            super().record_soon(each, **earlier)


@pytest.mark.parametrize("seconds", [2, 30])
async def test_a_job_that_went_on_is_on_record_before_a_retry_gets_it(make_session, api, seconds):
    api.script["create"] += [slow(api, seconds)]
    journal = BusyJournal()
    async with make_session(transport=api, journal=journal) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(REQUEST)
        job = await session.submit(REQUEST)
        assert journal.recorded[job.key].request_id == job.request_id


async def test_a_retry_that_is_cancelled_while_the_job_is_recorded_leaves_it_to_the_next(
    make_session, api
):
    api.script["create"] += [slow(api, 30)]
    async with make_session(transport=api, journal=BusyJournal()) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(REQUEST)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(24.5):
                await session.submit(REQUEST)
        await (await session.submit(REQUEST))
    assert len(api.jobs) == 1


async def test_a_retry_gets_the_job_whose_acceptance_could_not_be_recorded(make_session, api):
    class FullDisk(MemoryJournal):
        async def record(self, attempt, **changes):
            raise JournalError("no space left on device")

    async with make_session(transport=api, journal=FullDisk()) as session:
        with pytest.raises(JournalError) as caught:
            await session.submit(REQUEST)
        job = await session.submit(REQUEST)
        assert job.request_id == caught.value.request_id
        assert (await job).status == "succeeded"
    assert len(api.jobs) == 1


async def test_a_batch_run_again_after_a_timeout_gets_the_jobs_that_went_on(make_session, api):
    requests = [REQUEST, GenerationRequest("another")]
    api.script["create"] += [slow(api, 30), slow(api, 30)]
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await session.run(requests)
        assert (await session.run(requests)).counts == {JobState.SUCCEEDED: 2}
    assert len(api.jobs) == 2


@pytest.mark.parametrize("journal", [False, True])
async def test_a_batch_that_is_run_again_gets_every_job_that_it_had(make_session, api, journal):
    """Also those that had ended, and those that were never given to anybody."""
    requests = [REQUEST, GenerationRequest("another"), REQUEST, GenerationRequest("a third")]
    options = {"journal": MemoryJournal()} if journal else {}
    async with make_session(transport=api, max_in_flight=2, **options) as session:
        for seconds in (4, 12, 8):  # a job takes five
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(seconds):
                    await session.run(requests)
        assert (await session.run(requests)).counts == {JobState.SUCCEEDED: 4}
        assert (await session.generate(REQUEST)).request_id == "req_4", "one more is wanted"
    assert api.prompts == {REQUEST.prompt: 3, "another": 1, "a third": 1}


@pytest.mark.parametrize("pair", [lambda request: request, lambda request: ("take 1", request)])
async def test_a_stream_that_is_begun_again_gets_the_jobs_that_nobody_was_given(
    make_session, api, pair
):
    requests = [GenerationRequest("another"), pair(REQUEST)]
    async with make_session(transport=api) as session:
        async with contextlib.aclosing(session.as_completed(requests)) as jobs:
            first = await anext(jobs)
        await asyncio.sleep(300)
        (job,) = [job async for job in session.as_completed([pair(REQUEST)])]
        assert {first.request_id, job.request_id} == {"req_0", "req_1"}
        (again,) = await session.run([GenerationRequest("another")])
        assert again.request_id == "req_2", "it was given to its consumer: one more is wanted"
    assert api.count("create") == 3


async def test_a_loop_that_a_timeout_ends_and_is_begun_again_at_once_gets_its_jobs(
    make_session, api
):
    """Nobody closes the stream: it is closed in the background, once the loop is left."""
    names = ["quick", "ended", "slow", "very slow", "refused"]
    requests = [GenerationRequest(name) for name in names]
    answers = [None, None, slow(api, 62), slow(api, 400), slow(api, 62, error_reply(422))]
    by_prompt, create = dict(zip(names, answers, strict=True)), api.create

    async def respond(request):
        answer = by_prompt.pop(json.loads(request.body)["prompt"], None)
        return create(request) if answer is None else await answer(request)

    api.script["create"] += [respond] * 10
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                async for job in session.as_completed(tuple(requests)):
                    requests.remove(job.request)
                    await asyncio.sleep(300)
        jobs = [job async for job in session.as_completed(requests)]
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}
    assert len(jobs) == 4
    assert api.prompts == {name: 1 + (name == "refused") for name in names}


async def test_a_batch_with_what_is_no_request_can_be_run_again(make_session, api, caplog):
    requests = [REQUEST, "a string", GenerationRequest(" ")]
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await session.run(requests)
        counts = (await session.run(requests)).counts
    assert counts == {JobState.SUCCEEDED: 1, JobState.REJECTED: 2}
    assert api.count("create") == 1
    assert "cannot be given to a retry" not in caplog.text


async def test_a_batch_that_is_run_again_is_told_of_the_uncertain_job_and_does_not_repeat_it(
    make_session, api
):
    api.script["create"] += [LOST]
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.run([REQUEST, GenerationRequest("another")])
        batch = await session.run([REQUEST, GenerationRequest("another")])
    assert batch.counts == {JobState.UNCERTAIN: 1, JobState.SUCCEEDED: 1}
    assert api.count("create") == 2


async def test_callers_that_ask_for_the_jobs_of_a_left_batch_at_once_get_one_each(
    make_session, api
):
    """Each waits until all of its jobs have a name, whoever computes it."""
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await session.run([REQUEST] * 250)
        asking = [session.submit(REQUEST) for _ in range(251)]
        jobs = await asyncio.gather(*asking)
    assert len({job.request_id for job in jobs}) == len(api.jobs) == 251


async def test_a_job_whose_media_cannot_be_named_any_more_keeps_no_other_from_a_retry(
    make_session, api, caplog
):
    def media_key(url):
        raise KeyError("no such picture")

    of_picture = GenerationRequest("a", media_urls=["https://media.test/a.png"])
    async with make_session(transport=api, media_key=media_key) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await session.run([of_picture, REQUEST])
        assert (await session.generate(REQUEST)).status == "succeeded"
        assert (await session.generate(REQUEST)).status == "succeeded"
    assert api.prompts == {"a": 1, REQUEST.prompt: 2}
    assert caplog.text.count("cannot be given to a retry of its request") == 1


@pytest.mark.parametrize("leave", ["break", "raise"])
async def test_a_loop_that_is_left_gives_its_jobs_to_the_next_line_of_the_program(
    make_session, api, leave
):
    """The event loop closes its generator only some turns later."""
    requests = [REQUEST, GenerationRequest("another"), GenerationRequest("a third")]
    async with make_session(transport=api, max_in_flight=2) as session:
        with contextlib.suppress(LookupError):
            async for job in session.as_completed(tuple(requests)):
                requests.remove(job.request)
                if leave == "break":
                    break
                raise LookupError
        for request in requests:
            assert (await session.generate(request)).status == "succeeded"
    assert set(api.prompts.values()) == {1}


async def test_a_stream_that_is_dropped_when_its_loop_is_gone_is_left_alone(make_session, api):
    session = await make_session(transport=api).open()
    jobs = session.as_completed([REQUEST, GenerationRequest("another")])
    await anext(jobs)
    await asyncio.to_thread(CompletedJobs.__del__, jobs)
    await jobs.aclose()
    await session.aclose()


async def test_a_job_that_was_cancelled_on_purpose_is_not_given_to_the_next_request(
    make_session, api
):
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await session.run([REQUEST])
        (job,) = session.jobs()
        await job.cancel()
        assert (await session.generate(REQUEST)).status == "succeeded"
    assert api.count("create") == 2


async def test_a_retry_that_waits_long_for_the_answer_says_so(make_session, api):
    api.script["create"] += [slow(api, 60)]
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(REQUEST)
        retry = asyncio.create_task(session.submit(REQUEST))
        await asyncio.sleep(30)
        assert session.stats().waiting["network"] >= 20
        await (await retry)
    assert len(api.jobs) == 1


async def test_jobs_that_nobody_asks_for_again_are_forgotten(make_session, api):
    kept = []
    async with make_session(transport=api) as session:
        for number in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4):
                    await session.run([GenerationRequest(f"left {number} {n}") for n in range(20)])
            await asyncio.sleep(2 * 3600)
            await (await session.submit(REQUEST))
            gc.collect()
            records = [each for each in gc.get_objects() if isinstance(each, JobRecord)]
            kept.append(sum("'left " in repr(each.request) for each in records))
    assert kept[2] <= kept[0]


async def test_a_late_refusal_leaves_the_key_to_the_retry(make_session, api):
    api.script["create"] += [slow(api, 20, error_reply(422))]
    async with make_session(transport=api, journal=MemoryJournal()) as session:
        job = await with_timeouts(session, 5)
        assert job.key.endswith("-1")


@pytest.mark.parametrize("answer", [error_reply(422), error_reply(429), NOT_SENT])
async def test_a_late_refusal_gives_the_credits_back(make_session, api, answer):
    api.script["create"] += [slow(api, 20, answer)]
    async with make_session(transport=api, max_credits=100) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(REQUEST)
        await asyncio.sleep(60)
        async with asyncio.timeout(1000):
            await session.submit(GenerationRequest("another"))
    assert "<CreditLimit 40 of 100 spent>" in repr(session)


async def test_callers_that_give_up_do_not_feed_a_service_that_answers_nothing(make_session, api):
    api.script["create"] += [slow(api, 120, error_reply(504))] * 1000

    async def patient(session, number):
        while True:
            try:
                async with asyncio.timeout(10):
                    await session.submit(GenerationRequest(f"prompt {number}"))
            except (TimeoutError, SubmitUncertainError):
                number += 1000

    async def all_of_them(session):
        async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task(patient(session, number))

    async with make_session(transport=api, max_in_flight=100, max_connections=4) as session:
        with pytest.raises(TimeoutError):
            await all_of_them(session)
    assert api.count("create") <= 12


async def test_a_key_that_is_given_back_goes_to_one_request_alone(make_session, api):
    async with make_session(transport=api, journal=MemoryJournal()) as session:
        api.script["create"] += [error_reply(422)]
        (refused,) = await session.run([REQUEST])
        first = await session.submit(REQUEST, key=refused.key)
        second = await session.submit(REQUEST)
        assert first.request_id != second.request_id
    assert len(api.jobs) == 2


async def test_a_key_asks_for_a_job_of_its_own_beside_one_that_went_on(make_session, api):
    api.script["create"] += [slow(api, 60, accepted("req_slow"))]
    api.jobs["req_slow"] = 0.0
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await session.submit(REQUEST)
        other = await session.submit(REQUEST, key="another take")
        assert other.request_id != "req_slow"
        assert (await session.submit(REQUEST)).request_id == "req_slow"
    assert api.count("create") == 2


async def test_a_retry_with_the_same_key_gets_the_job_that_went_on_and_one_without_does_not(
    make_session, api
):
    api.script["create"] += [slow(api, 60, accepted("req_slow"))]
    api.jobs["req_slow"] = 0.0
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await session.submit(REQUEST, key="take 1")
        assert (await session.submit(REQUEST)).request_id != "req_slow"
        assert (await session.submit(REQUEST, key="take 1")).request_id == "req_slow"
    assert api.count("create") == 2


async def test_a_batch_with_the_same_key_gets_the_submit_that_went_on_though_its_job_has_ended(
    make_session, api
):
    api.answer_after = 20.0
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(REQUEST, key="take 1")
        await asyncio.sleep(300)
        (job,) = await session.run([("take 1", REQUEST)])
    assert job.request_id in api.jobs
    assert api.count("create") == 1


class SlowAndBroken(MemoryJournal):
    """The first outcome of a submit takes a minute, and is then not recorded."""

    broken = False

    async def record(self, attempt, **changes):
        if not self.broken:
            self.broken = True
            await asyncio.sleep(60)
            raise JournalError("the disk is full")
        await super().record(attempt, **changes)


async def test_a_retry_gets_the_job_that_could_not_be_recorded_though_it_has_ended(
    make_session, api
):
    async with make_session(transport=api, journal=SlowAndBroken()) as session:
        with pytest.raises(JournalError) as caught:
            await session.submit(REQUEST)
        job = await session.submit(REQUEST)
        assert job.request_id == caught.value.request_id
    assert api.count("create") == 1


async def test_an_equal_request_hours_later_is_no_retry(make_session, api):
    api.answer_after = 20.0
    async with make_session(transport=api) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(REQUEST)
        await asyncio.sleep(2 * 3600)
        await session.submit(REQUEST)
    assert api.count("create") == 2


async def test_submits_that_went_on_are_not_kept_for_good(make_session, api):
    api.answer_after = 2.0

    async def give_up(session, number):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.submit(attrs.evolve(REQUEST, prompt=f"a river {number}"))

    async with make_session(transport=api, max_in_flight=100) as session:
        for round_ in range(5):
            for number in range(100):
                await give_up(session, 100 * round_ + number)
            await asyncio.sleep(2 * 3600)
        records = [each for each in gc.get_objects() if isinstance(each, JobRecord)]
        ours = [each for each in records if each.request and "a river " in each.request.prompt]
        assert 0 < len(ours) <= 200
    assert api.count("create") == 500


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "requestId": "trace-1", "data": {"requestId": "r", "creditsCharged": 4}},
        {"success": False, "requestId": "r", "creditsCharged": "40"},
        {"success": False, "data": [{"requestId": "r", "creditsCharged": 40}]},
        {"success": False, "data": {"success": True, "requestId": "r"}},
        {"requestId": "r", "status": "queued"},
    ],
    ids=["below a trace id", "as text", "in a list", "a success inside", "an id and a state"],
)
async def test_a_refusal_that_shows_a_job_anywhere_is_uncertain(begin, api, body):
    api.script["create"] += [reply(429, body, {"retry-after": "1"})]
    async with begin() as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit(REQUEST)
        assert caught.value.request_id == "r"
    assert api.count("create") == 1


async def test_a_batch_that_is_run_again_gets_the_job_that_was_attached_by_its_id(
    make_session, api
):
    store = memory_store()
    async with make_session(transport=api, journal=MemoryJournal(store)) as session:
        job = await session.submit(REQUEST)
        await session.aclose(leave=True)
    async with make_session(transport=api, journal=MemoryJournal(store)) as session:
        await session.attach(job.request_id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await session.run([REQUEST])
        await asyncio.sleep(60)
        (again,) = await session.run([REQUEST])
    store.close()
    assert again.request_id == job.request_id
    assert api.count("create") == 1


# --- the same key, twice at once -----------------------------------------------------------------


@pytest.mark.parametrize("journal", [False, True])
async def test_a_second_submit_with_the_key_of_a_running_job_gets_that_job(
    make_session, api, journal
):
    """As of a web application whose client asks again for its order."""
    options = {"journal": MemoryJournal()} if journal else {}
    api.script["create"] += [slow(api, 20)]
    async with make_session(transport=api, **options) as session:
        submits = [session.submit(REQUEST, key="order-17") for _ in range(3)]
        first, *others = await asyncio.gather(*submits)
        assert others == [first, first]
        assert await session.submit(REQUEST, key="order-17") == first
        with pytest.raises(ValueError, match="'order-17' belongs to another job"):
            await session.submit(GenerationRequest("another"), key="order-17")
    assert api.count("create") == 1


@pytest.mark.parametrize("answer", [error_reply(422), LOST])
async def test_both_submits_of_one_key_are_told_that_it_was_refused_or_is_uncertain(
    make_session, api, answer
):
    api.script["create"] += [slow(api, 20, answer)] if answer is not LOST else [LOST]
    async with make_session(transport=api) as session:
        submits = [session.submit(REQUEST, key="order-17") for _ in range(2)]
        first, second = await asyncio.gather(*submits, return_exceptions=True)
    assert isinstance(first, APIError | SubmitUncertainError)
    assert str(first) == str(second)
    assert first is not second
    assert api.count("create") == 1


async def test_a_submit_that_waits_for_another_of_its_key_sends_it_if_that_is_cancelled_unsent(
    make_session, api
):
    async with make_session(transport=api, max_in_flight=1) as session:
        running = await session.submit(GenerationRequest("another"))
        first = asyncio.create_task(session.submit(REQUEST, key="order-17"))
        second = asyncio.create_task(session.submit(REQUEST, key="order-17"))
        await asyncio.sleep(1)
        first.cancel()
        await running
        assert (await (await second)).status == "succeeded"
    assert api.count("create") == 2
