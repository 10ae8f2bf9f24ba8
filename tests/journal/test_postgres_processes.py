"""Several processes on one journal in Postgres: killed, stopped, or left behind by a fail-over."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time

import attrs
import pytest

from seedance_async.journal import PostgresJournal
from seedance_async.journal.postgres import link, statements, target, writer
from tests.journal.conftest import claimed, empty, intent

WRITER = """
import asyncio, sys
from seedance_async.journal import Intent, PostgresJournal

async def main(dsn, count):
    journal = PostgresJournal(dsn)
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


def start(*command):
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def test_processes_that_open_an_empty_database_at_once_share_it_and_its_keys(
    postgres, postgres_dsn
):
    writers = [start("-c", WRITER, postgres_dsn, "200") for _ in range(3)]
    mine = [writer.communicate(timeout=60)[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 3
    assert sorted(itertools.chain(*mine), key=int) == [str(number) for number in range(200)]
    database = postgres_dsn.rsplit("/", 1)[1]
    counts = "SELECT (SELECT count(*) FROM seedance.jobs), count(*), count(DISTINCT number) FROM "
    found = postgres.execute(f"{counts} seedance.attempts", database=database)
    assert found == [(200, 200, 200)]
    assert postgres.execute("SELECT spent FROM seedance.budgets", database=database) == [(200,)]


@pytest.mark.parametrize("how", ["idle", "busy"])
async def test_a_process_that_is_stopped_with_the_lock_does_not_hold_others_up(
    empty_postgres, monkeypatch, how
):
    """The server throws it out, or else who waits for it does. Woken, it finds the key taken."""
    monkeypatch.setitem(target._SETTINGS, "lock_timeout", "300ms")
    silence = "1 h" if how == "idle" else "200 ms"
    monkeypatch.setattr(statements, "_EVICT", statements._EVICT.replace("5 s", silence))
    stopped = start("-m", "tests.journal.postgres_process", empty_postgres, "a", how)
    try:
        assert (await asyncio.to_thread(stopped.stdout.readline)).strip() == "stopping"
        journal = PostgresJournal(empty_postgres)
        await asyncio.wait_for(journal.open(), 60)
        assert await asyncio.wait_for(journal.claim(intent("a")), 60) is not None
        os.kill(stopped.pid, signal.SIGCONT)
        told, _ = await asyncio.to_thread(stopped.communicate, timeout=60)
        assert told.strip() == "None"
        assert len(await journal.entries()) == 1
        await journal.aclose()
    finally:
        stopped.kill()
        stopped.communicate()


@pytest.fixture
def standby(own_postgres):
    """Of `own_postgres`, which it follows."""
    follower = own_postgres.new_standby()
    yield follower
    follower.close()


async def test_a_server_that_takes_over_without_the_last_transactions_is_told_them_again(
    own_postgres, standby, monkeypatch, caplog
):
    """And until all have told it nobody claims, so that nothing is paid twice."""
    monkeypatch.setattr(link, "EMBARGO_SECONDS", 1.0)
    monkeypatch.setattr(writer, "IDLE_LOOK", 0.1)
    hosts = f"127.0.0.1:{own_postgres.port},127.0.0.1:{standby.port}"
    journals = [PostgresJournal(f"postgresql://postgres@{hosts}/postgres") for _ in range(2)]
    for each in journals:
        await each.open()
    one, other = journals
    kept = await claimed(one, "kept", kind="k", credits=40, limits={"": 1000})
    standby.wait_for(own_postgres)
    standby.stop_following()
    # From now on, what is acknowledged is on the first server alone.
    sent = await claimed(one, "sent", kind="k", credits=40, limits={"": 1000})
    await one.record(kept, state="queued", request_id="req_kept", credits_charged=45)
    done = await claimed(other, "done", credits=1)
    await other.record(done, state="queued", request_id="req_done", credits_charged=7)
    other.record_soon(done, state="succeeded", output_url="https://media.example/1.mp4")
    attached = await other.adopt(intent("attached"), "req_attached")
    await other.record_file("done", path="a.mp4", size=1, sha256="a" * 64)
    before = await one.entries(), await one.spent(), await one.prices()
    assert standby.execute("SELECT count(*) FROM seedance.attempts") == [(1,)]
    own_postgres.stop("immediate")
    standby.promote()
    # The other one is idle, and tells what it knows nevertheless.
    keys = ("sent", "done", "attached")
    assert await asyncio.gather(*(one.claim(intent(key)) for key in keys)) == [None] * 3
    assert "nothing new is submitted for 1 seconds" in caplog.text
    after = await one.entries(), await one.spent(), await one.prices()
    assert in_order(after[0]) == in_order(before[0])
    assert after[1:] == before[1:]
    await one.record(sent, state="queued", request_id="req_sent", credits_charged=40)
    await other.record(attached, state="processing")
    assert (await other.find("sent")).request_id == "req_sent"
    for each in journals:
        await each.aclose()


async def test_a_server_whose_files_were_restored_is_told_again_what_it_lacks(
    own_postgres, monkeypatch, tmp_path, caplog
):
    """It is the same server, on the same timeline, and lacks what one of them has marked last."""
    monkeypatch.setattr(link, "EMBARGO_SECONDS", 0.5)
    monkeypatch.setattr(writer, "IDLE_LOOK", 0.1)
    journals = [PostgresJournal(own_postgres.dsn()) for _ in range(2)]
    one, other = journals
    await one.open()
    await claimed(one, "yesterday")
    own_postgres.stop()
    shutil.copytree(own_postgres.folder, tmp_path / "backup")
    own_postgres.start()
    await other.open()
    number = await claimed(other, "today", credits=40)
    await other.record(number, state="queued", request_id="req_1", credits_charged=40)
    await one.flush()
    own_postgres.stop()
    own_postgres.restore(tmp_path / "backup")
    own_postgres.start()
    assert (await other.find("today")).request_id == "req_1"
    assert await one.claim(intent("today")) is None
    assert [entry.request_id for entry in await one.entries()] == [None, "req_1"]
    assert await one.spent() == 40
    assert "a backup was restored" in caplog.text
    for each in journals:
        await each.aclose()


async def test_a_backup_that_is_restored_under_a_living_worker_is_told_what_it_lacks(
    postgres, empty_postgres, monkeypatch, caplog
):
    """Its connection does not even break. It notices when it writes next, or beats."""
    monkeypatch.setattr(link, "EMBARGO_SECONDS", 0.3)
    journal = PostgresJournal(empty_postgres, lease=0.5)
    await journal.open()
    number = await claimed(journal, "today", credits=40)
    empty(empty_postgres)
    while not (found := await journal.find("today")):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert found.attempt == number
    assert await journal.spent() == 40
    assert "a backup was restored" in caplog.text
    await journal.aclose()


async def test_the_clocks_of_the_processes_are_of_no_account(empty_postgres, monkeypatch):
    one, other = [PostgresJournal(empty_postgres) for _ in range(2)]
    await one.open()
    number, now = await claimed(one, "a"), time.time()
    monkeypatch.setattr(time, "time", lambda: now - 600)
    await other.open()
    monkeypatch.setattr(time, "time", lambda: now + 600)
    assert (await other.find("a")).is_held
    assert abs((await other.find("a")).created_at - now) < 60
    assert await other.claim(intent("a"), after=number) is None
    await one.aclose()
    assert not (await other.find("a")).is_held
    await other.aclose()


def in_order(entries):
    """What the entries tell, but for times."""
    entries = [attrs.evolve(each, created_at=0.0, updated_at=0.0) for each in entries]
    return sorted(entries, key=lambda each: each.key)
