"""Moving a journal aside: all of it goes along, and nothing is moved that is in use."""

import shutil

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, move_journal, read_entries


@pytest.fixture
async def killed(tmp_path):
    """What a killed run leaves: a journal whose entry is in its log only."""
    path = tmp_path / "running" / "run.db"
    path.parent.mkdir()
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim("a", fingerprint="f", request="{}")
    left = shutil.copytree(path.parent, tmp_path / "left") / "run.db"
    await journal.aclose()
    assert left.with_name("run.db-wal").stat().st_size > 0
    return left


async def test_what_is_in_the_log_alone_goes_along(killed):
    target = killed.with_name("run.1.db")
    move_journal(killed, target)
    assert [entry.key for entry in read_entries(target)] == ["a"]
    assert not killed.exists()
    assert not killed.with_name("run.db-wal").exists()


async def test_a_move_that_breaks_off_leaves_nothing_that_is_taken_for_a_whole_journal(
    killed, monkeypatch
):
    rename, done = type(killed).rename, []

    def once(self, target):
        if done:
            raise OSError(5, "Input/output error")
        done.append(target)
        return rename(self, target)

    monkeypatch.setattr(type(killed), "rename", once)
    with pytest.raises(JournalError, match="cannot be renamed"):
        move_journal(killed, killed.with_name("run.1.db"))
    monkeypatch.undo()
    with pytest.raises(JournalError, match=r"its log .* is there"):
        await SQLiteJournal(killed).open()


async def test_a_journal_in_use_stays_where_it_is(tmp_path):
    path = tmp_path / "run.db"
    journal = SQLiteJournal(path)
    await journal.open()
    with pytest.raises(JournalError, match="in use"):
        move_journal(path, tmp_path / "run.1.db")
    await journal.aclose()
    assert path.exists()


def test_nothing_is_moved_onto_what_is_there(tmp_path):
    (tmp_path / "run.db").write_bytes(b"old")
    (tmp_path / "run.1.db").write_bytes(b"older")
    with pytest.raises(JournalError, match="a file is there"):
        move_journal(tmp_path / "run.db", tmp_path / "run.1.db")
    assert (tmp_path / "run.1.db").read_bytes() == b"older"
