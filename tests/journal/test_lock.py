"""The write lock: one holder at a time, and no lock on a file that is gone."""

import threading

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal
from seedance_async.journal.lock import WriteLock
from tests.journal.conftest import intent


async def test_a_second_writer_in_the_same_process_is_refused_at_once(path, on_disk):
    for _ in range(2):
        with pytest.raises(JournalError, match="it is in use") as caught:
            await SQLiteJournal(path).open()
        assert caught.value.path == str(path)
    await on_disk.claim(intent("a"))
    assert (await on_disk.find("a")).key == "a"


async def test_once_a_writer_has_closed_the_next_may_write_and_no_thread_is_left(path):
    for _ in range(3):
        journal = SQLiteJournal(path)
        await journal.open()
        await journal.aclose()
    assert not [thread for thread in threading.enumerate() if "journal" in thread.name]


async def test_another_file_in_place_of_the_lock_is_refused_and_not_changed(path):
    lock = path.with_name("run.db.lock")
    lock.write_text("somebody else's" * 100)
    with pytest.raises(JournalError, match="cannot be taken"):
        await SQLiteJournal(path).open()
    assert "somebody" in lock.read_text()
    assert not path.exists()


def test_a_lock_on_a_file_that_was_removed_meanwhile_does_not_count(path, monkeypatch):
    """The lock file of a refused journal is removed, perhaps while another run is locking it."""
    monkeypatch.setattr("seedance_async.journal.lock.os.path.samestat", lambda *_: False)
    with pytest.raises(JournalError, match="in use"):
        WriteLock(path).acquire()
