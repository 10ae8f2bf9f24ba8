"""Each wait of more than ten seconds is reported once: in the log, an event, the statistics."""

import asyncio

import pytest

from seedance_async import (
    Backoff,
    GenerationRequest,
    JobState,
    JobTimeoutError,
    RetryPolicy,
    TransportError,
    UnreachableError,
    WaitBecameLong,
)
from tests.support.fakes import NOT_SENT, FakeAPI, error_reply
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time

REQUEST = GenerationRequest("a river")


def now():
    return asyncio.get_running_loop().time()


@pytest.fixture
def heard():
    return []


@pytest.fixture
def begin(make_session, heard, caplog):
    caplog.set_level("INFO")

    def note(event):
        if isinstance(event, WaitBecameLong):
            heard.append((event.awaited, event.waited))

    return lambda **options: make_session(on_event=note, **options)


def lines(caplog):
    return [line for line in caplog.messages if line.startswith("still waiting")]


async def test_an_outage_is_told_once_however_many_wait_for_its_end(begin, api, heard, caplog):
    async with begin() as session:
        await session.client.models()  # the host is there
        api.script["create"] += [NOT_SENT] * 30
        running = asyncio.create_task(session.run([REQUEST] * 20))
        await asyncio.sleep(15)
        assert {**session.stats().waiting} == {"network": 15, "gate": pytest.approx(14, abs=1)}
        assert (await running).counts == {JobState.SUCCEEDED: 20}
        assert session.stats().waiting == {}
    assert sorted(awaited for awaited, _ in heard) == ["gate", "network"]
    assert all(10 <= seconds < 30 for _, seconds in heard)
    network, gate = sorted(lines(caplog), key=lambda line: "gate" in line)
    assert "the network: https://api.example cannot be reached, or does not answer" in network
    assert "the gate" in gate


async def test_a_submit_without_an_answer_is_told(begin, api, heard):
    async with begin() as session:
        api.answer_after = 25.0
        submitting = asyncio.create_task(session.submit(REQUEST))
        await asyncio.sleep(11)
        assert session.stats().waiting == {"network": 11}
        await submitting
        assert session.stats().waiting == {}
    assert heard == [("network", 10)]


async def test_a_rate_limit_that_holds_submits_is_told(begin, api, heard, caplog):
    api.script["create"] += [error_reply(429, retry_after="30")]
    async with begin() as session:
        await session.submit(REQUEST)
    assert heard == [("gate", 10)]
    assert "refused submits for now" in lines(caplog)[0]


async def test_a_wait_for_a_slot_is_told(begin, api, heard, caplog):
    async with begin(max_in_flight=1) as session:
        api.seconds = 30.0
        await session.submit(REQUEST)
        await session.submit(REQUEST)
    assert heard == [("slot", 10)]
    assert "max_in_flight" in lines(caplog)[0]


async def test_a_stream_that_waits_for_a_slot_is_told(begin, api, heard):
    async with begin(max_in_flight=1) as session:
        api.seconds = 30.0
        await session.submit(REQUEST)
        await session.run([REQUEST])
    assert heard == [("slot", 10)]


async def test_a_stream_alone_in_its_session_waits_for_its_own_jobs_in_silence(begin, api, heard):
    async with begin(max_in_flight=2) as session:
        api.seconds = 90.0
        await session.run([REQUEST] * 8)
    assert heard == []


async def test_a_wait_for_the_credits_is_told(begin, api, heard):
    async with begin(max_credits=1000) as session:
        api.answer_after = 9.0
        await asyncio.gather(*(session.submit(REQUEST) for _ in range(3)))
    assert heard == [("credits", 10)]


async def test_a_slow_journal_is_told(begin, api, heard, caplog):
    journal = MemoryJournal()
    claim = journal.claim

    async def slowly(*arguments, **named):
        await asyncio.sleep(12)
        return await claim(*arguments, **named)

    journal.claim = slowly
    async with begin(journal=journal) as session:
        await session.submit(REQUEST)
    assert heard == [("journal", 10)]
    assert "disk" in lines(caplog)[0]


async def test_a_wait_for_what_another_session_is_submitting_is_told(begin, api, heard, caplog):
    api.answer_after = 15.0
    store = memory_store()
    async with begin(journal=MemoryJournal(store, shared=True)) as one:
        first = asyncio.create_task(one.submit(REQUEST))
        await asyncio.sleep(1)
        async with begin(journal=MemoryJournal(store, shared=True)) as other:
            await other.submit(REQUEST)
        await first
    store.close()
    assert ("journal", 10) in heard
    assert "another session" in lines(caplog)[-1]


async def test_a_wait_for_the_place_of_a_job_that_was_given_up_is_told(begin, api, heard):
    api.seconds = 3000.0
    async with begin(max_in_flight=1, job_timeout=10, queue_timeout=10) as session:
        with pytest.raises(JobTimeoutError):
            await session.generate(REQUEST)
        await session.submit(REQUEST)
    assert heard[0] == ("slot", 10)


async def test_polls_that_do_not_get_through_are_told(begin, api, heard):
    api.seconds = 5.0
    async with begin(poll=Backoff(initial=3, maximum=3, jitter=0.0)) as session:
        job = await session.submit(REQUEST)
        api.script["get"] += [NOT_SENT] * 10
        await asyncio.sleep(20)
        assert session.stats().waiting["network"] >= 10
        await job
        assert session.stats().waiting == {}
    assert [awaited for awaited, _ in heard] == ["network"]


async def test_the_same_is_told_again_after_ten_minutes(begin, api, heard):
    async with begin(max_in_flight=1) as session:
        api.seconds = 100.0
        for _ in range(10):
            await session.submit(REQUEST)
    assert len(heard) == 2


# --- a host that was never reached ---------------------------------------------------------------


class Unreachable(FakeAPI):
    """Each attempt to connect takes some time."""

    connect = 0.0

    async def send(self, request, *, on_sent=None):
        await asyncio.sleep(self.connect)
        raise NOT_SENT


@pytest.mark.parametrize("connect", [0.0, 1.0, 15.0])
async def test_it_fails_within_a_minute_and_says_what_to_check(begin, connect):
    api = Unreachable()
    api.connect = connect
    async with begin(transport=api) as session:
        began = now()
        calls = [session.generate(REQUEST) for _ in range(30)]
        batch, *errors = await asyncio.gather(
            session.run([REQUEST] * 1000), *calls, return_exceptions=True
        )
        assert now() - began <= 60
    assert batch.counts == {JobState.REJECTED: 1000}
    for error in [*errors, batch[999].error]:
        assert isinstance(error, UnreachableError)
        assert error.delivered == "no"
        for word in ("https://api.example was never reached", "base_url", "proxy"):
            assert word in str(error)


async def test_a_host_that_was_reached_is_waited_for(begin, api):
    async with begin() as session:
        await session.submit(REQUEST)
        api.script["create"] += [NOT_SENT] * 1000
        began = now()
        with pytest.raises(TransportError) as caught:
            await session.submit(REQUEST)
        assert 500 < now() - began <= 600
    assert "never reached" not in str(caught.value)


async def test_who_wants_to_wait_for_a_host_to_come_up_can(begin, api):
    api.script["create"] += [NOT_SENT] * 15
    async with begin(retry=RetryPolicy(reach_timeout=600.0)) as session:
        began = now()
        await session.submit(REQUEST)
        assert now() - began > 60
