"""Postgres goes away and comes back: nothing is lost, nothing happens twice, nobody waits on."""

import asyncio
import logging

import psycopg
import pytest

from seedance_async import JournalError
from seedance_async.journal import PostgresJournal
from seedance_async.journal.postgres import link, writer
from tests.journal.conftest import claimed, intent
from tests.support.tcp_proxy import TCPProxy

ACCEPTED = {"state": "queued", "credits_charged": 40}


@pytest.fixture
def network(postgres):
    """A network to the server that can be cut."""
    with TCPProxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
async def open_on(network, empty_postgres):
    """Opens a journal over the network."""
    opened = []

    async def open_one(**options):
        dsn = (
            empty_postgres.rsplit(":", 1)[0] + f":{network.port}/" + empty_postgres.rsplit("/")[-1]
        )
        journal = PostgresJournal(dsn, **options)
        await journal.open()
        opened.append(journal)
        return journal

    yield open_one
    network.heal()
    for journal in opened:
        await journal.aclose()


async def test_restarts_while_it_is_written_lose_nothing_and_repeat_nothing(own_postgres):
    journals = [PostgresJournal(own_postgres.dsn()) for _ in range(2)]
    for each in journals:
        await each.open()
    told, begun = {}, asyncio.Event()

    async def write(first):
        journal = journals[first % 2]
        for number in range(first, 400, 5):
            attempt = await journal.claim(intent(f"{number}", kind="k", credits=1))
            await journal.record(attempt, request_id=f"req_{number}", **ACCEPTED)
            told[f"{number}"] = attempt
            if len(told) in (30, 200):
                begun.set()

    writing = asyncio.gather(*(write(first) for first in range(5)))
    for mode in ("fast", "immediate"):
        await begun.wait()
        begun.clear()
        await asyncio.to_thread(own_postgres.restart, mode)
    await asyncio.wait_for(writing, 60)
    entries = await journals[0].entries()
    assert {entry.key: entry.attempt for entry in entries} == told
    assert {entry.state for entry in entries} == {"queued"}
    assert await journals[1].spent() == 40 * 400
    for each in journals:
        await each.aclose()


async def test_a_commit_whose_answer_is_lost_is_recognised_and_not_repeated(open_on, network):
    journal = await open_on()
    lost = network.lose_answer(b"COMMIT\0")
    number = await journal.claim(intent("a"))
    assert lost.is_set()
    assert (await journal.find("a")).attempt == number
    assert not (await journal.find("a")).is_held
    lost = network.lose_answer(b"COMMIT\0")
    await journal.record(number, request_id="req_1", **ACCEPTED)
    assert lost.is_set()
    lost = network.lose_answer(b"COMMIT\0")
    assert await journal.forget(["a", "b"]) == 1, "as it was when it took effect"
    assert lost.is_set()
    assert await journal.spent() == 40


async def test_while_it_is_cut_off_what_is_learnt_waits_and_a_claim_fails_for_good(
    open_on, network, empty_postgres, caplog
):
    journal = await open_on(patience=0.3)
    number = await claimed(journal, "a")
    network.cut()
    journal.record_soon(number, state="queued", request_id="req_1")
    late = asyncio.create_task(journal.record(number, state="processing"))
    for call in (journal.claim(intent("b")), journal.find("a"), journal.forget(["a"])):
        with pytest.raises(JournalError, match="not to be reached in time"):
            await call
    assert not late.done()
    network.heal()
    await late
    assert (await journal.find("a")).request_id == "req_1"
    assert (await journal.find("a")).state == "processing"
    assert await journal.find("b") is None
    assert "it is tried again" in caplog.text


async def test_a_claim_that_failed_though_it_was_committed_is_taken_back(open_on, network):
    """Its caller has sent nothing, and others need not take it for sent."""
    journal = await open_on(patience=0.3)
    lost = network.lose_answer(b"COMMIT\0")
    claiming = asyncio.create_task(journal.claim(intent("a", credits=40)))
    await asyncio.to_thread(lost.wait)
    network.cut()
    with pytest.raises(JournalError, match="not to be reached in time"):
        await claiming
    network.heal()
    found = await journal.find("a")
    assert (found.state, found.is_held, await journal.spent()) == ("rejected", False, 0)
    assert "it was never sent" in found.error
    assert await journal.claim(intent("a"), after=found.attempt) is not None


async def test_what_is_learnt_and_cannot_be_recorded_until_the_end_is_shouted(
    open_on, network, caplog, monkeypatch
):
    monkeypatch.setattr(writer, "CLOSING_SECONDS", 0.1)
    journal = await open_on()
    number = await claimed(journal, "a")
    network.cut()
    journal.record_soon(number, state="queued", request_id="req_1")
    with pytest.raises(JournalError) as caught:
        await asyncio.wait_for(journal.aclose(), 60)
    assert caught.value.request_id == "req_1"
    shouted = [each.getMessage() for each in caplog.records if each.levelno == logging.CRITICAL]
    assert len(shouted) == 1
    assert f"attempt {number}" in shouted[0]
    assert "req_1" in shouted[0]


async def test_a_server_that_hangs_is_given_up_and_asked_again(open_on, network, monkeypatch):
    monkeypatch.setattr(link, "SILENT_SECONDS", 0.2)
    journal = await open_on()
    network.silence()
    assert await asyncio.wait_for(journal.claim(intent("a")), 60) is not None


async def test_a_server_without_a_connection_left_is_waited_for(own_postgres):
    own_postgres.settings |= {"max_connections": "5", "superuser_reserved_connections": "1"}
    own_postgres.settings["max_wal_senders"] = "0"
    own_postgres.restart()
    own_postgres.new_role("worker", "s3cret")
    own_postgres.execute("GRANT CREATE ON DATABASE postgres TO worker")
    dsn = own_postgres.dsn(user="worker", password="s3cret")
    others = [psycopg.connect(dsn) for _ in range(4)]
    journal = PostgresJournal(dsn)
    opening = asyncio.create_task(journal.open())
    await asyncio.sleep(0.3)
    assert not opening.done()
    for each in others:
        each.close()
    await opening
    assert await journal.claim(intent("a")) is not None
    await journal.aclose()


async def test_a_disk_that_is_full_keeps_what_is_learnt_and_sends_nothing(
    empty_postgres, postgres, caplog
):
    database = empty_postgres.rsplit("/", 1)[1]
    journal = PostgresJournal(empty_postgres, patience=0.2)
    await journal.open()
    number = await claimed(journal, "a")
    postgres.execute(
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$; "
        "CREATE TRIGGER filled BEFORE INSERT OR UPDATE ON seedance.attempts "
        "EXECUTE FUNCTION fill()",
        database=database,
    )
    try:
        late = asyncio.create_task(journal.record(number, request_id="req_1", **ACCEPTED))
        with pytest.raises(JournalError, match="not to be reached in time"):
            await journal.claim(intent("b"))
        assert not late.done()
    finally:
        postgres.execute("DROP FUNCTION fill CASCADE", database=database)
    await late
    assert [(each.key, each.state) for each in await journal.entries()] == [("a", "queued")]
    assert "No space left" in caplog.text
    await journal.aclose()


async def test_an_operation_that_the_server_refuses_keeps_no_other_from_being_carried_out(
    empty_postgres,
):
    journal = PostgresJournal(empty_postgres)
    await journal.open()
    too_long = "x" * 5000 + "".join(map(chr, range(256, 6000)))  # for an index
    first, refused, last = await asyncio.gather(
        journal.claim(intent("a")),
        journal.claim(intent(too_long)),
        journal.claim(intent("b")),
        return_exceptions=True,
    )
    assert isinstance(refused, JournalError)
    assert "index" in str(refused)
    assert (await journal.find("a")).attempt == first
    assert (await journal.find("b")).attempt == last
    await journal.aclose()
