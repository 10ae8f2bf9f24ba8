"""The journal's thread: batches, failures, callers that stop waiting."""

import asyncio
import sqlite3
from contextlib import contextmanager

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal
from seedance_async.journal.database import Database
from tests.journal.conftest import claimed, file_held, fill, intent, sqlite, turns


async def test_a_claim_is_recorded_even_if_its_caller_is_cancelled(path, on_disk):
    with file_held(path):
        task = asyncio.create_task(on_disk.claim(intent("a")))
        await turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    assert (await on_disk.find("a")).state == "submitting"


async def test_a_write_that_fails_after_its_caller_was_cancelled_is_logged(path, on_disk, caplog):
    with file_held(path):
        task = asyncio.create_task(on_disk.record(17, state="queued", request_id="req_1"))
        await turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await on_disk.flush()
    assert "req_1 is not on record" in caplog.text
    assert "no longer waits" in caplog.text


async def test_the_event_loop_runs_on_while_the_disk_is_busy(path, on_disk):
    with file_held(path):
        task = asyncio.create_task(on_disk.claim(intent("a")))
        await turns(100)
        assert not task.done()
    assert await task is not None


async def test_one_operation_of_a_transaction_can_fail_without_the_others(path, on_disk):
    number = await claimed(on_disk, "a")
    await on_disk.record(number, request_id="req_1")
    with file_held(path):
        first = asyncio.create_task(on_disk.flush())
        await turns()
        rest = asyncio.gather(
            on_disk.claim(intent("b")),
            on_disk.record(number + 1, state="queued", request_id="req_1"),
            on_disk.record(17, state="queued"),
            on_disk.record(number, state="queued"),
            on_disk.claim(intent("a")),
            return_exceptions=True,
        )
        await turns()
    await first
    outcomes = await rest
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "int",
        "RequestIdTakenError",
        "JournalError",
        "NoneType",
        "NoneType",
    ]
    assert {entry.key: entry.state for entry in await on_disk.entries()} == {
        "a": "queued",
        "b": "submitting",
    }


async def test_a_thousand_callers_at_once_all_get_their_result(on_disk):
    await asyncio.gather(*(on_disk.claim(intent(f"key-{n}")) for n in range(1000)))
    assert len(await on_disk.entries()) == 1000


@contextmanager
def unusable(path):
    """Meanwhile every operation on the file fails, as on a broken disk."""
    with sqlite(path) as connection:
        connection.execute("ALTER TABLE jobs RENAME TO hidden")
        yield
        connection.execute("ALTER TABLE hidden RENAME TO jobs")


async def test_a_failing_disk_fails_every_caller_and_later_calls_work_again(path, on_disk):
    number = await claimed(on_disk, "a")
    with unusable(path):
        errors = await asyncio.gather(
            on_disk.record(number, state="queued", request_id="req_1"),
            on_disk.claim(intent("b")),
            on_disk.entries(),
            return_exceptions=True,
        )
    assert [(type(error), error.path) for error in errors] == [(JournalError, str(path))] * 3
    assert errors[0].request_id == "req_1"
    assert [entry.state for entry in await on_disk.entries()] == ["submitting"]
    await on_disk.record(number, state="queued", request_id="req_1")


async def test_a_record_soon_that_the_disk_refuses_is_raised_with_its_id(path, on_disk, caplog):
    number = await claimed(on_disk, "a")
    with unusable(path):
        on_disk.record_soon(number, state="queued", request_id="req_1")
        with pytest.raises(JournalError):
            await on_disk.record(number, state="queued")
    assert "req_1 is not on record" in caplog.text
    with pytest.raises(JournalError) as caught:
        await on_disk.flush()
    assert caught.value.request_id == "req_1"


async def test_a_kept_failure_is_not_lost_when_the_disk_fails(path, on_disk):
    number = await claimed(on_disk, "a")
    on_disk.record_soon(17, state="queued")
    await on_disk.record(number, state="queued")  # the failure is kept by now
    with unusable(path):
        with file_held(path):
            first = asyncio.create_task(on_disk.record(17, state="queued"))
            await turns()
            rest = asyncio.gather(on_disk.flush(), on_disk.entries(), return_exceptions=True)
            await turns()
        with pytest.raises(JournalError):
            await first
        assert ["no such table" in str(error) for error in await rest] == [True, True]
    with pytest.raises(JournalError, match="no attempt 17"):
        await on_disk.flush()


async def test_an_error_while_closing_the_file_is_logged_and_releases_the_lock(
    path, monkeypatch, caplog
):
    close = Database.close

    def close_badly(database):
        close(database)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Database, "close", close_badly)
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.aclose()
    assert "was not closed well" in caplog.text
    await fill(path, 0)


async def test_an_unexpected_exception_becomes_a_journal_error(path, on_disk, monkeypatch):
    monkeypatch.setattr(Database, "find", lambda *_: 1 / 0)
    with pytest.raises(JournalError, match="division by zero"):
        await on_disk.find("a")
    await on_disk.claim(intent("a"))
