"""`SQLiteJournal`: opening and closing, cut short or not."""

import asyncio
import gc
import sys
import threading

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, read_entries
from tests.journal.conftest import claimed, file_held, fill, intent, turns


async def test_closing_waits_for_every_write(path):
    journal = SQLiteJournal(path)
    await journal.open()
    attempt = await claimed(journal, "a")
    for number in range(500):
        journal.record_soon(attempt, credits_charged=number)
    await journal.aclose()
    assert read_entries(path)[0].credits_charged == 499


async def test_closing_finishes_even_if_it_is_cancelled(path):
    journal = SQLiteJournal(path)
    await journal.open()
    attempt = await claimed(journal, "a")
    with file_held(path):
        journal.record_soon(attempt, error="e")
        task = asyncio.create_task(journal.aclose())
        await turns()
        task.cancel()
        await turns()
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert read_entries(path)[0].error == "e"
    await fill(path, 0)  # and the file is free


async def test_opening_that_is_cancelled_releases_the_file(path):
    journal = SQLiteJournal(path)
    task = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "closed" in repr(journal)
    await fill(path, 1)


async def test_while_it_is_opening_it_can_be_closed_but_not_used(path):
    journal = SQLiteJournal(path)
    opening = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    with pytest.raises(JournalError, match="opening"):
        await journal.flush()
    await journal.aclose()
    with pytest.raises(JournalError, match="closed"):
        await opening
    await fill(path, 1)


def test_writes_are_made_even_if_the_event_loop_is_closed_first(path):
    async def leave():
        journal = SQLiteJournal(path)
        await journal.open()
        await journal.claim(intent("a"))
        return journal

    with asyncio.Runner() as runner:
        journal = runner.run(leave())
        with file_held(path):
            runner.run(soon(journal))
            runner.close()
    del journal
    gc.collect()
    for thread in threading.enumerate():
        if "journal" in thread.name:
            thread.join(10)
    assert read_entries(path)[0].error == "e"
    asyncio.run(fill(path, 0))  # once collected, it has released the file


async def soon(journal):
    journal.record_soon(1, error="e")
    waiting = asyncio.ensure_future(journal.flush())
    await turns()
    assert not waiting.done()


async def test_opening_fails_if_no_thread_can_be_started(path, monkeypatch):
    def no_more(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    journal = SQLiteJournal(path)
    with pytest.raises(JournalError, match="no thread can be started"):
        await journal.open()
    await journal.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="paths are spelt differently there")
def test_its_repr_shows_the_file_and_the_state():
    assert repr(SQLiteJournal("/runs/a.db")) == "<SQLiteJournal /runs/a.db new>"
