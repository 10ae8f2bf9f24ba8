"""The session on virtual time, against a fake transport."""

import asyncio
import gc

import anyio
import pytest

from seedance_async import (
    AuthenticationError,
    Backoff,
    ConfigurationError,
    GenerationCancelledError,
    GenerationFailedError,
    GenerationRequest,
    InsufficientCreditsError,
    InvalidRequestError,
    JobState,
    JobTimeoutError,
    JournalError,
    RateLimitError,
    RetryPolicy,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
    Timeouts,
    TransportError,
    WebhookReceiver,
)
from seedance_async.session.shutdown import SessionShutdown
from seedance_async.session.webhook_callbacks import Callbacks
from tests.support.fakes import LOST, NOT_SENT, accepted, error_reply, reply, told
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time


def requests(count, **fields):
    return [GenerationRequest(f"prompt {number}", **fields) for number in range(count)]


def now():
    return asyncio.get_running_loop().time()


# --- one job ------------------------------------------------------------------------------------


async def test_generate_returns_the_finished_generation(make_session, api):
    async with make_session() as session:
        generation = await session.generate(GenerationRequest("a river"))
    assert generation.output_url == "https://media.example/req_0.mp4"
    assert api.prompts == {"a river": 1}
    assert api.closed


async def test_submit_returns_once_accepted_and_the_job_is_awaited_later(make_session):
    async with make_session() as session:
        began = now()
        job = await session.submit(GenerationRequest("a river"))
        assert now() == began
        assert (job.state, job.request_id, job.credits_charged) == ("queued", "req_0", 40)
        assert (await job).request_id == "req_0"
        assert job.state is JobState.SUCCEEDED
        assert job.error is None
        assert (await job) is job.result()


async def test_a_broken_rule_is_named_before_anything_is_sent(make_session, api):
    async with make_session() as session:
        with pytest.raises(InvalidRequestError, match="duration") as caught:
            await session.submit(GenerationRequest("a river", duration=-3))
        assert (caught.value.field, caught.value.value) == ("duration", -3)
        assert not len(session.registry)
    assert not api.sent


async def test_a_failed_generation_raises_with_the_servers_words_and_the_job(make_session, api):
    api.script["get"].append(told("req_0", "failed", error={"code": "x", "message": "moderated"}))
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a river"))
        with pytest.raises(GenerationFailedError, match=r"req_0.*moderated") as caught:
            await job
        assert caught.value.job is job
        assert caught.value.generation.error.code == "x"


async def test_a_failure_without_a_reason_says_so(make_session, api):
    api.script["get"].append(told("req_0", "failed"))
    async with make_session() as session:
        with pytest.raises(GenerationFailedError, match="gives no reason"):
            await session.generate(GenerationRequest("a river"))


async def test_cancel_asks_the_server_and_the_job_ends_as_cancelled(make_session, api):
    async with make_session(poll=Backoff(initial=5, maximum=5)) as session:
        job = await session.submit(GenerationRequest("a river"))
        began = now()
        await job.cancel()
        with pytest.raises(GenerationCancelledError):
            await job
        assert now() - began < 1, "the poll after a cancellation does not wait for its turn"
        await job.cancel()
    assert api.count("cancel") == 1


async def test_a_cancellation_while_a_poll_is_out_is_followed_by_another_one(make_session, api):
    async def answer_late(request):
        answer = api.get(request)
        await asyncio.sleep(3)
        return answer

    api.seconds = 1e6
    api.script["get"] += [answer_late] * 2
    async with make_session(poll=Backoff(initial=30, maximum=30, jitter=0)) as session:
        job = await session.submit(GenerationRequest("a river"))
        began = now()
        await asyncio.sleep(31)
        await job.cancel()
        with pytest.raises(GenerationCancelledError):
            await job
        assert now() - began == pytest.approx(30 + 3 + 3), "never two polls at once"
    assert api.count("get") == 2


async def test_a_cancellation_that_comes_too_late_does_not_hide_the_video(make_session, api):
    api.script["cancel"].append(error_reply(409))
    api.script["get"].append(told("req_0", "succeeded"))
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a river"))
        await job.cancel()
        assert (await job).output_url


async def test_cancelling_the_wait_leaves_the_job_running(make_session, api):
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a river"))
        waiting = asyncio.ensure_future(job.wait())
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await job).status == "succeeded"
    assert api.count("cancel") == 0


async def test_wait_with_a_timeout_raises_and_the_job_goes_on(make_session):
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a river"))
        with pytest.raises(JobTimeoutError, match="req_0") as caught:
            await job.wait(3)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.job is job
        assert (await job.wait(30)).status == "succeeded"


async def test_a_token_takes_the_job_up_in_another_session(make_session, api):
    async with make_session() as session:
        token = (await session.submit(GenerationRequest("a river"))).token
    async with make_session() as session:
        job = await session.attach(token)
        assert (await job).request_id == "req_0"
        assert job.request is None
    assert api.count("create") == 1


async def test_attaching_a_live_job_gives_the_same_job(make_session):
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a river"))
        again = await session.attach("req_0")
        assert again.key == job.key
        assert len(session.registry) == 1
        await again
        assert job.done


async def test_a_token_whose_key_is_another_jobs_is_refused(make_session):
    async with make_session() as session:
        await session.submit(GenerationRequest("a river"), key="mine")
        with pytest.raises(ValueError, match="another job"):
            await session.attach('{"v": 1, "request_id": "req_7", "key": "mine"}')


async def test_attach_refuses_what_cannot_be_an_id(make_session):
    async with make_session() as session:
        for reference in ("", " ", "{}", "a\x00b"):
            with pytest.raises(ValueError):  # noqa: PT011
                await session.attach(reference)


async def test_a_key_in_use_is_refused(make_session, api):
    async with make_session() as session:
        await session.submit(GenerationRequest("a"), key="mine")
        with pytest.raises(ValueError, match="mine"):
            await session.submit(GenerationRequest("b"), key="mine")
    assert api.count("create") == 1


# --- never pay twice ----------------------------------------------------------------------------


async def test_a_submit_that_did_not_arrive_is_sent_again(make_session, api):
    api.script["create"] += [NOT_SENT, NOT_SENT]
    async with make_session() as session:
        await session.generate(GenerationRequest("a river"))
    assert api.prompts == {"a river": 1}


async def test_a_submit_that_may_have_arrived_is_not_sent_again(make_session, api):
    api.script["create"].append(LOST)
    async with make_session() as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit(GenerationRequest("a river"), key="mine")
        assert caught.value.key == "mine"
        assert session.stats().counts[JobState.UNCERTAIN] == 1
        assert session.stats().in_flight == 0
    assert api.count("create") == 1


async def test_an_uncertain_submit_is_settled_by_the_id_learned_later(make_session, api):
    api.script["create"].append(LOST)
    async with make_session() as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(GenerationRequest("a river"), key="mine")
        api.jobs["req_7"] = now()
        job = await session.attach('{"v": 1, "request_id": "req_7", "key": "mine"}')
        assert job.request.prompt == "a river"
        assert (await job).request_id == "req_7"
        assert session.stats().counts[JobState.UNCERTAIN] == 0


async def test_a_request_id_of_another_job_makes_the_submit_uncertain(make_session, api):
    async with make_session() as session:
        first = await session.submit(GenerationRequest("a"))
        api.script["create"].append(accepted("req_0"))
        with pytest.raises(SubmitUncertainError, match="req_0") as caught:
            await session.submit(GenerationRequest("b"))
        assert caught.value.request_id == "req_0"
        assert (await first).request_id == "req_0"


async def test_an_accepted_job_without_a_usable_charge_is_accepted_and_reported(
    make_session, api, caplog
):
    api.script["create"].append(accepted("req_x", credits_charged=-5))
    api.script["get"].append(told("req_x", "succeeded"))
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a"))
        assert job.credits_charged is None
        await job
        assert session.stats().credits_unknown == 1
    assert "no usable charge" in caplog.text


async def test_a_caller_cancelled_after_sending_does_not_lose_the_paid_id(
    make_session, api, caplog
):
    api.answer_after = 3.0
    async with make_session() as session:
        submitting = asyncio.ensure_future(session.submit(GenerationRequest("a river")))
        await asyncio.sleep(1)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        assert session.registry.find(request_id="req_0").state is JobState.QUEUED
        assert "req_0 was accepted although its caller was cancelled" in caplog.text
    assert session.stats().counts[JobState.SUCCEEDED] == 1


async def test_an_impatient_caller_who_cancels_again_and_again_does_not_lose_it_either(
    make_session, api
):
    api.answer_after = 3.0
    async with make_session() as session:
        submitting = asyncio.ensure_future(session.submit(GenerationRequest("a river")))
        for _ in range(4):
            await asyncio.sleep(0.5)
            submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        assert session.registry.find(request_id="req_0")


async def test_a_cancel_scope_around_a_submit_does_not_lose_it_either(make_session, api):
    """A cancelled scope of anyio cancels at every await, not once."""
    api.answer_after = 3.0
    async with make_session() as session:
        with anyio.move_on_after(1) as scope:
            await session.submit(GenerationRequest("a river"))
        assert scope.cancelled_caught
        assert session.registry.find(request_id="req_0")


async def test_a_cancelled_submit_goes_on_in_the_background(make_session, api, caplog):
    api.answer_after = 60.0
    async with make_session(max_in_flight=1) as session:
        began = now()
        with anyio.move_on_after(1):
            await session.submit(GenerationRequest("a river"))
        assert now() - began == pytest.approx(1 + Timeouts().submit_grace, abs=0.2)
        assert session.stats().in_flight == session.stats().counts[JobState.SUBMITTING] == 1
        await asyncio.sleep(60)
        assert session.stats().counts[JobState.QUEUED] == 1
        assert "req_0 was accepted although its caller was cancelled" in caplog.text
    assert session.stats().counts[JobState.SUCCEEDED] == 1


async def test_a_cancelled_submit_without_an_answer_when_a_session_is_left_is_uncertain(
    make_session, api, caplog
):
    api.answer_after = 60.0
    with pytest.raises(LookupError):
        async with make_session() as session:
            with anyio.move_on_after(1):
                await session.submit(GenerationRequest("a river"))
            raise LookupError
    assert session.stats().counts[JobState.UNCERTAIN] == 1
    assert "0 in flight" in repr(session)
    assert "may have been accepted and charged" in caplog.text


@pytest.mark.parametrize(
    ("answer", "state"),
    [(error_reply(402), "rejected"), (error_reply(500), "uncertain"), (ValueError(), "uncertain")],
)
async def test_the_outcome_of_a_cancelled_submit_is_recorded(make_session, api, answer, state):
    async def slow(_):
        await asyncio.sleep(3)
        return answer

    api.script["create"].append(slow)
    async with make_session() as session:
        with anyio.move_on_after(1):
            await session.submit(GenerationRequest("a river"))
        assert session.stats().counts[JobState(state)] == 1


async def test_a_submit_cancelled_before_sending_leaves_no_trace(make_session, api):
    async def hang(_):
        raise AssertionError

    api.script["create"] += [NOT_SENT] * 3
    async with make_session() as session:
        with anyio.move_on_after(0.1):
            await session.submit(GenerationRequest("a river"))
        assert not len(session.registry)
        assert session.stats().in_flight == 0
        assert sum(session.stats().counts.values()) == 0
    assert not api.sent


async def test_a_submit_cancelled_while_it_waits_for_a_slot_leaves_no_trace(make_session, api):
    async with make_session(max_in_flight=1) as session:
        await session.submit(GenerationRequest("a"))
        with anyio.move_on_after(1):
            await session.submit(GenerationRequest("b"))
        assert len(session.registry) == 1
    assert api.prompts == {"a": 1}


# --- limits, gates, stops -----------------------------------------------------------------------


async def test_never_more_than_max_in_flight_run_at_once(make_session, api):
    async with make_session(max_in_flight=3) as session:
        await asyncio.gather(*(session.generate(request) for request in requests(20)))
        assert session.stats().in_flight == 0
    assert api.active_peak == 3
    assert set(api.prompts.values()) == {1}


async def test_a_429_holds_back_every_submit_and_loses_none(make_session, api):
    api.script["create"] += [error_reply(429, retry_after="30")]
    async with make_session() as session:
        began = now()
        batch = await session.run(requests(10))
        assert now() - began >= 30
        assert session.stats().refusals == 1
    assert batch.counts == {JobState.SUCCEEDED: 10}
    assert api.count("create") == 11
    assert max(api.prompts.values()) == 2


async def test_a_server_that_asks_for_too_long_a_wait_is_not_waited_for(make_session, api):
    api.script["create"] += [error_reply(429, retry_after="3600")]
    async with make_session() as session:
        began = now()
        with pytest.raises(RateLimitError) as caught:
            await session.submit(GenerationRequest("a"))
        assert caught.value.retry_after == 3600
        assert now() == began


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error_reply(401, "unauthorized"), AuthenticationError),
        (error_reply(403, "unauthorized"), AuthenticationError),
        (error_reply(402), InsufficientCreditsError),
    ],
)
async def test_a_bad_key_or_no_credits_stop_a_batch_at_once(make_session, api, answer, kind):
    async with make_session(max_in_flight=4) as session:
        api.script["create"] += [accepted("req_a"), answer]
        api.script["get"].append(told("req_a", "succeeded"))
        batch = await session.run(requests(50))
    assert set(batch.counts) == {JobState.SUCCEEDED, JobState.REJECTED}
    assert batch.counts[JobState.SUCCEEDED] <= 3, "those that were out at the same time"
    assert {type(job.error) for job in batch.failures} == {kind}
    assert api.count("create") <= 5
    assert [job.request.prompt for job in batch] == [r.prompt for r in requests(50)]
    assert batch.stopped_by is None


async def test_a_403_about_one_prompt_stops_nothing_else(make_session, api):
    api.script["create"] += [error_reply(403, "content_blocked")]
    async with make_session(max_in_flight=2) as session:
        batch = await session.run(requests(6))
    assert batch.counts == {JobState.SUCCEEDED: 5, JobState.REJECTED: 1}


async def test_submits_are_taken_again_some_time_after_credits_were_gone(make_session, api):
    api.script["create"] += [error_reply(402)]
    async with make_session() as session:
        with pytest.raises(InsufficientCreditsError):
            await session.submit(GenerationRequest("a"))
        with pytest.raises(InsufficientCreditsError):
            await session.submit(GenerationRequest("b"))
        assert api.count("create") == 1
        await asyncio.sleep(31)
        await session.generate(GenerationRequest("c"))
    assert api.prompts == {"a": 1, "c": 1}


async def test_as_completed_hands_on_what_was_accepted_before_it_raises(make_session, api):
    api.script["create"] += [accepted("req_a"), error_reply(402)]
    api.script["get"].append(told("req_a", "succeeded"))
    states = []
    async with make_session(max_in_flight=1) as session:
        with pytest.raises(InsufficientCreditsError):
            async for job in session.as_completed(requests(9)):
                states.append(job.state)
    assert states == ["succeeded", "rejected"]


# --- many jobs ----------------------------------------------------------------------------------


async def test_run_returns_every_outcome_in_the_order_of_the_input(make_session, api):
    api.script["create"] += [LOST, error_reply(400), accepted("req_f")]
    api.script["get"] += [told("req_f", "failed")]
    mixed = [*requests(5), GenerationRequest(" "), "no request"]
    async with make_session(max_in_flight=1) as session:
        batch = await session.run(mixed)
    assert [job.state for job in batch] == [
        "uncertain", "rejected", "failed", "succeeded", "succeeded", "rejected", "rejected",
    ]  # fmt: skip
    assert batch.credits_charged == 120
    assert (len(batch), len(batch.succeeded), len(batch.uncertain)) == (7, 2, 1)
    assert batch[0] is batch.uncertain[0]
    with pytest.raises(ExceptionGroup) as caught:
        batch.raise_for_failures()
    assert len(caught.value.exceptions) == 5
    assert len(batch.failures) == 5


async def test_a_batch_without_failures_raises_nothing(make_session):
    async with make_session() as session:
        (await session.run(requests(3))).raise_for_failures()


async def test_requests_are_pulled_only_as_slots_come_free(make_session):
    pulled = 0

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield GenerationRequest(f"prompt {pulled}")

    async with make_session(max_in_flight=4) as session:
        seen = 0
        async for _ in session.as_completed(endless()):
            seen += 1
            assert pulled <= seen + 4
            assert len(session.registry) <= 4
            if seen == 40:
                break
        await settle()
        assert pulled <= 44
    assert seen == 40


async def test_a_slow_consumer_holds_the_submits_back(make_session, api):
    async with make_session(max_in_flight=3) as session:
        async for _ in session.as_completed(requests(100)):
            await asyncio.sleep(1000)
            assert api.count("create") <= 4
            break


async def test_breaking_out_leaves_the_running_jobs_alone(make_session, api):
    async with make_session(max_in_flight=5) as session:
        async for _ in session.as_completed(requests(100)):
            break
        await settle()
        running = session.stats().in_flight
        assert running >= 4
        count = api.count("create")
    assert api.count("cancel") == 0
    assert api.count("create") == count
    assert session.stats().counts[JobState.SUCCEEDED] == count


async def test_an_async_iterable_feeds_a_batch(make_session):
    async def source():
        for request in requests(5):
            await asyncio.sleep(1)
            yield request

    async with make_session() as session:
        batch = await session.run(source())
    assert [job.request.prompt for job in batch] == [r.prompt for r in requests(5)]


async def test_one_stream_feeds_another_through_a_single_slot(make_session):
    """No slot is held while a source is waited for, so two stages cannot lock each other out."""

    async with make_session(max_in_flight=1) as session:

        async def second():
            async for job in session.as_completed(requests(3)):
                yield GenerationRequest(f"{job.request.prompt} again")

        done = [job.request.prompt async for job in session.as_completed(second())]
    assert done == [f"prompt {number} again" for number in range(3)]


async def test_an_input_that_breaks_loses_nothing_that_was_submitted(make_session):
    def source():
        yield from requests(3)
        raise LookupError("no more")

    async with make_session() as session:
        batch = await session.run(source())
        assert batch.counts == {JobState.SUCCEEDED: 3}
        assert isinstance(batch.stopped_by, LookupError)
        with pytest.raises(ExceptionGroup):
            batch.raise_for_failures()
        seen = []
        with pytest.raises(LookupError):
            async for job in session.as_completed(source()):
                seen.append(job.state)
        assert seen == ["succeeded"] * 3


@pytest.mark.parametrize("wrong", [None, 7, "a prompt", {"prompt": "x"}])
async def test_what_is_no_iterable_of_requests_is_refused(make_session, wrong):
    async with make_session() as session:
        with pytest.raises(TypeError, match="iterable of GenerationRequest"):
            await session.run(wrong)


async def test_finished_jobs_do_not_pile_up(make_session):
    async with make_session() as session:
        for _ in range(5):
            await session.run(requests(40))
            gc.collect()
            assert len(session.registry) == 0
        assert session.stats().counts[JobState.SUCCEEDED] == 200


async def test_the_number_of_tasks_does_not_grow_with_the_jobs(make_session):
    async with make_session(max_in_flight=1000, max_connections=8) as session:
        running = asyncio.ensure_future(session.run(requests(1000)))
        most = 0
        while not running.done():
            most = max(most, len(asyncio.all_tasks()))
            await asyncio.sleep(0.5)
        assert len(await running) == 1000
    assert most <= 2 + 8 + 8 + 8 + 2, "the test's, the workers, the feeders, their POSTs"


# --- deadlines and failing polls ----------------------------------------------------------------


async def test_a_job_that_never_ends_is_abandoned_at_its_deadline_not_failed(
    make_session, api, caplog
):
    api.queues = False
    api.seconds = 1e9
    async with make_session(job_timeout=120) as session:
        began = now()
        job = await session.submit(GenerationRequest("a river"))
        with pytest.raises(JobTimeoutError, match="may still come") as caught:
            await job
        assert now() - began == pytest.approx(120)
        assert caught.value.request_id == "req_0"
        assert job.state is JobState.ABANDONED
    assert "req_0" in caplog.text
    assert api.count("create") == 1
    assert api.count("cancel") == 0


async def test_an_abandoned_job_can_be_resumed_again(make_session, api):
    api.queues = False
    api.seconds = 200
    async with make_session(job_timeout=120) as session:
        with pytest.raises(JobTimeoutError) as caught:
            await session.generate(GenerationRequest("a river"))
        job = await session.attach(caught.value.job.token)
        assert (await job).status == "succeeded"


async def test_a_job_that_ends_between_its_last_poll_and_its_deadline_is_noticed(make_session, api):
    api.queues = False
    api.seconds = 90.0
    async with make_session(job_timeout=100, poll=Backoff(initial=80, maximum=80)) as session:
        began = now()
        assert (await session.generate(GenerationRequest("a"))).status == "succeeded"
        assert now() - began == pytest.approx(100)


async def test_jobs_that_ended_while_the_loop_stood_still_are_noticed(make_session, api):
    api.queues = False
    api.seconds = 60.0
    async with make_session(max_in_flight=300, job_timeout=100) as session:
        jobs = [await session.submit(request) for request in requests(300)]
        asyncio.get_running_loop().block(4000)
        assert {(await job).status for job in jobs} == {"succeeded"}
        assert api.count("get") == 300


@pytest.mark.parametrize(("ends_at", "polls"), [(104.0, 1), (112.0, 2)])
async def test_a_poll_that_is_out_at_the_deadline_is_heard_and_no_other_is_sent_beside_it(
    make_session, api, ends_at, polls
):
    api.queues = False
    api.seconds, api.answer_after = ends_at, 8.0
    poll = Backoff(initial=97, maximum=97, jitter=0)
    async with make_session(job_timeout=100, poll=poll) as session:
        job = await session.submit(GenerationRequest("a"))
        begun = now()
        assert (await job).status == "succeeded"
        assert now() - begun == pytest.approx(97 + 8 * polls)
        assert api.count("get") == polls


async def test_a_last_look_that_fails_is_tried_again(make_session, api):
    api.queues = False
    api.seconds = 95.0
    api.script["get"] += [None, None, None, LOST]
    poll = Backoff(initial=30, maximum=30, jitter=0)
    async with make_session(job_timeout=100, poll=poll) as session:
        began = now()
        assert (await session.generate(GenerationRequest("a"))).status == "succeeded"
        assert now() - began == pytest.approx(130)


async def test_a_last_look_is_heard_though_the_loop_stood_still_meanwhile(make_session, api):
    api.queues = False
    api.seconds, api.answer_after = 95.0, 8.0
    poll = Backoff(initial=100, maximum=100, jitter=0)
    async with make_session(job_timeout=100, poll=poll) as session:
        job = await session.submit(GenerationRequest("a"))
        await asyncio.sleep(103)
        asyncio.get_running_loop().block(70)
        assert (await job).status == "succeeded"
        assert api.count("get") == 1


@pytest.mark.parametrize("answer", [LOST, error_reply(429, retry_after="500")])
async def test_a_job_is_kept_for_a_minute_beyond_its_deadline_at_most(make_session, api, answer):
    api.queues = False
    api.script["get"] += [answer] * 1000
    async with make_session(job_timeout=100, poll_patience=1e6) as session:
        began = now()
        with pytest.raises(JobTimeoutError):
            await session.generate(GenerationRequest("a"))
        assert now() - began == pytest.approx(160)


async def test_jobs_given_up_because_polls_are_too_rare_are_warned_of_once(
    make_session, api, caplog
):
    api.queues = False
    api.seconds = 95.0
    async with make_session(job_timeout=100, poll_rate=0.1, max_in_flight=30) as session:
        batch = await session.run(requests(30))
    assert 0 < batch.counts[JobState.ABANDONED] < 30
    assert caplog.text.count("without an answer to their final poll") == 1
    assert "poll rate of 0.1" in caplog.text


async def test_failed_polls_are_outlived(make_session, api):
    api.script["get"] += [LOST, error_reply(500), reply(502, b"<html>"), LOST, NOT_SENT]
    async with make_session() as session:
        assert (await session.generate(GenerationRequest("a"))).status == "succeeded"


async def test_nothing_but_failed_polls_ends_as_state_unknown(make_session, api):
    api.script["get"] += [error_reply(500)] * 10_000
    async with make_session(poll_patience=300) as session:
        job = await session.submit(GenerationRequest("a"))
        with pytest.raises(JobTimeoutError, match="HTTP 500"):
            await job
        assert job.state is JobState.ABANDONED


async def test_a_job_not_yet_known_to_the_server_is_polled_again(make_session, api):
    api.script["get"] += [error_reply(404)] * 4
    async with make_session() as session:
        assert (await session.generate(GenerationRequest("a"))).status == "succeeded"


async def test_a_job_that_stays_unknown_is_given_up_sooner(make_session, api):
    api.script["get"] += [error_reply(404)] * 10_000
    async with make_session() as session:
        began = now()
        with pytest.raises(JobTimeoutError, match="404"):
            await session.generate(GenerationRequest("a"))
        assert 60 <= now() - began < 150


async def test_an_attached_id_that_the_server_never_knew_is_said_to_be_unknown_soon(
    make_session, api
):
    api.script["get"] += [error_reply(404)] * 10_000
    async with make_session() as session:
        began = now()
        job = await session.attach("req_nope")
        with pytest.raises(JobTimeoutError, match="does not know this id") as caught:
            await job
        assert 5 <= now() - began < 15
        assert "HTTP 404" in str(caught.value)
        assert "attach it again" in str(caught.value)
        assert "may still come" not in str(caught.value)


async def test_an_attached_job_that_is_unknown_at_first_is_polled_again(make_session, api):
    api.script["get"] += [error_reply(404)] * 2
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a"))
        request_id = job.request_id
        await job
    api.script["get"] += [error_reply(404)] * 2
    async with make_session() as session:
        assert (await (await session.attach(request_id))).status == "succeeded"


async def test_what_failed_before_does_not_count_against_a_job_that_is_unknown_for_once(
    make_session, api
):
    api.seconds = 300.0
    api.script["get"] += [error_reply(502)] * 8 + [error_reply(404)]
    api.script["get"] += [error_reply(404), error_reply(429), error_reply(404)] * 2
    async with make_session(poll=Backoff(initial=20, maximum=20)) as session:
        assert (await session.generate(GenerationRequest("a"))).status == "succeeded"


async def test_a_refused_key_pauses_the_polls_and_fails_no_job(make_session, api):
    api.script["get"] += [error_reply(401, "unauthorized")] * 30
    async with make_session(max_in_flight=3, poll_patience=60) as session:
        began = now()
        batch = await session.run(requests(3))
        assert now() - began >= 30
    assert batch.counts == {JobState.SUCCEEDED: 3}


async def test_a_429_on_polls_slows_the_polls_and_fails_no_job(make_session, api):
    api.script["get"] += [error_reply(429, retry_after="20")] * 2
    async with make_session() as session:
        began = now()
        batch = await session.run(requests(5))
        assert now() - began >= 40
    assert batch.counts == {JobState.SUCCEEDED: 5}


async def test_an_unknown_status_is_warned_about_once_and_polled_on(make_session, api, caplog):
    api.script["get"] += [told("req_0", "rendering"), told("req_0", "rendering")]
    async with make_session() as session:
        assert (await session.generate(GenerationRequest("a"))).status == "succeeded"
    assert caplog.text.count("rendering") == 1


async def test_a_status_never_goes_back(make_session, api):
    api.script["get"] += [told("req_0", "processing"), told("req_0", "queued")]
    async with make_session(poll=Backoff(initial=1, maximum=1)) as session:
        job = await session.submit(GenerationRequest("a"))
        await asyncio.sleep(2.5)
        assert job.state is JobState.PROCESSING


# --- entering and leaving -----------------------------------------------------------------------


async def test_leaving_normally_waits_for_the_jobs(make_session, api):
    async with make_session() as session:
        jobs = [await session.submit(request) for request in requests(5)]
    assert {job.state for job in jobs} == {JobState.SUCCEEDED}


async def test_leaving_by_an_exception_leaves_the_jobs_and_logs_their_ids(
    make_session, api, caplog
):
    with pytest.raises(LookupError):
        async with make_session() as session:
            job = await session.submit(GenerationRequest("a"))
            waiting = asyncio.ensure_future(job.wait())
            await asyncio.sleep(0)
            raise LookupError
    assert "1 job running" in caplog.text
    assert "req_0" in caplog.text
    assert api.count("cancel") == 0
    with pytest.raises(JobTimeoutError, match="session was left"):
        await waiting
    assert api.closed


async def test_cancel_on_error_cancels_the_remote_jobs(make_session, api):
    api.script["cancel"] += [error_reply(400)]
    with pytest.raises(LookupError):
        async with make_session(cancel_on_error=True) as session:
            jobs = [await session.submit(request) for request in requests(3)]
            raise LookupError
    assert api.count("cancel") == 3
    assert sorted(job.state for job in jobs) == ["abandoned", "cancelled", "cancelled"]


async def test_cancelling_very_many_remote_jobs_takes_few_tasks(make_session, api):
    seen = []

    async def count_tasks(_):
        await asyncio.sleep(0.01)
        seen.append(len(asyncio.all_tasks()))

    api.seconds = 1e6
    api.script["cancel"] += [count_tasks] * 100
    options = {"cancel_on_error": True, "max_in_flight": 100, "max_connections": 5}
    with pytest.raises(LookupError):
        async with make_session(**options) as session:
            jobs = [await session.submit(request) for request in requests(100)]
            raise LookupError
    assert {job.state for job in jobs} == {JobState.CANCELLED}
    assert max(seen) <= 2 + 5 + 5, "the test's, the one that closes, these, the workers"


async def test_cancelling_remote_jobs_takes_ten_seconds_at_most(make_session, api):
    async def hang(_):
        await asyncio.sleep(1e6)

    api.script["cancel"] += [hang]
    began = now()
    with pytest.raises(LookupError):
        async with make_session(cancel_on_error=True) as session:
            await session.submit(GenerationRequest("a"))
            raise LookupError
    assert now() - began == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("kind", [RuntimeError, asyncio.CancelledError])
async def test_a_transport_that_breaks_on_a_cancellation_keeps_nobody_waiting(
    make_session, api, caplog, kind
):
    api.script["cancel"] += [kind("a bug of a transport")]
    with pytest.raises(LookupError):
        async with make_session(cancel_on_error=True, max_connections=1) as session:
            jobs = [await session.submit(request) for request in requests(3)]
            waiting = [asyncio.ensure_future(job.wait()) for job in jobs]
            await asyncio.sleep(0)
            raise LookupError
    await asyncio.wait(waiting)
    told = sorted(type(task.exception()).__name__ for task in waiting)
    assert told == ["GenerationCancelledError", "GenerationCancelledError", "JobTimeoutError"]
    assert "a bug of a transport" in caplog.text


@pytest.mark.parametrize(("kind", "breaks"), [(Callbacks, "aclose"), (SessionShutdown, "_until")])
async def test_whatever_breaks_while_leaving_every_wait_ends(
    make_session, monkeypatch, kind, breaks
):
    async def broken(*_):
        raise RuntimeError("a bug")

    session = make_session(webhooks=WebhookReceiver("https://app.example/hooks"))
    monkeypatch.setattr(kind, breaks, broken)
    with pytest.raises(RuntimeError, match="a bug"):
        async with session:
            waiting = asyncio.ensure_future(session.generate(GenerationRequest("a")))
            await asyncio.sleep(1)
            raise LookupError
    with pytest.raises(JobTimeoutError, match="session was left"):
        await waiting


@pytest.mark.parametrize(
    ("closing", "outcome", "reason"),
    [(5.0, JobTimeoutError, "session was left"), (0.5, JournalError, "it is closed")],
)
async def test_a_job_that_is_attached_while_the_session_is_left_keeps_nobody_waiting(
    make_session, api, closing, outcome, reason
):
    class SlowJournal(MemoryJournal):
        async def find(self, key):
            await asyncio.sleep(0.7)
            return await super().find(key)

    async def close_slowly():
        await asyncio.sleep(closing)

    async def attach_and_wait():
        await (await session.attach('{"v": 1, "request_id": "req_old", "key": "mine"}'))

    api.aclose = close_slowly
    with pytest.raises(LookupError):
        async with make_session(journal=SlowJournal()) as session:
            waiting = asyncio.ensure_future(attach_and_wait())
            await asyncio.sleep(0.5)
            raise LookupError
    with pytest.raises(outcome, match=reason):
        await asyncio.wait_for(waiting, 60)
    assert session.registry.live == 0, "whoever else waits for it is told, too"


async def test_leaving_cuts_nothing_that_is_being_submitted(make_session, api):
    api.answer_after = 2.0
    with pytest.raises(LookupError):
        async with make_session() as session:
            submitting = asyncio.ensure_future(session.submit(GenerationRequest("a")))
            await asyncio.sleep(0.5)
            raise LookupError
    job = await submitting
    assert job.request_id == "req_0"
    assert job.state is JobState.ABANDONED


async def test_leaving_ends_every_wait_for_a_slot(make_session, api):
    with pytest.raises(LookupError):
        async with make_session(max_in_flight=1) as session:
            await session.submit(GenerationRequest("a"))
            waiting = [asyncio.ensure_future(session.submit(request)) for request in requests(5)]
            await asyncio.sleep(0.5)
            raise LookupError
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, RuntimeError)
    assert api.count("create") == 1


async def test_leaving_ends_every_wait_behind_a_rate_limit(make_session, api):
    api.script["create"] += [error_reply(429, retry_after="500")] * 5
    with pytest.raises(LookupError):
        async with make_session() as session:
            waiting = [asyncio.ensure_future(session.submit(request)) for request in requests(5)]
            await asyncio.sleep(0.5)
            raise LookupError
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(result, SeedanceError)


async def test_submitting_can_be_stopped_while_accepted_jobs_go_on(make_session, api):
    api.script["create"] += [accepted("req_a"), error_reply(429, retry_after="500")]
    api.script["get"].append(told("req_a", "succeeded"))
    async with make_session() as session:
        first = await session.submit(GenerationRequest("a"))
        waiting = asyncio.ensure_future(session.submit(GenerationRequest("b")))
        await asyncio.sleep(1)
        session.stop_submitting(SeedanceError("enough"))
        for submit in (waiting, session.submit(GenerationRequest("c"))):
            with pytest.raises(SeedanceError, match="enough"):
                await submit
        assert (await first).status == "succeeded"
    assert api.count("create") == 2


async def test_being_cancelled_while_leaving_leaves_at_once_and_logs(make_session, api, caplog):
    api.seconds = 1e5

    async def main():
        async with make_session(job_timeout=1e6) as session:
            await session.submit(GenerationRequest("a"))

    task = asyncio.ensure_future(main())
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "req_0" in caplog.text


async def test_leaving_is_not_cut_short_by_a_second_cancellation(make_session, api, caplog):
    """What is being submitted is waited for, all is closed, and the cancellation goes on."""
    api.answer_after = 3.0
    submitted = []

    async def main():
        async with make_session() as session:
            submitted.append(asyncio.ensure_future(session.submit(GenerationRequest("a"))))
            await asyncio.sleep(1000)

    task = asyncio.ensure_future(main())
    await asyncio.sleep(1)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await submitted[0]).request_id == "req_0"
    assert "req_0" in caplog.text
    assert api.closed


async def test_a_session_is_used_inside_its_block_only(make_session):
    session = make_session()
    with pytest.raises(RuntimeError, match="async with"):
        await session.submit(GenerationRequest("a"))
    async with session:
        pass
    for call in (session.submit(GenerationRequest("a")), session.attach("req_1")):
        with pytest.raises(RuntimeError):
            await call
    with pytest.raises(RuntimeError, match="once"):
        await session.__aenter__()


async def test_a_session_refuses_another_event_loop(make_session):
    async with make_session() as session:

        def elsewhere():
            return asyncio.run(session.submit(GenerationRequest("a")))

        with pytest.raises(RuntimeError, match="event loop"):
            await asyncio.get_running_loop().run_in_executor(None, elsewhere)


async def test_submits_that_never_arrive_fail_as_undelivered(make_session, api):
    api.script["create"] += [NOT_SENT] * 100
    async with make_session(retry=RetryPolicy(timeout=60)) as session:
        with pytest.raises(TransportError) as caught:
            await session.submit(GenerationRequest("a"))
        assert caught.value.delivered == "no"
        assert session.stats().counts[JobState.REJECTED] == 1
        assert session.stats().in_flight == 0


def test_options_out_of_bounds_are_named(api):
    for name, value in [("max_in_flight", 0), ("poll_rate", -1), ("job_timeout", float("nan"))]:
        with pytest.raises(ConfigurationError, match=name):
            SeedanceSession(api_key="k", transport=api, **{name: value})


def test_a_session_shows_no_secret(make_session):
    session = make_session()
    assert "sd2_live" not in repr(session)
    assert "api.example" in repr(session)


async def settle():
    """Let what is scheduled happen, but no time pass."""
    gc.collect()
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_printed_batch_says_why_jobs_did_not_succeed_and_equal_reasons_once(
    make_session, api
):
    api.script["create"] += [error_reply(400, "bad_prompt")] * 4
    async with make_session(max_in_flight=1) as session:
        batch = await session.run(requests(6))
    assert repr(batch) == "<BatchResult 6 jobs: 4 rejected, 2 succeeded>"
    first, *reasons = str(batch).splitlines()
    assert first == "6 jobs: 4 rejected, 2 succeeded"
    assert len(reasons) == 1
    assert reasons[0].startswith("  [0, 1, 2 … 3] rejected: HTTP 400 bad_prompt")


async def test_a_good_run_is_told_in_the_log(make_session, api, caplog, tmp_path):
    caplog.set_level("INFO", "seedance_async")
    async with make_session() as session:
        job = await session.submit(GenerationRequest("a"))
        await job
    told = [record.getMessage() for record in caplog.records]
    assert any(text.startswith(f"job {job.request_id} is accepted") for text in told)
    assert any(text.startswith(f"job {job.request_id} succeeded after ") for text in told)
