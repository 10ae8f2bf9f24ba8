"""Several sessions on one journal: one gets a key, and nobody takes the living for dead."""

import asyncio
import itertools
import multiprocessing
import os
import sqlite3
import subprocess
import sys

import pytest

from seedance_async import JournalError
from seedance_async.journal import CreditsInUseError, SQLiteJournal, owner, read_entries
from seedance_async.journal.database import Database
from seedance_async.journal.owner import DOUBT_SECONDS, Owner, this_place
from tests.journal.conftest import START, claimed, fill, intent, sqlite
from tests.support.open_together import open_each


async def test_of_many_sessions_that_claim_one_key_one_succeeds(open_shared):
    journals = [await open_shared() for _ in range(5)]
    results = await asyncio.gather(*(each.claim(intent()) for each in journals * 4))
    assert results.count(None) == 19


async def test_what_a_living_session_is_sending_is_held_until_it_has_an_outcome(open_shared):
    one, other = await open_shared(), await open_shared()
    number = await claimed(one, "a")
    assert (await other.find("a")).is_held
    assert not (await one.find("a")).is_held, "it is its own"
    assert await other.claim(intent(), after=number) is None
    await one.record(number, state="rejected")
    assert not (await other.find("a")).is_held
    assert await other.claim(intent(), after=number) is not None


async def test_what_a_session_left_behind_is_uncertain_and_no_longer_held(open_shared):
    one, other = await open_shared(), await open_shared()
    await claimed(one, "a")
    await one.aclose()
    found = await other.find("a")
    assert (found.is_held, found.is_uncertain) == (False, True)


async def test_a_session_that_gives_no_sign_of_life_is_dead_after_a_while(open_shared, clock):
    one, other = await open_shared(), await open_shared()
    number = await claimed(one, "a")
    clock.now += DOUBT_SECONDS
    assert (await other.find("a")).is_held
    clock.now += 1
    assert not (await other.find("a")).is_held
    second = await other.claim(intent(), after=number)
    await one.record(number, state="queued", request_id="req_1", credits_charged=40)
    assert (await other.find("a")).request_id == "req_1", "its late acceptance is not lost"
    await other.record(second, state="rejected")
    assert (await other.find("a")).state == "queued"


async def test_who_answers_no_roll_call_does_not_work_however_alive_it_is(open_shared, clock):
    """An application that has the journal open; a worker whose event loop has stopped."""
    await open_shared()
    one, other = await open_shared(), await open_shared()
    first, _ = await one.roll_call(10.0)
    second, working = await other.roll_call(10.0)
    assert working == {first, second}
    clock.now += DOUBT_SECONDS
    await claimed(one, "a")  # which gives a sign of life
    assert await other.roll_call(10.0) == (second, {second})
    assert (await other.find("a")).is_held
    assert await one.roll_call(10.0) == (first, {first, second})


async def test_those_who_answered_a_roll_call_lately_are_called(open_shared, clock):
    journals = [await open_shared() for _ in range(3)]
    numbers = {(await each.roll_call(10.0))[0] for each in journals}
    assert len(numbers) == 3
    assert (await journals[0].roll_call(10.0))[1] == numbers
    clock.now += 8
    second, _ = await journals[1].roll_call(10.0)
    await journals[2].aclose()
    clock.now += 5
    first, living = await journals[0].roll_call(10.0)
    assert living == {first, second}


async def test_turns_are_taken_by_all_in_order(open_shared, clock):
    one, other = await open_shared(), await open_shared()
    assert [await each.turn(0.5) for each in (one, other, one)] == pytest.approx([0.0, 0.5, 1.0])
    clock.now += 1.25
    assert await other.turn(2.0) == pytest.approx(0.25)
    assert await one.turn(0.5) == pytest.approx(2.25)
    clock.now += 100
    assert await one.turn(0.5) == 0.0


async def test_who_was_taken_for_dead_and_lives_holds_what_it_is_sending(open_shared, clock):
    """Also if the other one, which took its job over, was refused meanwhile."""
    one, other = await open_shared(), await open_shared()
    first = await claimed(one, "a")
    clock.now += DOUBT_SECONDS + 1
    second = await other.claim(intent(), after=first)
    await other.record(second, state="rejected")
    assert not (await other.find("a")).is_held
    await claimed(one, "b")  # which gives a sign of life
    assert (await other.find("a")).is_held
    assert await other.claim(intent(), after=second) is None
    await one.record(first, state="queued", request_id="req_1", credits_charged=40)
    assert not (await other.find("a")).is_held
    assert await other.claim(intent(), after=second) is None, "it was accepted"


async def test_a_session_gives_a_sign_of_life_before_it_sends(open_shared, clock):
    one, other = await open_shared(), await open_shared()
    clock.now += 10 * DOUBT_SECONDS
    third = await open_shared()  # which removes owners that seem dead
    await claimed(one, "a")
    assert (await other.find("a")).is_held
    assert (await third.find("a")).is_held


async def test_under_a_limit_one_session_sends_at_a_time_until_it_knows_the_price(open_shared):
    one, other = await open_shared(), await open_shared()
    number = await claimed(one, "a", credits=40, limits={"": 1000})
    with pytest.raises(CreditsInUseError):
        await other.claim(intent("b", credits=40, limits={"": 1000}))
    assert await other.claim(intent("c")) is not None, "there is no limit on this one"
    await one.record(number, state="queued", request_id="req_1", credits_charged=40)
    assert await one.claim(intent("d", limits={"acme": 9}, budget="acme")) is not None


async def charge(journal, key, credits, **values):
    """Have a price on record."""
    number = await claimed(journal, key, **values)
    charged = {"request_id": f"req_{key}", "credits_charged": credits}
    await journal.record(number, state="queued", **charged)


async def test_at_known_prices_sessions_send_at_once_while_much_is_left_of_the_limit(open_shared):
    one, other, third = [await open_shared() for _ in range(3)]
    await charge(one, "a", 40, kind="k")
    assert await one.claim(intent("b", kind="k", limits={"": 1240})) is not None
    assert await other.claim(intent("c", kind="k", limits={"": 1240})) is not None
    with pytest.raises(CreditsInUseError):  # of 1240, 120 are spent, and ten times 120 are not left
        await third.claim(intent("d", kind="k", limits={"": 1240}))
    assert await third.claim(intent("d", kind="k", limits={"": 1320})) is not None
    assert await one.spent() == 160, "each as much as it may cost"


@pytest.mark.parametrize("price", [None, 0])
async def test_one_session_sends_at_a_time_what_was_never_charged_or_cost_nothing(
    open_shared, price
):
    """Also if it is another session's attempt whose price is not known, under a limit or not."""
    one, other = await open_shared(), await open_shared()
    await charge(one, "a", 40, kind="known")
    if price is not None:
        await charge(one, "z", price, kind="new")
    await claimed(one, "b", kind="new", credits=1 if price is None else price)
    with pytest.raises(CreditsInUseError):
        await other.claim(intent("c", kind="known", limits={"": 10_000}))
    await one.record((await one.find("b")).attempt, state="rejected")
    await claimed(one, "d", kind="known", credits=40)
    with pytest.raises(CreditsInUseError):
        await other.claim(intent("e", kind="new", credits=price, limits={"": 10_000}))
    assert await other.claim(intent("f", kind="known", limits={"": 10_000})) is not None


async def test_a_file_that_sessions_share_is_closed_to_one_that_wants_it_alone(path):
    shared = [SQLiteJournal(path, shared=True) for _ in range(2)]
    for each in shared:
        await each.open()
    with pytest.raises(JournalError, match="it is in use"):
        await SQLiteJournal(path).open()
    for each in shared:
        await each.aclose()
    alone = SQLiteJournal(path)
    await alone.open()
    await alone.aclose()


async def test_a_file_that_others_write_while_it_is_opened_is_not_taken_for_damaged(
    path, monkeypatch
):
    """The others have closed it, so it has no log and is read without locks; then they write."""
    find, looks = Database.find, []

    def find_beside_a_writer(database, key):
        looks.append(key)
        if len(looks) == 1:
            with sqlite(path) as connection:
                connection.execute("UPDATE jobs SET size = 1")
            raise sqlite3.DatabaseError("half old, half new")
        return find(database, key)

    await fill(path, 1)
    monkeypatch.setattr(Database, "find", find_beside_a_writer)
    journal = SQLiteJournal(path, shared=True)
    await journal.open()
    await journal.aclose()
    assert len(looks) == 2


async def test_a_file_that_one_session_has_alone_is_closed_to_all_others(
    path, on_disk, monkeypatch
):
    monkeypatch.setattr("seedance_async.journal.lock.SHARED_TIMEOUT", 0)
    with pytest.raises(JournalError, match="it is in use"):
        await SQLiteJournal(path, shared=True).open()


async def test_once_its_lock_is_lost_and_another_session_writes_nothing_more_is_sent(path, on_disk):
    """Another thread that closes a copy's file descriptor drops a POSIX lock, for example."""
    await claimed(on_disk, "a")
    with sqlite(path) as connection:
        columns = "place, pid, opened_at, seen_at"
        connection.execute(f"INSERT INTO owners ({columns}) VALUES ('x', 1, {START}, {START})")
    with pytest.raises(JournalError, match="another session has opened it meanwhile"):
        await on_disk.claim(intent("b"))
    await on_disk.record((await on_disk.find("a")).attempt, state="queued", request_id="req_1")
    assert (await on_disk.find("a")).request_id == "req_1", "what is learnt is recorded"


WRITER = """
import asyncio, sys
from seedance_async.journal import Intent, SQLiteJournal

async def main(path, count):
    journal = SQLiteJournal(path, shared=True)
    await journal.open()
    async def work(number):
        attempt = await journal.claim(Intent(f"key-{number}", "f", "{}", kind="k", credits=1))
        if attempt is not None:
            await journal.record(
                attempt, state="queued", request_id=f"req_{attempt}", credits_charged=1
            )
            print(number)
    await asyncio.gather(*map(work, range(count)))
    await journal.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_processes_that_open_a_new_file_at_once_share_it_and_its_keys(path):
    command = [sys.executable, "-c", WRITER, str(path), "200"]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    mine = [writer.communicate(timeout=120)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sorted(itertools.chain(*mine), key=int) == [str(number) for number in range(200)]
    assert len(read_entries(path)) == 200
    with sqlite(path) as connection:
        assert connection.execute("SELECT spent FROM budgets").fetchall() == [(200,)]


def test_a_new_file_is_created_once_however_many_open_it_at_once(tmp_path):
    paths = [tmp_path / f"{number}.db" for number in range(60)]
    context = multiprocessing.get_context("spawn")
    together, told = context.Barrier(4), context.Queue()
    processes = [context.Process(target=open_each, args=(paths, together, told)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [told.get(timeout=60) for _ in processes] == [[]] * 4
    for process in processes:
        process.join()


def test_the_owner_of_a_process_that_has_ended_is_dead_at_once():
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    now = START
    assert not Owner(this_place(), int(done.stdout), now).is_alive(now)
    assert Owner(this_place(), os.getpid(), now).is_alive(now)
    assert Owner("another machine", int(done.stdout), now).is_alive(now), "nobody can tell"


def test_where_nothing_tells_the_machine_its_name_is_enough(monkeypatch, tmp_path):
    monkeypatch.setattr(owner, "_text", lambda path: "")
    this_place.cache_clear()
    assert this_place()
    this_place.cache_clear()


async def test_nudges_are_told_in_order_once_more_if_repeated_and_removed_when_done(open_shared):
    one, other = await open_shared(), await open_shared()
    assert await other.nudges(0) == []
    await one.nudge("a", "req_1")
    await other.nudge("b", "req_1")
    first, second = await other.nudges(0)
    assert [(each.job, each.request_id) for each in (first, second)] == [
        ("a", "req_1"), ("b", "req_1"),
    ]  # fmt: skip
    await one.nudge("a", "req_1")
    [third] = await one.nudges(second.number)
    assert (third.job, third.request_id) == ("a", "req_1")
    assert await one.nudges(0, [third.number]) == [second]
    await one.nudge("c", "req_2")
    [fourth] = await one.nudges(third.number)
    assert fourth.job == "c", "numbers rise, whatever was removed"


async def test_nudges_that_nobody_takes_are_few_and_go_after_a_day(open_shared, clock):
    journal = await open_shared()
    for number in range(50):
        await journal.nudge("a", f"req_{number}")
    assert len(await journal.nudges(0)) == 4
    clock.now += 100_000
    await journal.nudge("b", "req_50")
    assert [each.job for each in await journal.nudges(0)] == ["b"]
