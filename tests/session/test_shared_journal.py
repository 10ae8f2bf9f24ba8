"""Several sessions on one journal: what one has bought, another follows and does not buy."""

import asyncio

import pytest

from seedance_async import (
    APIError,
    BudgetExceededError,
    GenerationRequest,
    JobState,
    JournalError,
    SubmitUncertainError,
)
from seedance_async.jobs.events import JobEvent
from seedance_async.jobs.job import JobToken
from tests.support.fakes import LOST, FakeAPI, accepted, error_reply
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time

RIVER, LAKE = GenerationRequest("A river", duration=5), GenerationRequest("A lake", duration=5)


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


def states_in(store):
    return [state for (state,) in store.execute("SELECT state FROM attempts")]


async def test_two_sessions_with_the_same_input_buy_each_job_once(begin, api):
    requests = [GenerationRequest(f"{number}", duration=5) for number in range(20)]
    async with begin(max_in_flight=5) as one, begin(max_in_flight=5) as other:
        batches = await asyncio.gather(one.run(requests), other.run(requests[::-1]))
    assert [batch.counts for batch in batches] == [{JobState.SUCCEEDED: 20}] * 2
    assert api.prompts == {f"{number}": 1 for number in range(20)}


async def test_a_session_waits_for_the_outcome_of_what_another_is_submitting(begin, api):
    api.answer_after = 10.0
    async with begin() as one, begin() as other:
        first = asyncio.create_task(one.submit(RIVER))
        await asyncio.sleep(1)
        second = await other.submit(RIVER)
        assert (await first).request_id == second.request_id
    assert api.count("create") == 1


async def test_what_the_other_session_was_refused_is_submitted(begin, api):
    api.script["create"].append(error_reply(422))
    api.answer_after = 10.0
    async with begin() as one, begin() as other:
        first = asyncio.create_task(one.run([RIVER]))
        await asyncio.sleep(1)
        second = await other.submit(RIVER)
        assert (await first).counts == {JobState.REJECTED: 1}
        assert (await second).status == "succeeded"


async def test_a_key_that_another_session_takes_at_the_gate_is_followed(begin, api):
    """Both have looked, and found the key free; then one is held up at its gate."""
    async with begin() as one, begin() as other:
        other.client.submit_gate.hold(5.0)
        late = asyncio.create_task(other.submit(RIVER))
        await asyncio.sleep(1)
        job = await one.submit(RIVER)
        assert (await late).request_id == job.request_id
        assert (await late).state == JobState.QUEUED
    assert api.count("create") == 1


async def test_a_doubt_that_another_session_settles_meanwhile_is_not_submitted_again(begin, api):
    api.script["create"].append(LOST)
    async with begin() as one, begin(resubmit_uncertain=True) as other:
        with pytest.raises(SubmitUncertainError) as caught:
            await one.submit(RIVER)
        api.jobs["req_lost"] = asyncio.get_running_loop().time()
        other.client.submit_gate.hold(5.0)
        late = asyncio.create_task(other.submit(RIVER))
        await asyncio.sleep(1)
        await one.attach(JobToken("req_lost", caught.value.key).dump())
        assert (await late).request_id == "req_lost"
    assert api.count("create") == 1


async def test_a_limit_holds_over_the_sessions_that_share_a_journal(begin, api):
    api.answer_after = 1.0
    requests = [GenerationRequest(f"{number}", duration=5) for number in range(10)]
    async with begin(max_credits=130) as one, begin(max_credits=130) as other:
        batches = await asyncio.gather(one.run(requests[:5]), other.run(requests[5:]))
    assert api.count("create") == 3  # 40 credits each
    errors = [job.error for batch in batches for job in batch.failures]
    assert {type(error) for error in errors} == {BudgetExceededError}
    assert {error.spent for error in errors} == {120}


async def test_sessions_send_at_the_same_time_once_a_price_is_known(begin, api):
    """And one after the other again when little is left."""
    async with begin() as session:
        await session.submit(GenerationRequest("first", duration=5))
    api.answer_after = 10.0
    requests = [GenerationRequest(f"{number}", duration=5) for number in range(4)]
    for limit, seconds in ((2000, 10), (300, 20)):
        async with begin(max_credits=limit) as one, begin(max_credits=limit) as other:
            begun = asyncio.get_running_loop().time()
            await asyncio.gather(*(each.submit(requests.pop()) for each in (one, other)))
            assert seconds <= asyncio.get_running_loop().time() - begun < seconds + 1


async def test_a_submit_goes_on_after_another_session_had_its_turn_and_was_refused(
    begin, api, monkeypatch
):
    """Refused for now, it waits; the other session claims the key meanwhile, to no avail."""
    api.script["create"] += [error_reply(503, retry_after="5"), error_reply(422)]
    looks, find = iter(range(50)), MemoryJournal.find

    async def find_seldom(journal, key):
        next(looks)  # rather than look for ever
        return await find(journal, key)

    monkeypatch.setattr(MemoryJournal, "find", find_seldom)
    async with begin() as one, begin() as other:
        late = asyncio.create_task(one.submit(RIVER))
        await asyncio.sleep(1)
        with pytest.raises(APIError, match="422"):
            await other.submit(RIVER)
        assert (await late).request_id is not None
    assert api.count("create") == 3


async def test_a_surprise_is_told_whoever_has_spent_the_rest(begin, api, caplog):
    async with begin(max_credits=150) as one, begin(max_credits=150) as other:
        await one.run([GenerationRequest(f"{number}", duration=5) for number in range(2)])
        api.script["create"].append(accepted("dear", credits_charged=90))
        api.jobs["dear"] = 0.0  # it has ended by now
        await other.submit(RIVER)
    assert "was charged 90 credits where 70 of 150 were left" in caplog.text


async def test_a_job_of_another_api_is_not_taken_for_this_ones(begin, make_session, api, store):
    async with begin() as session:
        await session.generate(RIVER)
    journal = MemoryJournal(store)
    elsewhere = make_session(transport=api, journal=journal, base_url="https://other.example")
    async with elsewhere as session:
        with pytest.raises(JournalError, match="belongs to a job at https://"):
            await session.submit(RIVER)
        await session.generate(LAKE)
    assert api.prompts == {"A river": 1, "A lake": 1}


async def test_what_another_session_is_submitting_is_not_taken_up(begin, api):
    """To this session it would be uncertain, and it would record it as such."""
    api.answer_after = 10.0
    async with begin() as one, begin() as other:
        first = asyncio.create_task(one.submit(RIVER))
        await asyncio.sleep(1)
        assert await other.resume() == []
        assert (await first).state == JobState.QUEUED
        (job,) = await other.resume()
        assert job.request_id == (await first).request_id


@pytest.fixture
def one_id_for_two(api):
    """The server gives two jobs, which are submitted at once, the same id."""

    async def answer(_):
        await asyncio.sleep(30)
        return accepted("req_1")

    api.script["create"] += [answer, answer]
    api.jobs["req_1"] = 0.0


@pytest.mark.usefixtures("one_id_for_two")
async def test_the_id_of_a_job_that_another_session_records_at_that_moment_is_in_doubt(
    begin, api, store, caplog
):
    events = []
    async with begin() as one, begin(on_event=events.append) as other:
        first = asyncio.create_task(one.submit(RIVER))
        await asyncio.sleep(1)
        with pytest.raises(SubmitUncertainError, match="'req_1' belongs to job") as caught:
            await other.submit(LAKE, key="lake")
        assert (caught.value.request, caught.value.key) == (LAKE, "lake")
        assert (await first).request_id == "req_1"
        assert other.stats().credits_charged == 40, "as the server has reported it"
        with pytest.raises(ValueError, match="has the key"):
            await other.attach(JobToken("req_1", key="lake").dump())
    assert states_in(store) == ["accepted", "uncertain"]
    assert [type(event).__name__ for event in events if isinstance(event, JobEvent)] == [
        "JobSubmitted",
        "JobAccepted",
        "SubmitBecameUncertain",
    ]
    assert "NOT on record" not in caplog.text
    async with begin() as later:
        with pytest.raises(SubmitUncertainError, match="'req_1' belongs to job"):
            await later.submit(LAKE, key="lake")
    assert api.count("create") == 2


@pytest.mark.usefixtures("one_id_for_two")
async def test_so_is_that_of_a_submit_whose_caller_has_gone(begin, api, store):
    """A retry of that caller waits until it is known."""
    async with begin() as one, begin() as other:
        first = asyncio.create_task(one.submit(RIVER))
        await asyncio.sleep(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await other.submit(LAKE)
        with pytest.raises(SubmitUncertainError, match="'req_1' belongs to job"):
            await other.submit(LAKE)
        assert (await first).request_id == "req_1"
    assert states_in(store) == ["accepted", "uncertain"]
    assert api.count("create") == 2


class Stopped(MemoryJournal):
    """That of a process which is stopped in its first claim until another session takes over."""

    stopped = False

    async def claim(self, intent, *, after=None):
        number = await super().claim(intent, after=after)
        if not self.stopped:
            self.stopped = True
            await asyncio.sleep(4000)
            other = await super().claim(intent, after=number)
            await self.record(other, state="queued", request_id="req_other", credits_charged=40)
        return number


async def test_a_process_that_was_stopped_in_a_claim_does_not_send_what_others_have(
    make_session, api, store
):
    api.jobs["req_other"] = 0.0
    async with make_session(transport=api, journal=Stopped(store, shared=True)) as session:
        job = await session.submit(RIVER)
        assert job.request_id == "req_other"
        states = states_in(store)
        assert states == ["refused", "accepted"], "else it would block others under a limit"
        await job
    assert api.count("create") == 0


# --- a session that was stopped between its claim and its POST ----------------------------------


class HeldUp(FakeAPI):
    """Its submits are held up before their first byte: the process is stopped just then."""

    def __init__(self, seconds):
        super().__init__()
        self.held_up = [seconds]

    async def send(self, request, *, on_sent=None):
        if request.charges and self.held_up:
            await asyncio.sleep(self.held_up.pop())
        return await super().send(request, on_sent=on_sent)


async def test_a_submit_that_was_held_up_is_claimed_again_before_it_is_sent(make_session, store):
    api, journal = HeldUp(200.0), MemoryJournal(store, shared=True)
    async with make_session(transport=api, journal=journal) as session:
        await session.submit(RIVER)
    assert states_in(store) == ["refused", "accepted"]
    assert api.count("create") == 1


async def test_a_submit_that_was_held_up_for_a_moment_is_sent(make_session, store):
    api, journal = HeldUp(100.0), MemoryJournal(store, shared=True)
    async with make_session(transport=api, journal=journal) as session:
        await session.submit(RIVER)
    assert states_in(store) == ["accepted"]


async def test_what_was_submitted_again_meanwhile_is_not_sent_when_a_stopped_session_wakes(
    make_session, store
):
    """The other session took it for dead, and its submit for uncertain."""
    now = [1_700_000_000.0]

    def clock():
        return now[0]

    stopped, api = HeldUp(400.0), FakeAPI()
    stopped.jobs = api.jobs
    async with make_session(
        transport=stopped, journal=MemoryJournal(store, shared=True, clock=clock)
    ) as session:
        late = asyncio.create_task(session.submit(RIVER, key="river"))
        await asyncio.sleep(1)
        now[0] += 350.0
        async with make_session(
            transport=api,
            journal=MemoryJournal(store, shared=True, clock=clock),
            resubmit_uncertain=True,
        ) as other:
            job = await other.submit(RIVER, key="river")
            assert (await late).request_id == job.request_id
    assert (stopped.count("create"), api.count("create")) == (0, 1)
