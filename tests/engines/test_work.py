"""`Work` on virtual time: one key, made once, whoever asks and whatever fails meanwhile."""

import asyncio
import itertools
import json
import logging

import pytest

from seedance_async import BudgetExceededError, GenerationRequest, JobState, WebhookReceiver
from seedance_async.engines import Outcome, Task, Work
from seedance_async.engines.submits import Submits
from seedance_async.engines.work import PATIENCE
from tests.support.fakes import LOST, NOT_SENT, error_reply, told
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time

RIVER = Task("river", GenerationRequest("A river", duration=5))
GLEN = Task("glen", GenerationRequest("A glen", duration=5))
LAKE = Task("lake", GenerationRequest("A lake", duration=5))

REFUSED = error_reply(401, "unauthorized", "bad key")
NO_CREDITS = error_reply(402, "insufficient_credits", "no credits")


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


def summary(outcome):
    return outcome.state, outcome.sent


async def test_a_task_is_made_once_however_often_it_is_asked_for(begin, api):
    async with begin() as session:
        work = Work(session)
        first, second = await asyncio.gather(work.make(RIVER), work.make(RIVER))
        third = await work.make(RIVER)
    async with begin() as session:
        fourth = await Work(session).make(RIVER)
    assert first == second == third == fourth
    assert first == Outcome("river", "succeeded", "req_0", 40, sent=True)
    assert api.prompts == {"A river": 1}


async def test_two_sessions_that_have_one_key_pay_for_it_once(begin, api):
    api.answer_after = 2.0
    async with begin() as one, begin() as other:
        first, second = await asyncio.gather(Work(one).make(RIVER), Work(other).make(RIVER))
    assert first == second
    assert api.prompts == {"A river": 1}


async def test_what_another_session_was_granted_while_this_one_was_refused_is_followed(
    begin, api, monkeypatch
):
    """A stopped worker wakes, and has its submit accepted, while another has its task."""
    async with begin() as one, begin() as other:

        async def refused(request, **options):
            monkeypatch.undo()
            await one.submit(request, key=options["key"])
            raise BudgetExceededError(max_credits=40, spent=40, needed=40, known=True)

        monkeypatch.setattr(other, "submit", refused)
        assert summary(await Work(other).make(RIVER)) == ("succeeded", True)
    assert api.prompts == {"A river": 1}


async def test_a_job_whose_id_the_journal_knows_as_another_ones_is_told_as_uncertain(
    begin, api, store, tmp_path
):
    """Its video is the other one's."""
    async with begin() as session:
        await Work(session).make(GLEN)
        making = asyncio.create_task(Work(session, tmp_path).make(LAKE))
        await asyncio.sleep(1)
        store.execute("UPDATE jobs SET state = 'uncertain' WHERE key = 'lake'")
        store.execute("UPDATE attempts SET state = 'uncertain', request_id = NULL WHERE number = 2")
        store.execute("UPDATE attempts SET request_id = 'req_1' WHERE number = 1")
        told = await making
    assert summary(told) == ("uncertain", True)
    assert told.file is None
    assert "req_1, is another job's" in told.error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("refusal", [REFUSED, NO_CREDITS], ids=["key", "credits"])
async def test_what_concerns_every_task_is_waited_for_and_told_once(begin, api, caplog, refusal):
    api.script["create"].extend([refusal] * 3)
    async with begin() as session:
        work = Work(session)
        making = [asyncio.create_task(work.make(task)) for task in (RIVER, LAKE)]
        await asyncio.sleep(60)
        assert work.held_by is not None
        assert not any(each.done() for each in making)
        outcomes = await asyncio.gather(*making)
        assert work.held_by is None
    assert [each.state for each in outcomes] == ["succeeded", "succeeded"]
    told = [record.message for record in caplog.records if "nothing can be" in record.message]
    assert len(told) == 1


async def test_a_key_that_is_refused_while_jobs_run_is_told_once(begin, api, caplog):
    api.seconds = 20.0
    async with begin() as session:
        making = [asyncio.create_task(Work(session).make(task)) for task in (RIVER, LAKE)]
        await asyncio.sleep(1)
        api.script["get"].extend([REFUSED] * 6)
        assert [each.state for each in await asyncio.gather(*making)] == ["succeeded"] * 2
    [told] = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert told.startswith("no job can be polled for now, and all are tried again: HTTP 401")


async def test_an_api_that_is_out_of_reach_is_waited_for(begin, api):
    api.script["create"].extend([NOT_SENT] * 100)
    async with begin() as session:
        assert summary(await Work(session).make(RIVER)) == ("succeeded", True)


async def test_a_refusal_of_one_task_is_its_outcome(begin, api):
    api.script["create"].append(error_reply(400, "bad", "not this prompt"))
    async with begin() as session:
        work = Work(session)
        told = await work.make(RIVER)
        assert summary(await work.make(LAKE)) == ("succeeded", True)
    assert summary(told) == ("rejected", False)
    assert "not this prompt" in told.error


async def test_what_is_uncertain_names_itself_and_is_never_sent_again(begin, api):
    api.script["create"].append(LOST)
    async with begin() as session:
        first = await Work(session).make(RIVER)
    async with begin() as session:
        again = await Work(session).make(RIVER)
    assert summary(first) == summary(again) == ("uncertain", True)
    assert first.error
    assert api.prompts == {"A river": 1}


async def test_what_this_session_left_uncertain_is_told_again_as_it_is(begin, api, caplog):
    api.script["create"].append(LOST)
    async with begin() as session:
        work = Work(session)
        assert await work.make(RIVER) == await work.make(RIVER)
    assert "could not be made" not in caplog.text
    assert api.prompts == {"A river": 1}


async def settle(store, found=None):
    """What a person does who has looked for an uncertain job at the server."""
    journal = MemoryJournal(store, shared=True)
    await journal.open()
    entry = await journal.find(RIVER.key)
    assert await journal.settle(RIVER.key, entry.attempt, found)
    await journal.aclose()


@pytest.mark.parametrize("receiver", [None, WebhookReceiver("https://app.example/hooks")])
async def test_what_was_found_at_the_server_goes_on_in_the_session_that_left_it(
    begin, api, store, receiver
):
    api.jobs["req_7"] = asyncio.get_running_loop().time()
    api.script["create"].append(LOST)
    async with begin(webhooks=receiver) as session:
        work = Work(session)
        assert summary(await work.make(RIVER)) == ("uncertain", True)
        await settle(store, {"state": "queued", "request_id": "req_7"})
        outcome = await work.make(RIVER)
        assert await work.make(RIVER) == outcome
    assert (summary(outcome), outcome.request_id) == (("succeeded", True), "req_7")
    assert api.prompts == {"A river": 1}


@pytest.mark.parametrize("receiver", [None, WebhookReceiver("https://app.example/hooks")])
async def test_what_is_not_at_the_server_is_submitted_again_once_it_is_freed(
    begin, api, store, receiver
):
    api.script["create"].extend([LOST, LOST])
    async with begin(webhooks=receiver) as session:
        work = Work(session)
        for _ in range(2):
            assert summary(await work.make(RIVER)) == ("uncertain", True)
            assert summary(await work.make(RIVER)) == ("uncertain", True)
            await settle(store)
        assert summary(await work.make(RIVER)) == ("succeeded", True)
        assert session.registry.counts[JobState.UNCERTAIN] == 0
    assert api.prompts == {"A river": 3}


async def test_what_was_found_at_the_server_is_cancelled_there(begin, api, store):
    api.seconds = 1000.0
    api.jobs["req_7"] = asyncio.get_running_loop().time()
    api.script["create"].append(LOST)
    async with begin() as session:
        work = Work(session)
        await work.make(RIVER)
        await settle(store, {"state": "queued", "request_id": "req_7"})
        assert summary(await work.cancel(RIVER)) == ("cancelled", True)
    assert api.cancelled == {"req_7"}


async def test_what_a_callback_has_settled_goes_on_where_it_is_asked_again(begin, api, caplog):
    api.jobs["req_7"] = asyncio.get_running_loop().time()
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "processing", prompt=RIVER.request.prompt))
    receiver = WebhookReceiver("https://app.example/hooks")
    async with begin(webhooks=receiver) as session:
        work = Work(session)
        assert summary(await work.make(RIVER)) == ("uncertain", True)
        url = json.loads(api.sent[0].body)["webhookUrl"]
        assert receiver.receive(url, b'{"requestId": "req_7"}') == 200
        await asyncio.sleep(1)
        outcome = await work.make(RIVER)
    assert (summary(outcome), outcome.request_id) == (("succeeded", True), "req_7")
    assert api.prompts == {"A river": 1}


async def test_after_some_uncertain_ones_in_a_row_one_is_sent_a_minute(begin, api):
    api.script["create"].extend([LOST] * 3)
    tasks = [Task(f"{number}", RIVER.request) for number in range(6)]
    async with begin() as session:
        work = Work(session, submits=Submits(at_once=1, patience=PATIENCE, max_uncertain=2))
        making = [asyncio.create_task(work.make(task)) for task in tasks]
        await asyncio.sleep(30)
        assert api.count("create") == 2
        assert "in a row" in work.held_by
        await asyncio.sleep(60)
        assert api.count("create") == 3
        states = [each.state for each in await asyncio.gather(*making)]
    assert states == ["uncertain"] * 3 + ["succeeded"] * 3


async def test_few_submits_are_on_their_way_at_once(begin, api):
    api.answer_after = 1.0
    on_their_way = []

    def sending(request):
        on_their_way.append(sum(job.state == "submitting" for job in session.registry))
        return original(request)

    original, api.create = api.create, sending
    async with begin(max_in_flight=100) as session:
        work = Work(session, submits=Submits(at_once=3, patience=PATIENCE, max_uncertain=9))
        tasks = [Task(f"{number}", RIVER.request) for number in range(12)]
        await asyncio.gather(*map(work.make, tasks))
    assert max(on_their_way) == 3


async def test_where_the_rate_is_known_all_sessions_send_in_turn(make_session, api, store):
    loop, sent_at = asyncio.get_running_loop(), []

    def noting(request):
        sent_at.append(loop.time())
        return create(request)

    create, api.create = api.create, noting
    journals = [MemoryJournal(store, shared=True, clock=loop.time) for _ in range(2)]

    async def make_all(session, journal, name):
        async def turn():
            await asyncio.sleep(await journal.turn(0.5))

        submits = Submits(at_once=3, patience=PATIENCE, max_uncertain=9, turn=turn)
        work = Work(session, submits=submits)
        tasks = [Task(f"{name}{number}", RIVER.request) for number in range(5)]
        await asyncio.gather(*map(work.make, tasks))

    one, other = (make_session(transport=api, journal=each) for each in journals)
    async with one, other:
        await asyncio.gather(make_all(one, journals[0], "a"), make_all(other, journals[1], "b"))
    gaps = [after - before for before, after in itertools.pairwise(sent_at)]
    assert gaps == pytest.approx([0.5] * 9)


@pytest.mark.parametrize("refusal", [REFUSED, NO_CREDITS], ids=["key", "credits"])
async def test_a_session_that_can_submit_nothing_leaves_the_turns_to_others(begin, api, refusal):
    api.script["create"].extend([refusal] * 1000)
    turns = []

    async def turn():
        turns.append(asyncio.get_running_loop().time())

    async with begin(max_in_flight=100) as session:
        submits = Submits(at_once=8, patience=PATIENCE, max_uncertain=9, turn=turn)
        work = Work(session, submits=submits)
        making = [work.make(Task(f"{number}", RIVER.request)) for number in range(100)]
        making = [asyncio.create_task(each) for each in making]
        await asyncio.sleep(3600)
        assert len(turns) < 8 + 3600 / 60 * 2
        api.script["create"].clear()
        began = asyncio.get_running_loop().time()
        assert {each.state for each in await asyncio.gather(*making)} == {"succeeded"}
        assert asyncio.get_running_loop().time() - began < 180


async def test_a_make_that_is_cancelled_in_the_middle_loses_nothing(begin, api):
    api.answer_after = 5.0
    async with begin() as session:
        work = Work(session)
        making = asyncio.create_task(work.make(RIVER))
        await asyncio.sleep(1)
        making.cancel()
        again = asyncio.create_task(work.make(RIVER))
        with pytest.raises(asyncio.CancelledError):
            await making
        assert summary(await again) == ("succeeded", True)
    assert api.prompts == {"A river": 1}


async def test_one_of_two_who_wait_may_go(begin, api):
    async with begin() as session:
        work = Work(session)
        one, other = (asyncio.create_task(work.make(RIVER)) for _ in range(2))
        await asyncio.sleep(1)
        one.cancel()
        assert summary(await other) == ("succeeded", True)
    assert api.prompts == {"A river": 1}


@pytest.mark.parametrize("does", [Work.make, Work.cancel])
async def test_a_key_of_another_api_is_told_as_it_is_on_record(begin, api, store, does):
    journal = MemoryJournal(store, shared=True)
    async with begin(base_url="https://other.example") as session:
        made = await Work(session).make(RIVER)
        running = await session.submit(LAKE.request, key="lake")
        await session.aclose(leave=True)
    await journal.open()
    await journal.record_file("river", path="s3://videos/river.mp4", size=5, sha256="5e")
    await journal.aclose()
    async with begin() as session:
        told, left = [await does(Work(session), task) for task in (RIVER, LAKE)]
    assert (*summary(told), told.request_id) == ("succeeded", True, made.request_id)
    assert (told.file, told.sha256) == ("s3://videos/river.mp4", "5e")
    assert (*summary(left), left.request_id) == ("abandoned", True, running.request_id)
    assert all("https://other.example" in each.error for each in (told, left))
    assert api.prompts == {"A river": 1, "A lake": 1}


async def test_what_another_api_refused_was_not_sent(begin, api):
    api.script["create"].append(error_reply(422, "invalid", "too long"))
    async with begin(base_url="https://other.example") as session:
        await Work(session).make(RIVER)
    async with begin() as session:
        told = await Work(session).make(RIVER)
    assert summary(told) == ("rejected", False)
    assert "https://other.example" in told.error


async def test_a_bug_is_logged_and_told_and_costs_nothing(begin, api, caplog):
    async with begin() as session:
        session.submit = None
        told = await Work(session).make(RIVER)
    assert summary(told) == ("rejected", False)
    assert "TypeError" in told.error
    assert any(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_video_that_cannot_be_saved_is_told_without_a_file_and_tried_again_later(
    begin, api, tmp_path
):
    async with begin() as session:
        work = Work(session, tmp_path)
        told = await work.make(RIVER)
        again = await work.make(RIVER)
    assert summary(told) == ("succeeded", True)
    assert (told.file, told.sha256) == (None, None)
    assert "could not be saved" in told.error
    assert again == told
    assert api.prompts == {"A river": 1}


# --- cancelling -----------------------------------------------------------------------------------


async def test_what_is_cancelled_before_it_is_sent_never_is(begin, api):
    async with begin() as session:
        assert summary(await Work(session).cancel(RIVER)) == ("cancelled", False)
    assert not api.sent


async def test_what_is_cancelled_in_one_run_is_made_for_another(begin, api):
    api.script["create"].extend([REFUSED] * 3)
    async with begin() as session:
        work = Work(session)
        one, other = [asyncio.create_task(work.make(RIVER, run)) for run in ("one", "other")]
        await asyncio.sleep(0.5)
        assert summary(await work.cancel(RIVER, "one")) == ("cancelled", False)
        assert summary(await one) == ("cancelled", False)
        assert summary(await other) == ("succeeded", True)
        api.script["create"].extend([REFUSED] * 3)
        one, other = [asyncio.create_task(work.make(LAKE, run)) for run in ("one", "other")]
        await asyncio.sleep(0.5)
        for run in ("one", "other"):
            assert summary(await work.cancel(LAKE, run)) == ("cancelled", False)
        assert [summary(await each) for each in (one, other)] == [("cancelled", False)] * 2
        one, other = [asyncio.create_task(work.make(GLEN, run)) for run in ("one", "other")]
        await asyncio.sleep(0.5)
        await work.cancel(GLEN, "one")
        assert await work.make(GLEN, "one") == await other, "it was handed out again"
    assert len(api.jobs) == 2, "the river, and the glen"


async def test_a_run_that_comes_while_another_is_cancelled_gets_its_job(begin, api):
    async with begin() as session:
        work = Work(session)
        cancelled, made = await asyncio.gather(work.cancel(RIVER, "one"), work.make(RIVER, "other"))
    assert (summary(cancelled), summary(made)) == (("cancelled", False), ("succeeded", True))
    assert api.prompts == {"A river": 1}


async def test_what_is_at_the_server_is_cancelled_for_all_runs(begin, api):
    api.seconds = 100.0
    async with begin() as session:
        work = Work(session)
        one, other = [asyncio.create_task(work.make(RIVER, run)) for run in ("one", "other")]
        await asyncio.sleep(1)
        first = await work.cancel(RIVER, "one")
        assert await one == await other == first
    assert summary(first) == ("cancelled", True)


async def test_what_waits_for_its_turn_is_cancelled_unsent(begin, api):
    api.script["create"].extend([REFUSED] * 9)
    async with begin() as session:
        work = Work(session)
        making = asyncio.create_task(work.make(RIVER))
        await asyncio.sleep(5)
        assert summary(await work.cancel(RIVER)) == ("cancelled", False)
        assert summary(await making) == ("cancelled", False)
    assert not api.jobs


async def test_what_is_on_its_way_is_cancelled_once_it_is_accepted(begin, api):
    api.answer_after = 5.0
    async with begin() as session:
        work = Work(session)
        making = asyncio.create_task(work.make(RIVER))
        await asyncio.sleep(1)
        told = await work.cancel(RIVER)
        assert await making == told
    assert (summary(told), told.request_id) == (("cancelled", True), "req_0")
    assert api.cancelled == {"req_0"}
    assert api.count("create") == 1


async def test_what_runs_is_cancelled_at_the_server_which_is_asked_again(begin, api):
    api.seconds = 100.0
    api.script["cancel"].append(error_reply(500, "oops", "not now"))
    async with begin() as session:
        work = Work(session)
        making = asyncio.create_task(work.make(RIVER))
        await asyncio.sleep(10)
        assert summary(await work.cancel(RIVER)) == ("cancelled", True)
        assert await making == await work.make(RIVER)
    assert api.cancelled == {"req_0"}


async def test_a_server_that_refuses_to_cancel_for_long_is_asked_until_it_does(begin, api):
    api.seconds = 3000.0
    api.script["cancel"].extend([REFUSED] * 12)
    async with begin() as session:
        work = Work(session)
        making = asyncio.create_task(work.make(RIVER))
        await asyncio.sleep(10)
        assert summary(await work.cancel(RIVER)) == ("cancelled", True)
        assert summary(await making) == ("cancelled", True)
    assert api.cancelled == {"req_0"}


async def test_a_job_that_cannot_be_cancelled_is_told_once_it_ends(begin, api):
    api.answer_after, api.seconds = 5.0, 70.0
    api.script["cancel"].extend([REFUSED] * 20)
    async with begin() as session:
        work, began = Work(session), asyncio.get_running_loop().time()
        making = asyncio.create_task(work.make(RIVER))
        await asyncio.sleep(1)
        assert summary(await work.cancel(RIVER)) == ("succeeded", True)
        assert summary(await making) == ("succeeded", True)
        assert asyncio.get_running_loop().time() - began < 85


async def test_what_another_process_has_sent_is_cancelled_at_the_server(begin, api):
    api.seconds = 1000.0
    async with begin() as one, begin() as other:
        making = asyncio.create_task(Work(one).make(RIVER))
        await asyncio.sleep(10)
        told = await Work(other).cancel(RIVER)
        assert await making == told
    assert summary(told) == ("cancelled", True)


async def test_what_has_ended_is_told_as_it_ended(begin, api):
    async with begin() as session:
        work = Work(session)
        made = await work.make(RIVER)
        assert await work.cancel(RIVER) == made


async def test_what_is_uncertain_stays_so_when_it_is_cancelled(begin, api):
    api.script["create"].append(LOST)
    async with begin() as session:
        work = Work(session)
        await work.make(RIVER)
        assert summary(await work.cancel(RIVER)) == ("uncertain", True)
    assert api.count("create") == 1
