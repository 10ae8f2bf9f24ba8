"""A session with a journal: what a later run makes of what an earlier one has left."""

import asyncio
import itertools
import json
import shutil
import sqlite3

import attrs
import pytest

from seedance_async import (
    AuthenticationError,
    BudgetExceededError,
    GenerationFailedError,
    GenerationRequest,
    InsufficientCreditsError,
    JobState,
    JournalError,
    RateLimitError,
    SubmitUncertainError,
)
from seedance_async.journal import SQLiteJournal, read_entries
from tests.conftest import KEY, QUICK_POLL
from tests.support.fakes import LOST, accepted, error_reply, reply, told
from tests.support.memory_journal import MemoryJournal, memory_store

A, B, C = (GenerationRequest(f"prompt {letter}", duration=5) for letter in "abc")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
def begin(make_session, api, path):
    """A session on the same journal, as the next run of the same program would have it."""
    api.seconds = 0.02

    def make(**options):
        options.setdefault("journal", path)
        return make_session(poll=QUICK_POLL, **options)

    return make


def states(path):
    return {json.loads(e.request)["prompt"]: e.state for e in read_entries(path)}


async def left_by_a_killed_run(path, request=A, **changes):
    """An intent on disk, and whatever else the run came to write before it was killed."""
    from seedance_async.api.long_waits import Waits
    from seedance_async.api.prepared_request import prepare
    from seedance_async.jobs.registry import TaskRegistry
    from seedance_async.session.journaling import JournalRecorder

    journal = SQLiteJournal(path)
    recorder = JournalRecorder(journal, origin="https://api.example", waits=Waits("api.example"))
    await recorder.open()
    prepared = prepare(request)
    record = TaskRegistry().add(recorder.new_key(prepared), request)
    await recorder.intend(record, prepared, None, 40, None)
    if changes:
        await journal.record((await journal.find(record.key)).attempt, **changes)
    await journal.aclose()
    return record.key


# --- the same command again ----------------------------------------------------------------------


async def test_a_second_run_submits_nothing_that_is_done(begin, api, path):
    async with begin() as session:
        first = await session.run([A, B])
    async with begin() as session:
        second = await session.run([A, B, C])
    assert api.prompts == {"prompt a": 1, "prompt b": 1, "prompt c": 1}
    assert [job.request_id for job in second][:2] == [job.request_id for job in first]
    assert second.counts == {JobState.SUCCEEDED: 3}
    assert second.credits_charged == 120
    assert session.stats().credits_charged == 40, "only what this run was charged"
    assert states(path) == dict.fromkeys(("prompt a", "prompt b", "prompt c"), "succeeded")


async def test_requests_find_their_jobs_when_lines_moved(begin, api):
    async with begin() as session:
        first = {job.request.prompt: job.request_id for job in await session.run([A, B, C])}
    async with begin() as session:
        second = {job.request.prompt: job.request_id for job in await session.run([C, A, B])}
    assert first == second
    assert api.count("create") == 3


async def test_the_same_request_twice_is_two_jobs_in_every_run(begin, api):
    for _ in range(2):
        async with begin() as session:
            assert len({job.request_id for job in await session.run([A, A, B])}) == 3
    assert api.prompts == {"prompt a": 2, "prompt b": 1}


async def test_a_key_of_the_callers_own_names_the_job(begin, api, caplog):
    async with begin() as session:
        job = await session.submit(A, key="order-17")
        await job
    async with begin() as session:
        again = await session.submit(B, key="order-17")
        assert "'order-17' is that of a job with another prompt, 'prompt a'" in caplog.text
        assert (again.request_id, again.state) == (job.request_id, "succeeded")
    assert api.prompts == {"prompt a": 1}


async def test_a_job_whose_request_is_damaged_in_the_journal_is_resumed_by_its_key(
    make_session, api
):
    store = memory_store()
    async with make_session(transport=api, journal=MemoryJournal(store)) as session:
        job = await session.submit(A, key="order-17")
        await job
    store.execute("UPDATE jobs SET request = '{'")
    async with make_session(transport=api, journal=MemoryJournal(store)) as session:
        again = await session.submit(B, key="order-17")
    store.close()
    assert again.request_id == job.request_id


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"duration": 6}, "a job with another duration, 4; it is not made anew"),
        ({"duration": None, "resolution": "480p"}, "another duration, 4 and no resolution"),
        ({"media_urls": ["https://a.example/lake.png?signature=1"]}, "a job with other media;"),
        ({"media_urls": ["https://a.example/river.png?signature=2"]}, None),
        ({"metadata": {"run": 2}}, None),
    ],
)
async def test_a_key_that_is_used_again_for_another_video_is_told(
    begin, api, caplog, changes, told
):
    picture = "https://a.example/river.png?signature=1"
    before = GenerationRequest("a", duration=4, media_urls=[picture], metadata={"run": 1})
    for request in (before, attrs.evolve(before, **changes)):
        async with begin() as session:
            job = await session.submit(request, key="order-17")
            assert (await job).request_id == "req_0"
    warned = [each.message for each in caplog.records if "'order-17'" in each.message]
    assert len(warned) == (told is not None)
    assert told is None or told in warned[0]
    assert "signature" not in caplog.text


async def test_a_running_job_of_a_killed_run_is_resumed(begin, api, path):
    await left_by_a_killed_run(path, state="queued", request_id="req_9", credits_charged=40)
    api.jobs["req_9"] = asyncio.get_running_loop().time()
    async with begin(max_in_flight=1) as session:
        job = await session.submit(A)
        assert session.stats().in_flight == 1, "a job taken up holds a slot like any other"
        assert (await job).request_id == "req_9"
        assert job.credits_charged == 40
    assert api.count("create") == 0
    assert states(path) == {"prompt a": "succeeded"}


async def test_an_abandoned_job_of_an_earlier_run_is_resumed(begin, api, path):
    api.queues = False
    api.seconds = 1e6
    async with begin(job_timeout=0.05) as session:
        assert (await session.run([A])).counts == {JobState.ABANDONED: 1}
    assert states(path) == {"prompt a": "abandoned"}
    api.seconds = 0.01
    async with begin() as session:
        assert (await session.run([A])).counts == {JobState.SUCCEEDED: 1}
    assert api.count("create") == 1


async def test_a_run_left_by_an_error_can_be_resumed(begin, api, path):
    api.seconds = 0.3
    with pytest.raises(LookupError):
        async with begin() as session:
            await session.submit(A)
            raise LookupError
    async with begin() as session:
        assert (await session.generate(A)).status == "succeeded"
    assert api.count("create") == 1


async def test_a_failed_job_is_reported_again_and_not_bought_again(begin, api):
    api.script["get"].append(told("req_0", "failed", error={"code": "x", "message": "moderated"}))
    for _ in range(2):
        async with begin() as session:
            with pytest.raises(GenerationFailedError, match="moderated"):
                await session.generate(A)
    assert api.count("create") == 1


async def test_a_refused_submit_is_sent_again_by_the_next_run(begin, api, path):
    api.script["create"].append(error_reply(400))
    async with begin() as session:
        assert (await session.run([A])).counts == {JobState.REJECTED: 1}
    assert states(path) == {"prompt a": "rejected"}
    async with begin() as session:
        assert (await session.run([A])).counts == {JobState.SUCCEEDED: 1}


async def test_a_submit_cancelled_before_it_was_sent_is_sent_by_the_next_run(begin, api, path):
    answered = asyncio.Event()

    async def refuse(_):
        answered.set()
        return error_reply(429, retry_after="500")

    api.script["create"].append(refuse)
    async with begin() as session:
        submitting = asyncio.ensure_future(session.submit(A))
        await answered.wait()
        await asyncio.sleep(0)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
    assert states(path) == {"prompt a": "rejected"}
    async with begin() as session:
        assert (await session.run([A])).counts == {JobState.SUCCEEDED: 1}


@pytest.mark.parametrize("limit", [None, 60])
async def test_paid_jobs_are_resumed_although_nothing_can_be_submitted(begin, api, path, limit):
    """The account is empty, or the limit reached, at a request before it in the input."""
    await left_by_a_killed_run(path, B, state="queued", request_id="req_9", credits_charged=40)
    api.jobs["req_9"] = asyncio.get_running_loop().time()
    api.script["create"].append(error_reply(402))
    async with begin(max_credits=limit, max_in_flight=1) as session:
        batch = await session.run([A, B, C])
    assert [job.state for job in batch] == ["rejected", "succeeded", "rejected"]
    assert len({type(batch[0].error), type(batch[2].error)}) == 1
    assert api.count("create") == (1 if limit is None else 0)


async def test_an_endless_input_ends_where_nothing_can_be_submitted(begin, api, path):
    await left_by_a_killed_run(path, B, state="queued", request_id="req_9")
    api.script["create"].append(error_reply(402))
    endless = (GenerationRequest(f"{number}") for number in itertools.count())
    async with begin(max_in_flight=1) as session:
        with pytest.raises(InsufficientCreditsError):
            async for job in session.as_completed(endless):
                assert job.state is JobState.REJECTED
    assert api.count("create") == 1


async def test_a_refused_key_ends_a_stream_at_once(begin, api, path):
    await left_by_a_killed_run(path, B, state="queued", request_id="req_9")
    api.script["create"].append(error_reply(401, "unauthorized"))
    async with begin(max_in_flight=1) as session:
        with pytest.raises(AuthenticationError):
            async for _ in session.as_completed([A, B]):
                pass
    assert api.count("get") == 0


# --- what cannot be known ------------------------------------------------------------------------


async def test_an_uncertain_submit_stays_so_in_every_run_and_is_not_repeated(begin, api, path):
    api.script["create"].append(LOST)
    for _ in range(3):
        async with begin() as session:
            batch = await session.run([A, B])
        assert [job.state for job in batch] == ["uncertain", "succeeded"]
    assert api.count("create") == 2
    assert states(path)["prompt a"] == "uncertain"


async def test_a_run_killed_between_submit_and_answer_leaves_an_uncertain_one(begin, api, path):
    await left_by_a_killed_run(path)
    async with begin() as session:
        with pytest.raises(SubmitUncertainError, match="process ended") as caught:
            await session.submit(A)
        assert caught.value.key == read_entries(path)[0].key
    assert api.count("create") == 0
    assert states(path) == {"prompt a": "uncertain"}


async def test_an_uncertain_submit_is_repeated_only_when_asked_to(begin, api, path):
    await left_by_a_killed_run(path)
    async with begin(resubmit_uncertain=True) as session:
        assert (await session.generate(A)).status == "succeeded"
    assert api.prompts == {"prompt a": 1}


async def test_a_refusal_of_the_second_submit_does_not_settle_the_first(begin, api, path):
    await left_by_a_killed_run(path)
    api.script["create"].append(error_reply(402))
    async with begin(resubmit_uncertain=True) as session:
        assert (await session.run([A])).counts == {JobState.REJECTED: 1}
    assert states(path) == {"prompt a": "uncertain"}
    async with begin() as session:
        assert (await session.run([A])).counts == {JobState.UNCERTAIN: 1}
    assert api.count("create") == 1, "it was asked for in the run before only"


async def test_both_charges_of_a_job_that_was_submitted_again_count_against_the_limit(
    begin, api, path
):
    async with begin(max_credits=100) as session:
        await session.generate(B)  # what such a job costs is known from here on: 40
    api.script["create"].append(LOST)
    async with begin(max_credits=100) as session:
        assert (await session.run([A])).counts == {JobState.UNCERTAIN: 1}
    async with begin(max_credits=200, resubmit_uncertain=True) as session:
        assert (await session.run([A])).counts == {JobState.SUCCEEDED: 1}
    async with begin(max_credits=150) as session:
        with pytest.raises(BudgetExceededError, match="120"):
            await session.generate(C)


async def test_a_refused_second_submit_counts_the_first_one_alone(begin, api, path):
    async with begin(max_credits=100) as session:
        await session.generate(B)
    api.script["create"] += [LOST, error_reply(402)]
    async with begin(max_credits=100) as session:
        await session.run([A])
    async with begin(max_credits=200, resubmit_uncertain=True) as session:
        await session.run([A])
    async with begin(max_credits=120) as session:
        assert (await session.generate(C)).status == "succeeded"


async def test_what_a_run_without_a_limit_left_uncertain_counts_by_its_estimate(begin, api, path):
    api.script["create"].append(LOST)
    async with begin() as session:
        await session.run([A, B])
    async with begin(max_credits=100) as session:
        with pytest.raises(BudgetExceededError, match="80"):
            await session.generate(C)


async def test_the_id_of_an_uncertain_submit_settles_it_for_good(begin, api, path):
    key = await left_by_a_killed_run(path)
    api.jobs["req_7"] = asyncio.get_running_loop().time()
    async with begin() as session:
        job = await session.attach(json.dumps({"v": 1, "request_id": "req_7", "key": key}))
        await job
    entry = read_entries(path)[0]
    assert (entry.state, entry.request_id) == ("succeeded", "req_7")
    async with begin() as session:
        assert (await session.run([A])).counts == {JobState.SUCCEEDED: 1}
    assert api.count("create") == 0


async def test_attaching_by_a_token_keeps_the_charge_that_is_on_record(begin, api, path):
    async with begin() as session:
        token = (await session.submit(A)).token
    async with begin() as session:
        job = await session.attach(token)
        assert (await job).status == "succeeded"
        assert job.credits_charged == 40
    assert read_entries(path)[0].credits_charged == 40


async def test_what_a_cancelled_caller_did_not_wait_for_is_on_record(begin, api, path):
    sent, cancelled = asyncio.Event(), asyncio.Event()

    async def answer_late(_):
        sent.set()
        await cancelled.wait()
        api.jobs["req_0"] = asyncio.get_running_loop().time()
        return accepted("req_0")

    api.script["create"].append(answer_late)
    async with begin() as session:
        submitting = asyncio.ensure_future(session.submit(A))
        await sent.wait()
        submitting.cancel()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await submitting
    assert read_entries(path)[0].request_id == "req_0"


@pytest.mark.parametrize(("read", "words"), [(True, "earlier job"), (False, "belongs to job")])
async def test_an_id_that_belongs_to_a_job_of_an_earlier_run_makes_a_submit_uncertain(
    begin, api, path, read, words
):
    async with begin() as session:
        first = (await session.run([A]))[0].request_id
    api.script["create"].append(accepted(first))
    async with begin(read_journal=read) as session:
        with pytest.raises(SubmitUncertainError, match=words) as caught:
            await session.submit(B)
        assert caught.value.request_id == first
        assert (await session.generate(C)).status == "succeeded", "no other job is touched"
    assert states(path) == {
        "prompt a": "succeeded", "prompt b": "uncertain", "prompt c": "succeeded",
    }  # fmt: skip


async def test_a_session_that_reads_no_journal_ahead_finds_each_job_in_it(begin, api):
    async with begin() as session:
        first = await session.run([A, B])
    async with begin(read_journal=False) as session:
        again = await session.run([A, B, C])
    assert [job.request_id for job in again][:2] == [job.request_id for job in first]
    assert again.counts == {"succeeded": 3}
    assert len(api.jobs) == 3


async def test_a_job_that_is_attached_by_its_id_is_on_record_for_the_next_run(begin, api, path):
    api.jobs["req_other"] = asyncio.get_running_loop().time() + 1000.0
    with pytest.raises(LookupError):
        async with begin() as session:
            await session.attach("req_other")
            raise LookupError
    (entry,) = read_entries(path)
    assert (entry.request_id, entry.key) == ("req_other", "attached-req_other")
    api.jobs["req_other"] = 0.0
    async with begin() as session:
        (job,) = await session.resume()
        assert (await job).status == "succeeded"
        assert (await session.attach("req_other")).key == job.key
    assert states(path) == {"(attached by its id, req_other)": "succeeded"}
    assert api.count("create") == 0


# --- a journal that fails ------------------------------------------------------------------------


class Failing(SQLiteJournal):
    """A journal whose next writes fail, as on a full disk."""

    fail_claims = fail_updates = 0

    async def claim(self, intent, **named):
        if self.fail_claims:
            self.fail_claims -= 1
            raise JournalError("database or disk is full", path="run.db")
        return await super().claim(intent, **named)

    async def record(self, attempt, **changes):
        if self.fail_updates:
            self.fail_updates -= 1
            raise JournalError("database or disk is full", path="run.db")
        await super().record(attempt, **changes)


async def test_nothing_is_sent_when_the_intent_cannot_be_recorded(begin, api, path):
    journal = Failing(path)
    journal.fail_claims = 1
    async with begin(journal=journal) as session:
        with pytest.raises(JournalError, match="full"):
            await session.submit(A)
        assert api.count("create") == 0
        await session.generate(B)
    assert api.prompts == {"prompt b": 1}


async def test_an_acceptance_that_cannot_be_recorded_is_shouted_with_its_id(
    begin, api, path, caplog
):
    journal = Failing(path)
    async with begin(journal=journal) as session:
        journal.fail_updates = 1
        with pytest.raises(JournalError) as caught:
            await session.submit(A)
        assert caught.value.request_id == "req_0"
        assert session.registry.find(request_id="req_0") is not None
    critical = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert "req_0" in critical[0].getMessage()
    entry = read_entries(path)[0]
    assert (entry.state, entry.request_id) == ("succeeded", "req_0"), "written at the job's end"


async def test_a_journal_in_use_refuses_a_second_run(begin, api):
    async with begin():
        with pytest.raises(JournalError, match="in use"):
            await begin().__aenter__()


# --- money ---------------------------------------------------------------------------------------


async def test_the_limit_holds_over_all_runs_of_a_journal(begin, api, path):
    async with begin(max_credits=130) as session:
        first = await session.run(GenerationRequest(f"{n}", duration=5) for n in range(10))
    assert first.counts == {JobState.SUCCEEDED: 3, JobState.REJECTED: 7}
    assert {type(job.error) for job in first.failures} == {BudgetExceededError}
    async with begin(max_credits=130) as session:
        second = await session.run(GenerationRequest(f"{n}", duration=5) for n in range(10))
    assert second.counts == first.counts
    assert api.count("create") == 3


async def test_an_uncertain_submit_counts_as_spent(begin, api, path):
    api.script["create"] += [accepted("req_a"), LOST]
    api.script["get"].append(told("req_a", "succeeded"))
    async with begin(max_credits=100) as session:
        assert [job.state for job in await session.run([A, B, C])] == [
            "succeeded", "uncertain", "rejected",
        ]  # fmt: skip
    async with begin(max_credits=100) as session:
        with pytest.raises(BudgetExceededError, match="80 of 100"):
            await session.submit(C)
    assert api.count("create") == 2


async def test_what_was_refused_frees_its_credits(begin, api):
    api.script["create"] += [accepted("req_a"), error_reply(400)]
    api.script["get"].append(told("req_a", "succeeded"))
    async with begin(max_credits=80, max_in_flight=1) as session:
        assert [job.state for job in await session.run([A, B, C])] == [
            "succeeded", "rejected", "succeeded",
        ]  # fmt: skip


async def test_what_never_was_sent_frees_its_credits(begin, api):
    api.script["create"] += [error_reply(429, retry_after="3600")]
    async with begin(max_credits=40, journal=None) as session:
        with pytest.raises(RateLimitError):
            await session.submit(A)
        assert "<CreditLimit 0 of 40 spent>" in repr(session)


async def test_the_journal_holds_no_secret(begin, api, path):
    url = "https://media.example/req_0.mp4?signature=secret"
    api.get = lambda wire: told("req_0", "succeeded", output={"type": "video", "url": url})
    async with begin() as session:
        await session.run([A])
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "prompt a" in dump
    assert KEY not in dump
    assert "https://media.example/req_0.mp4" in dump, "where the video was, for people to read"
    assert "signature=secret" not in dump


@pytest.mark.parametrize("how", ["removed", "replaced"])
async def test_nothing_is_sent_once_the_journal_is_removed_or_replaced(begin, api, path, how):
    async def use():
        async with begin() as session:
            await session.submit(A)
            if how == "replaced":
                shutil.copy(path, path.with_suffix(".new")).replace(path)
            else:
                path.unlink()
            await session.submit(B)

    with pytest.raises(JournalError, match="removed or replaced while it was in use"):
        await use()
    assert api.count("create") == 1


async def test_a_token_with_the_key_of_another_uncertain_submit_is_refused(begin, api):
    """The id is known from the answer to the second one, which reports a charge."""
    charged = {"success": False, "requestId": "req_9", "creditsCharged": 40}
    api.script["create"] += [error_reply(503), reply(429, charged)]
    async with begin() as session:
        with pytest.raises(SubmitUncertainError) as first:
            await session.submit(A)
        with pytest.raises(SubmitUncertainError) as second:
            await session.submit(A)
        assert second.value.request_id == "req_9"
        token = json.dumps({"v": 1, "request_id": "req_9", "key": first.value.key})
        with pytest.raises(ValueError, match=f"has the key '{second.value.key}'"):
            await session.attach(token)
