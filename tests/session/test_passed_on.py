"""Callbacks that arrive at another process than the one that has their job."""

import asyncio
import contextlib

import pytest

from seedance_async import GenerationRequest, JobState, JournalError, WebhookReceiver
from seedance_async.journal import PostgresJournal, SQLiteJournal
from seedance_async.session import passed_on
from seedance_async.session.webhook_callbacks import LOOKUPS
from seedance_async.webhooks import Nonces
from seedance_async.webhooks.passing_on import TIMES, PassingOn
from tests.session.test_webhook_callbacks import BASE, SELDOM, path_of, payload, turns
from tests.support.fakes import LOST, told
from tests.support.memory_journal import MemoryJournal, memory_store

REQUEST = GenerationRequest("a river")

virtual_time = pytest.mark.virtual_time


@pytest.fixture(params=["sqlite", "postgres"])
def new_journal(request, tmp_path, monkeypatch):
    monkeypatch.setattr(passed_on, "LOOK_EVERY", 0.02)
    if request.param == "sqlite":
        return lambda: SQLiteJournal(tmp_path / "run.db", shared=True)
    dsn = request.getfixturevalue("postgres_dsn")
    return lambda: PostgresJournal(dsn)


@pytest.fixture
def store():
    with contextlib.closing(memory_store()) as store:
        yield store


@pytest.fixture
def begin(make_session, store):
    """A session on the store, and its receiver."""

    def make(journal=None, **options):
        receiver = WebhookReceiver(BASE)
        journal = journal or MemoryJournal(store, shared=True)
        options = {"journal": journal, "poll": SELDOM, "webhooks": receiver} | options
        return make_session(**options), receiver

    return make


def noted(store):
    return store.execute("SELECT request_id FROM nudges ORDER BY number").fetchall()


async def test_a_callback_elsewhere_has_the_job_polled_at_once(begin, new_journal, api):
    api.seconds = 0.0
    (one, _), (other, elsewhere) = begin(new_journal()), begin(new_journal())
    async with asyncio.timeout(20), one, other:
        job = await one.submit(REQUEST)
        assert elsewhere.receive(path_of(api), payload()) == 200
        assert (await job).request_id == "req_0", "it is not polled for an hour otherwise"
    assert (api.count("create"), api.count("get")) == (1, 1)


async def test_an_uncertain_job_goes_on_once_its_id_has_come_elsewhere(begin, new_journal, api):
    api.seconds, api.jobs["req_7"] = 0.0, 0.0
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "processing", prompt=REQUEST.prompt))
    (one, _), (other, elsewhere) = begin(new_journal()), begin(new_journal())
    async with asyncio.timeout(20), other:
        async with one:
            (job,) = await one.run([REQUEST])
            assert job.state is JobState.UNCERTAIN
            assert elsewhere.receive(path_of(api), payload("req_7")) == 200
            while job.state is JobState.UNCERTAIN:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await job).request_id == "req_7"
        entry = await other.recorded(job.key)
    assert (entry.state, entry.request_id) == ("succeeded", "req_7")
    assert api.count("create") == 1


@virtual_time
async def test_what_came_before_anybody_had_the_uncertain_job_is_found_later(begin, api, store):
    api.seconds, api.jobs["req_7"] = 0.0, 0.0
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "processing", prompt=REQUEST.prompt))
    one, _ = begin()
    async with one:
        await one.run([REQUEST])
    (third, elsewhere), (other, _) = begin(), begin()
    async with third, other:
        await other.submit(GenerationRequest("a lake"))  # so that it looks, and passes by
        assert elsewhere.receive(path_of(api), payload("req_7")) == 200
        await asyncio.sleep(5)
        (job,) = await other.run([REQUEST])
        await asyncio.sleep(5)
        assert (await third.recorded(job.key)).request_id == "req_7"
        assert (await job).request_id == "req_7"
    assert api.count("create") == 2


@virtual_time
@pytest.mark.parametrize("prompt", ["another", None])
async def test_an_id_that_is_passed_on_is_not_believed(begin, api, prompt, caplog):
    api.script["create"].append(LOST)
    api.script["get"].append(told("req_7", "succeeded", prompt=prompt))
    (one, _), (other, elsewhere) = begin(), begin()
    async with one, other:
        (job,) = await one.run([REQUEST])
        assert elsewhere.receive(path_of(api), payload("req_7")) == 200
        await asyncio.sleep(60)
        assert (api.count("get"), job.state) == (1, "uncertain")
        api.script["create"].append(LOST)
        await one.run([GenerationRequest("a lake")])  # so that it looks at everything again
        await asyncio.sleep(60)
        assert (api.count("get"), job.state) == (1, "uncertain")
    assert "req_7" in caplog.text


@virtual_time
async def test_a_forged_nonce_is_passed_on_by_nobody(begin, api, store):
    (one, _), (other, elsewhere) = begin(), begin()
    async with one, other:
        await one.submit(REQUEST)
        nonce = path_of(api).rpartition("/")[2]
        forged = [nonce[:-1] + ("x" if nonce[-1] != "x" else "y"), nonce[:16], nonce[:16] * 2]
        forged += [nonce + "=", nonce[1:], "", "é\ud800", "=" * 32, nonce.swapcase()]
        forged += [Nonces(b"another secret").of(one.jobs()[0].key)]
        assert [elsewhere.receive(f"/{each}", payload()) for each in forged] == [404] * len(forged)
        await asyncio.sleep(60)
        assert (api.count("get"), noted(store)) == (0, [])


@virtual_time
async def test_callbacks_that_come_often_cause_few_queries_and_leave_nothing(begin, api, store):
    (one, _), (other, elsewhere) = begin(), begin()
    (fourth, another), path = begin(), lambda: path_of(api)
    async with one, other, fourth:
        job = await one.submit(REQUEST)
        for _ in range(50):
            assert elsewhere.receive(path(), payload()) == 200
            assert another.receive(path(), payload()) == 200
            await turns()
            await asyncio.sleep(2)
        assert 0 < api.count("get") <= LOOKUPS
        assert noted(store) == []
        await job


@virtual_time
async def test_a_callback_that_comes_late_causes_no_query_and_leaves_nothing(begin, api, store):
    api.seconds = 0.0
    (one, here), (other, elsewhere) = begin(), begin()
    async with one, other:
        job = await one.submit(REQUEST)
        assert here.receive(path_of(api), payload()) == 200
        await job
        await one.submit(GenerationRequest("a lake"))  # so that it looks
        assert elsewhere.receive(path_of(api), payload()) == 200
        await turns()
        assert len(noted(store)) == 1
        await asyncio.sleep(2)
        assert (api.count("get"), noted(store)) == (1, [])


@virtual_time
async def test_a_flood_for_a_job_that_nobody_has_is_noted_a_few_times(begin, api, store):
    one, _ = begin()
    with pytest.raises(LookupError):
        async with one:
            await one.submit(REQUEST)
            raise LookupError
    other, elsewhere = begin()
    async with other:
        for number in range(500):
            assert elsewhere.receive(path_of(api), payload(f"req_{number}")) == 200
        await turns()
        assert len(noted(store)) == 4 < TIMES
    assert elsewhere.receive(path_of(api), payload()) == 404, "its session has been left"


async def test_a_callback_is_not_passed_on_for_an_event_loop_that_has_gone():
    async def made():
        return PassingOn(nonces, unreachable)

    async def unreachable(job, named):
        raise AssertionError

    nonces = Nonces(b"secret")
    assert (await made()).hint(nonces.of("a")) is not None
    gone = await asyncio.to_thread(asyncio.run, made())
    assert gone.hint(nonces.of("a")) is None


@virtual_time
async def test_that_the_journal_is_away_is_told_once_and_passes(begin, api, store, caplog):
    class Away(MemoryJournal):
        fails = 0

        async def nudges(self, after, done=()):
            if self.fails:
                self.fails -= 1
                raise JournalError("it is away")
            return await super().nudges(after, done)

    api.seconds = 0.0
    journal = Away(store, shared=True)
    (one, _), (other, elsewhere) = begin(journal), begin()
    async with one, other:
        job = await one.submit(REQUEST)
        journal.fails = 3
        assert elsewhere.receive(path_of(api), payload()) == 200
        assert (await job).request_id == "req_0"
    assert caplog.text.count("it is away") == 1


@virtual_time
async def test_a_session_that_expects_nothing_does_not_look(begin, store):
    class Counting(MemoryJournal):
        looks = 0

        async def nudges(self, after, done=()):
            self.looks += 1
            return await super().nudges(after, done)

    journal = Counting(store, shared=True)
    one, _ = begin(journal)
    async with one:
        await asyncio.sleep(100)
        assert journal.looks == 0
        await one.submit(REQUEST)
        await asyncio.sleep(10)
        assert 9 <= journal.looks <= 10
