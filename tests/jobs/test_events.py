"""What a session tells as it happens: all of it, in order, and money only once it is on disk."""

import asyncio
import json
import pickle
import random
import re
from collections import Counter, defaultdict

import attrs
import pytest

from seedance_async import (
    ConfigurationError,
    Event,
    GenerationRequest,
    InsufficientCreditsError,
    JobAbandoned,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRejected,
    JobResumed,
    JobStarted,
    JobState,
    JobSubmitted,
    JobSucceeded,
    JobWithdrawn,
    JournalError,
    PollFailed,
    RequestRetried,
    RequestThrottled,
    SeedanceError,
    SubmitBecameUncertain,
    SubmitUncertainError,
    VideoSaved,
    WebhookReceiver,
)
from seedance_async.jobs import events
from tests.conftest import KEY
from tests.session.test_cancellation import Cancelling
from tests.support.fakes import LOST, NOT_SENT, FakeAPI, accepted, error_reply, told
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time

REQUEST = GenerationRequest("a river nobody may read of", duration=5)

#: Of one job, as letters: what may be told, in which order, however the session went.
LETTERS = {
    JobSubmitted: "s", JobWithdrawn: "w", JobAccepted: "a", JobResumed: "r", JobStarted: "p",
    JobSucceeded: "S", JobFailed: "F", JobCancelled: "C", JobRejected: "X",
    SubmitBecameUncertain: "u", JobAbandoned: "A", PollFailed: "", VideoSaved: "",
}  # fmt: skip
WHOLE = re.compile(r"sw|s?X|(sa|r|s?ua)p?[SFCA]|s?u")


def kinds(heard):
    return [type(event) for event in heard]


def lives(heard):
    """What was told of each job, as letters."""
    told_of = defaultdict(str)
    for event in heard:
        if isinstance(event, JobEvent):
            told_of[event.key] += LETTERS[type(event)]
    return told_of


@pytest.fixture
def api():
    """Its jobs take long enough that a poll finds each in processing."""
    return FakeAPI(seconds=30.0)


@pytest.fixture
def heard():
    return []


@pytest.fixture
def listening(make_session, heard):
    """A session whose events are collected."""

    def make(**options):
        return make_session(on_event=heard.append, **options)

    return make


# --- what is told -------------------------------------------------------------------------------


async def test_a_job_is_reported_from_its_submit_to_its_end(listening, heard):
    async with listening() as session:
        began = asyncio.get_running_loop().time()
        job = await session.submit(REQUEST)
        await job
    assert kinds(heard) == [JobSubmitted, JobAccepted, JobStarted, JobSucceeded]
    submitted, taken, _, succeeded = heard
    assert {event.key for event in heard} == {job.key}
    assert (submitted.request_id, submitted.seconds, submitted.at) == (None, None, began)
    assert (taken.request_id, taken.credits_charged, taken.seconds) == ("req_0", 40, 0.0)
    assert (succeeded.request_id, succeeded.credits_charged) == ("req_0", 40)
    assert succeeded.seconds == succeeded.at - taken.at >= 30.0
    assert succeeded.request is REQUEST


async def test_a_job_that_is_processed_at_once_is_reported_to_have_started(listening, heard, api):
    api.script["create"].append(accepted("req_0", status="processing"))
    api.script["get"].append(told("req_0", "succeeded"))
    async with listening() as session:
        await session.generate(REQUEST)
    assert kinds(heard) == [JobSubmitted, JobAccepted, JobStarted, JobSucceeded]


async def test_a_failed_job_is_reported_with_the_servers_reason(listening, heard, api):
    api.script["get"].append(told("req_0", "failed", error={"code": "x", "message": "moderated"}))
    async with listening() as session:
        await session.run([REQUEST])
    assert kinds(heard)[-1] is JobFailed
    assert heard[-1].reason.message == "moderated"


async def test_a_cancelled_job_is_reported(listening, heard):
    async with listening() as session:
        job = await session.submit(REQUEST)
        await job.cancel()
    assert kinds(heard)[-1] is JobCancelled


async def test_a_refused_job_is_reported_with_the_error(listening, heard, api):
    api.script["create"].append(error_reply(402))
    async with listening(max_in_flight=1) as session:
        await session.run([REQUEST, REQUEST])
    assert kinds(heard) == [JobSubmitted, JobRejected, JobRejected], "the second was never sent"
    assert all(isinstance(event.error, InsufficientCreditsError) for event in heard[1:])


async def test_a_value_that_is_no_request_is_reported_as_rejected(listening, heard):
    async with listening() as session:
        await session.run(["not a request"])
    assert kinds(heard) == [JobRejected]
    assert heard[0].request is None


async def test_an_uncertain_submit_is_reported_and_its_acceptance_when_it_is_learned(
    listening, heard, api
):
    api.script["create"].append(LOST)
    api.jobs["req_lost"] = asyncio.get_running_loop().time()
    async with listening() as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(REQUEST, key="mine")
        assert kinds(heard) == [JobSubmitted, SubmitBecameUncertain]
        assert isinstance(heard[1].error, SubmitUncertainError)
        job = await session.attach('{"v": 1, "request_id": "req_lost", "key": "mine"}')
        await job
    assert kinds(heard)[2:] == [JobAccepted, JobStarted, JobSucceeded]
    assert heard[-1].seconds is None, "nobody saw when it was accepted"


async def test_a_job_past_its_deadline_is_reported_as_abandoned(listening, heard, api):
    api.queues = False
    api.seconds = 1000.0
    async with listening(job_timeout=50.0) as session:
        await session.run([REQUEST])
    assert kinds(heard)[-1] is JobAbandoned
    assert (heard[-1].error, heard[-1].seconds) == (None, 50.0)


async def test_a_poll_that_fails_after_the_end_is_not_reported(listening, heard, api):
    api.queues = False

    async def fail_late(request):
        await asyncio.sleep(200.0)
        return error_reply(500)

    api.script["get"] += [fail_late]
    async with listening(job_timeout=50.0) as session:
        await session.run([REQUEST])
        await asyncio.sleep(200.0)
    assert kinds(heard)[-1] is JobAbandoned
    assert PollFailed not in kinds(heard)


async def test_jobs_that_run_when_a_session_is_left_are_reported_as_abandoned(listening, heard):
    with pytest.raises(ZeroDivisionError):
        async with listening() as session:
            await session.submit(REQUEST)
            raise ZeroDivisionError
    assert kinds(heard) == [JobSubmitted, JobAccepted, JobAbandoned]
    assert "left" in str(heard[-1].error)


async def test_a_job_resumed_by_its_id_is_reported_as_resumed(listening, heard, api):
    api.jobs["req_old"] = asyncio.get_running_loop().time()
    async with listening() as session:
        await (await session.attach("req_old"))
    assert kinds(heard) == [JobResumed, JobStarted, JobSucceeded]
    assert {event.request_id for event in heard} == {"req_old"}
    assert {event.request for event in heard} == {None}


async def test_a_later_run_of_a_journal_reports_no_second_submit(make_session, heard, api):
    heard_before = []
    journal = KeptJournal()
    api.seconds = 1000.0
    with pytest.raises(ZeroDivisionError):
        async with make_session(journal=journal, on_event=heard_before.append) as session:
            await session.submit(REQUEST)
            api.script["create"].append(LOST)
            with pytest.raises(SubmitUncertainError):
                await session.submit(attrs.evolve(REQUEST, duration=6))
            raise ZeroDivisionError
    async with make_session(journal=journal, on_event=heard.append) as session:
        await session.run([REQUEST, attrs.evolve(REQUEST, duration=6)])
        assert session.stats().credits_charged == 0
    assert kinds(heard) == [JobResumed, SubmitBecameUncertain, JobStarted, JobSucceeded]
    assert heard[0].credits_charged == 40
    assert {event.key for event in heard} == {event.key for event in heard_before}


async def test_refusals_by_a_rate_limit_are_reported_with_the_wait_asked_for(listening, heard, api):
    api.script["create"] += [error_reply(429, retry_after="7"), error_reply(429)]
    api.script["get"].append(error_reply(429, retry_after="3"))
    async with listening() as session:
        await session.generate(REQUEST)
        assert session.stats().refusals == 2
        assert session.stats().query_refusals == 1
    throttled = [event for event in heard if type(event) is RequestThrottled]
    assert [(event.operation, event.retry_after) for event in throttled] == [
        ("submit", 7.0), ("submit", None), ("query", 3.0),
    ]  # fmt: skip


async def test_a_submit_that_did_not_get_through_is_reported_at_once(listening, heard, api):
    api.script["create"] += [NOT_SENT, NOT_SENT]
    async with listening() as session:
        began = asyncio.get_running_loop().time()
        await session.generate(REQUEST)
    retried = [event for event in heard if type(event) is RequestRetried]
    assert [(event.operation, str(event.error)) for event in retried] == [
        ("submit", str(NOT_SENT)),
        ("submit", str(NOT_SENT)),
    ]
    assert retried[0].at - began < 0.1
    assert retried[1].at - retried[0].at == pytest.approx(retried[0].delay, abs=1e-6)


async def test_a_failed_poll_is_reported_and_the_job_goes_on(listening, heard, api):
    api.script["get"] += [LOST, error_reply(500)]
    async with listening() as session:
        await session.generate(REQUEST)
    failed = [event for event in heard if type(event) is PollFailed]
    assert [type(event.error).__name__ for event in failed] == ["TransportError", "ServerError"]
    assert {event.request_id for event in failed} == {"req_0"}
    assert kinds(heard)[-1] is JobSucceeded


async def test_a_caller_that_is_cancelled_before_anything_is_sent_is_reported(
    listening, heard, api
):
    api.script["create"] += [NOT_SENT] * 100
    async with listening() as session:
        submitting = asyncio.ensure_future(session.submit(REQUEST))
        await asyncio.sleep(0.1)
        submitting.cancel()
        await asyncio.wait({submitting})
    of_job = [event for event in heard if isinstance(event, JobEvent)]
    assert kinds(of_job) == [JobSubmitted, JobWithdrawn]


async def test_a_caller_cancelled_before_its_slot_is_not_reported(listening, heard):
    async with listening(max_in_flight=1) as session:
        await session.submit(REQUEST)
        waiting = asyncio.ensure_future(session.submit(REQUEST))
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert len(lives(heard)) == 1


# --- money is told of once it is on disk --------------------------------------------------------


class KeptJournal(MemoryJournal):
    """A journal that a later session finds as the earlier one left it."""

    async def open(self):
        if self._lifecycle.state == "new":
            await super().open()

    async def aclose(self):
        pass


class SlowJournal(MemoryJournal):
    """Everything takes five seconds to be there; what is not waited for takes until then."""

    def __init__(self):
        super().__init__()
        self.soon = []

    async def record(self, attempt, **changes):
        await self.flush()
        await super().record(attempt, **changes)

    def record_soon(self, attempt, **changes):
        self.soon.append((attempt, changes))

    async def flush(self):
        await asyncio.sleep(5.0)
        self.write()

    def write(self):
        for each, changed in self.soon:
            super().record_soon(each, **changed)
        self.soon.clear()

    async def aclose(self):
        self.write()
        await super().aclose()


@pytest.fixture
def entries_when_told(make_session):
    """A session on a slow journal, and what that held when each event was told."""
    journal, told_with = SlowJournal(), []

    def listen(event):
        told_with.append((event, journal.recorded.get(event.key)))

    return make_session(journal=journal, on_event=listen), told_with


async def test_an_acceptance_is_on_disk_before_it_is_reported_and_what_follows_waits(
    entries_when_told, api
):
    session, told_with = entries_when_told
    api.script["get"].append(told("req_0", "processing"))
    async with session:
        await session.submit(REQUEST)
    submitted, taken, started, _ = told_with
    assert type(submitted[0]) is JobSubmitted
    assert type(taken[0]) is JobAccepted
    assert (taken[1].state, taken[1].request_id) == ("queued", "req_0")
    assert type(started[0]) is JobStarted
    assert taken[0].at <= started[0].at


async def test_an_acceptance_learned_after_a_cancellation_is_on_disk_before_it_is_reported(
    entries_when_told, api
):
    session, told_with = entries_when_told
    api.answer_after = 2.0
    async with session:
        submitting = asyncio.ensure_future(session.submit(REQUEST))
        await asyncio.sleep(1.0)
        submitting.cancel()
        await asyncio.wait({submitting})
        assert submitting.cancelled()
    assert [type(event) for event, _ in told_with][:2] == [JobSubmitted, JobAccepted]
    assert told_with[1][1].request_id == "req_0"


async def test_an_uncertain_submit_is_on_disk_before_it_is_reported(entries_when_told, api):
    session, told_with = entries_when_told
    api.script["create"].append(LOST)
    async with session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(REQUEST)
    event, entry = told_with[-1]
    assert (type(event), entry.state) == (SubmitBecameUncertain, "uncertain")


async def by_a_token(session, receiver, api):
    await session.attach('{"v": 1, "request_id": "req_lost", "key": "mine"}')


async def by_a_callback(session, receiver, api):
    sent = json.loads(api.sent[0].body)
    api.script["get"].append(told("req_lost", "queued", prompt=sent["prompt"]))
    assert receiver.receive(sent["webhookUrl"], b'{"requestId": "req_lost"}') == 200


@pytest.mark.parametrize("learnt", [by_a_token, by_a_callback])
async def test_an_id_that_is_learned_later_is_on_disk_before_it_is_reported(
    make_session, api, learnt
):
    journal, entries = SlowJournal(), []
    receiver = WebhookReceiver("https://app.example/hooks")
    api.script["create"].append(LOST)
    api.jobs["req_lost"] = asyncio.get_running_loop().time()

    def listen(event):
        if isinstance(event, JobAccepted):
            entries.append(journal.recorded[event.key])

    async with make_session(journal=journal, webhooks=receiver, on_event=listen) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(REQUEST, key="mine")
        await learnt(session, receiver, api)
    assert [(entry.state, entry.request_id) for entry in entries] == [("queued", "req_lost")]


async def test_an_acceptance_that_cannot_be_recorded_is_reported_nevertheless(make_session, heard):
    class FullJournal(MemoryJournal):
        async def record(self, attempt, **changes):
            raise JournalError("the disk is full")

    async with make_session(journal=FullJournal(), on_event=heard.append) as session:
        with pytest.raises(JournalError) as caught:
            await session.submit(REQUEST)
    assert caught.value.request_id == "req_0"
    assert kinds(heard) == [JobSubmitted, JobAccepted, JobStarted, JobSucceeded]


# --- nothing is left out, whatever happens ------------------------------------------------------


class CapriciousAPI(FakeAPI):
    """Refuses, loses, limits and fails at random."""

    def __init__(self, seed):
        super().__init__(seconds=30.0)
        self.random = random.Random(seed)

    async def send(self, request, *, on_sent=None):
        create = request.charges
        choice = self.random.random()
        if create and choice < 0.4:
            answer = self.random.choice([LOST, NOT_SENT, error_reply(429), error_reply(400)])
            self.script["create"].append(answer)
        elif not create and request.method == "GET" and choice < 0.3:
            request_id = request.path.rsplit("/", 1)[1]
            failed = told(request_id, "failed")
            self.script["get"].append(self.random.choice([LOST, error_reply(500), failed]))
        return await super().send(request, on_sent=on_sent)


@pytest.mark.parametrize("seed", range(3))
async def test_the_events_of_a_capricious_run_add_up_to_its_stats(make_session, heard, seed):
    api = CapriciousAPI(seed)
    options = {"max_in_flight": 20, "job_timeout": 100.0, "on_event": heard.append}
    async with make_session(transport=api, **options) as session:
        requests = [attrs.evolve(REQUEST, prompt=f"prompt {number}") for number in range(60)]
        await session.run(requests)
        stats = session.stats()
    told_of = lives(heard)
    assert [life for life in told_of.values() if not WHOLE.fullmatch(life)] == []
    ends = Counter(life[-1] for life in told_of.values())
    for letter, state in zip("SFCXuA", list(JobState)[4:], strict=True):
        assert ends[letter] == stats.counts[state]
    charged = [event.credits_charged for event in heard if type(event) is JobAccepted]
    assert sum(charged) == stats.credits_charged
    assert [event.at for event in heard] == sorted(event.at for event in heard)
    refused = [event for event in heard if type(event) is RequestThrottled]
    assert len(refused) == stats.refusals + stats.query_refusals > 0


async def test_wherever_a_run_is_cancelled_each_submit_reports_an_outcome(
    make_session,
):
    """The run is cancelled at its first suspension, then at its second, and so on to its last."""

    async def run(api, heard):
        api.script["create"].append(error_reply(429))
        session = make_session(
            transport=api, journal=MemoryJournal(), on_event=heard.append, max_in_flight=2
        )
        async with session:
            for number in range(3):
                await session.submit(attrs.evolve(REQUEST, prompt=f"prompt {number}"))

    for at in range(1, 500):
        api, heard = FakeAPI(seconds=3.0, answer_after=0.5), []
        done = await Cancelling(run(api, heard), at, "at once").run()
        told_of = lives(heard)
        assert [life for life in told_of.values() if not WHOLE.fullmatch(life)] == []
        assert kinds(heard).count(JobAccepted) == len(api.jobs)
        if done:
            break
    assert done
    assert at > 10


# --- the callable -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [ValueError("mine"), asyncio.CancelledError()])
async def test_what_the_callable_raises_is_logged_once_a_kind_and_breaks_no_job(
    make_session, caplog, fault
):
    def broken(event):
        raise fault

    async with make_session(on_event=broken) as session:
        batch = await session.run([REQUEST] * 3)
    assert batch.counts == {JobState.SUCCEEDED: 3}
    logged = [r.getMessage() for r in caplog.records if r.name == "seedance_async.jobs.events"]
    assert sorted(words.split()[4].rstrip(";") for words in logged) == [
        "JobAccepted", "JobStarted", "JobSubmitted", "JobSucceeded",
    ]  # fmt: skip
    assert all(r.exc_info[1] is fault for r in caplog.records if r.name.endswith(".events"))


@pytest.mark.parametrize("what", ["a coroutine function", "no function"])
async def test_a_callable_that_would_have_to_be_awaited_is_refused(make_session, what):
    async def on_event(event): ...

    with pytest.raises(ConfigurationError, match="on_event"):
        make_session(on_event=on_event if what == "a coroutine function" else 7)


async def test_the_session_can_be_asked_from_within_the_callable(make_session):
    seen = []

    def listen(event):
        if isinstance(event, JobSucceeded):
            seen.append((session.stats().in_flight, session.stats().counts[JobState.SUCCEEDED]))

    async with make_session(on_event=listen) as session:
        await session.generate(REQUEST)
    assert seen == [(0, 1)]


async def test_without_a_callable_nothing_is_made_or_kept(make_session, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(events.Event, "__init__", never)
    monkeypatch.setattr(events.JobEvent, "__init__", never)
    async with make_session() as session:
        batch = await session.run([REQUEST] * 3)
        assert session.registry.on_move is None
        assert session.client.on_throttled is None
        assert "seedance_async.jobs.events" not in repr(vars(session))
    assert batch.counts == {JobState.SUCCEEDED: 3}


# --- the events themselves ----------------------------------------------------------------------


async def test_no_event_shows_a_prompt_or_holds_the_key(listening, heard, api):
    words = {"code": "x", "message": f"not allowed: {REQUEST.prompt}"}
    api.script["create"] += [LOST, error_reply(400, message=REQUEST.prompt), error_reply(429)]
    api.script["get"] += [LOST, told("req_0", "failed", error=words)]
    async with listening(job_timeout=20.0) as session:
        await session.run([REQUEST] * 5)
    assert {JobRejected, SubmitBecameUncertain, PollFailed, JobFailed} <= set(kinds(heard))
    for event in heard:
        assert REQUEST.prompt not in repr(event)
        assert KEY not in repr(event)
        assert KEY.encode() not in pickle.dumps(event)


def test_events_are_frozen_values_named_in_the_past_tense():
    public = [kind for kind in vars(events).values() if isinstance(kind, type)]
    public = [kind for kind in public if issubclass(kind, Event)]
    assert len(public) == 20
    event = JobAccepted(at=1.0, key="mine", request_id="req_1", credits_charged=40)
    assert event == JobAccepted(at=1.0, key="mine", request_id="req_1", credits_charged=40)
    assert event != JobResumed(at=1.0, key="mine", request_id="req_1", credits_charged=40)
    assert pickle.loads(pickle.dumps(event)) == event
    assert not hasattr(event, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.at = 2.0


def test_an_error_in_an_event_shows_its_kind_alone():
    event = PollFailed(at=1.0, key="mine", error=SeedanceError("words of the server"))
    assert "error=SeedanceError" in repr(event)
    assert "words" not in repr(event)
