"""The file of a journal: created, read, moved, and refused byte for byte as it was."""

import asyncio
import os
import shutil
import sqlite3
import stat

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, move_journal, read_charges, read_entries
from seedance_async.journal.database import Database
from seedance_async.journal.journal_file import OpenJournal
from seedance_async.journal.schema import APPLICATION_ID, MIGRATIONS
from tests.journal.conftest import claimed, files_in, fill, intent, sqlite


async def assert_refused(path, reason):
    """Opening and reading fail with the file and the reason, and change nothing."""
    before = files_in(path.parent)
    with pytest.raises(JournalError, match=reason) as caught:
        await SQLiteJournal(path).open()
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert files_in(path.parent) == before
    with pytest.raises(JournalError, match=reason) as caught:
        read_entries(path)
    assert caught.value.path == str(path)
    assert files_in(path.parent) == before


async def left_by_a_killed_writer(path, folder):
    """A copy of the files of a journal in use: the entry "late" is only in its log."""
    await fill(path, 2)
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim(intent("late"))
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", folder / f"run.db{suffix}")
    await journal.aclose()
    return folder / "run.db"


# --- created and opened -------------------------------------------------------------------------


async def test_a_missing_or_empty_file_becomes_a_journal(path):
    for exists in (False, True):
        path.unlink(missing_ok=True)
        if exists:
            path.touch()
            assert read_entries(path) == []
        journal = SQLiteJournal(str(path))
        await journal.open()
        await journal.aclose()
        assert read_entries(path) == []
        assert sorted(file.name for file in path.parent.iterdir()) == ["run.db", "run.db.lock"]


@pytest.mark.skipif(os.name == "nt", reason="no file modes there")
async def test_only_the_owner_may_read_the_files(path, on_disk):
    await on_disk.claim(intent("a"))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["run.db", "run.db-wal", "run.db-shm", "run.db.lock"], 0o600)


def test_every_commit_is_flushed_to_the_disk(path):
    journal = OpenJournal(str(path))
    settings = [
        journal.database.sql.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "application_id", "user_version")
    ]
    journal.close()
    assert settings == ["wal", 2, APPLICATION_ID, len(MIGRATIONS)]


async def test_the_files_of_a_killed_writer_are_opened_with_all_entries(path, tmp_path):
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    journal = SQLiteJournal(left)
    await journal.open()
    assert [entry.key for entry in await journal.entries()] == ["key-0", "key-1", "late"]
    await journal.aclose()


def test_a_file_name_may_have_odd_characters(tmp_path):
    path = tmp_path / "a ?mode=memory#x%20y&z.db"

    async def write():
        journal = SQLiteJournal(path)
        await journal.open()
        await journal.claim(intent("a"))
        await journal.aclose()

    asyncio.run(write())
    assert len(read_entries(path)) == 1
    assert path.stat().st_size > 0


# --- read ---------------------------------------------------------------------------------------


async def test_a_journal_can_be_read_while_it_is_written(path, on_disk):
    await on_disk.claim(intent("a"))
    assert read_entries(path) == await on_disk.entries()
    await on_disk.claim(intent("b"))
    assert read_entries(path) == await on_disk.entries()


async def test_reading_a_journal_that_nobody_writes_leaves_no_trace(path):
    await fill(path, 3)
    before = files_in(path.parent)
    assert [entry.key for entry in read_entries(str(path))] == ["key-0", "key-1", "key-2"]
    assert files_in(path.parent) == before


async def test_reading_what_a_killed_writer_left_changes_neither_file_nor_log(path, tmp_path):
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    before = files_in(left.parent)
    assert [entry.key for entry in read_entries(left)] == ["key-0", "key-1", "late"]
    after = files_in(left.parent)
    assert {name: after[name] for name in before} == before


async def test_a_journal_that_was_written_while_it_was_read_is_read_again(path, monkeypatch):
    await fill(path, 2)
    entries, reads = Database.entries, []

    def entries_and_a_writer(database):
        found = entries(database)
        reads.append(found)
        if len(reads) < 3:
            with sqlite(path) as connection:
                connection.execute(f"UPDATE jobs SET size = {len(reads)}")
        if len(reads) == 1:
            raise sqlite3.DatabaseError("half old, half new")
        return found

    monkeypatch.setattr(Database, "entries", entries_and_a_writer)
    assert {entry.size for entry in read_entries(path)} == {2}
    assert len(reads) == 3


async def test_the_dearest_charges_of_one_origin_are_read_by_kind(path):
    journal = SQLiteJournal(path)
    await journal.open()
    for key, kind, origin, charged in (
        ("a", "k", "http://a", 4),
        ("b", "k", "http://a", 7),
        ("c", "k", "http://b", 9),
        ("d", "other", None, 5),
        ("e", "none", "http://a", None),
    ):
        number = await claimed(journal, key, kind=kind, origin=origin)
        await journal.record(number, state="queued", request_id=key, credits_charged=charged)
    assert read_charges(path, "http://a") == {"k": 7, "other": 5}, "while it is written"
    await journal.aclose()
    assert read_charges(path, "http://b") == {"k": 9, "other": 5}
    path.with_name("empty").touch()
    assert read_charges(path.with_name("empty"), "http://a") == {}


def test_reading_a_missing_file_fails_and_creates_none(path):
    with pytest.raises(JournalError, match="there is no such file"):
        read_entries(path)
    assert not path.exists()


# --- refused ------------------------------------------------------------------------------------


NOT_DATABASES = [
    (b"hello", "no SQLite file"),
    (b"prompt,duration\n" * 1000, "no SQLite file"),
    (b"SQLite format 3\0", "no SQLite file"),
    (b"SQLite format 3\0" + bytes(range(256)) * 64, "no SQLite file|damaged"),
    (b"\0" * 8192, "no SQLite file|damaged|another program"),
]


async def test_a_file_that_is_not_a_database_is_refused(path):
    for content, reason in NOT_DATABASES:
        path.write_bytes(content)
        await assert_refused(path, reason)


async def test_a_database_of_another_program_is_refused(path):
    with sqlite(path) as connection:
        connection.execute("CREATE TABLE jobs (key)")
    await assert_refused(path, "database of another program")


async def test_a_journal_of_a_newer_version_is_refused(path):
    await fill(path, 3)
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    await assert_refused(path, f"version {len(MIGRATIONS) + 1}, newer than {len(MIGRATIONS)}")


async def test_a_journal_without_its_tables_is_refused(path):
    await fill(path, 1)
    with sqlite(path) as connection:
        connection.execute("ALTER TABLE jobs RENAME COLUMN sha256 TO md5")
    await assert_refused(path, "damaged: no such column: .*sha256")


async def test_a_journal_that_is_cut_short_is_refused(path):
    await fill(path)
    for length in (4 * 4096 + 17, 3 * 4096, 4096, 100):
        assert path.stat().st_size > length
        os.truncate(path, length)
        await assert_refused(path, "damaged|no SQLite file")


async def test_a_journal_with_overwritten_pages_is_refused(path):
    await fill(path)
    overwrite_pages(path)
    before = files_in(path.parent)
    with pytest.raises(JournalError, match="damaged") as caught:
        await SQLiteJournal(path).open()
    assert caught.value.path == str(path)
    assert files_in(path.parent) == before
    with pytest.raises(JournalError, match="damaged"):
        read_entries(path)


def overwrite_pages(path, page=4096):
    data = bytearray(path.read_bytes())
    for start in range(page, len(data) - page, page):
        data[start : start + 64] = bytes(range(137, 201))
    path.write_bytes(data)


async def test_a_damaged_file_with_a_log_is_refused_and_neither_is_changed(path, tmp_path):
    await fill(path)
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    overwrite_pages(left)
    before = files_in(left.parent)
    with pytest.raises(JournalError, match="damaged"):
        await SQLiteJournal(left).open()
    assert files_in(left.parent) == before


async def test_a_log_without_its_file_is_refused_since_it_holds_an_earlier_run(path, tmp_path):
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    left.write_bytes(b"")
    before = files_in(left.parent)
    with pytest.raises(JournalError, match=r"run\.db-wal is there"):
        await SQLiteJournal(left).open()
    assert files_in(left.parent) == before


async def test_a_folder_is_refused(path):
    path.mkdir()
    await assert_refused(path, "it is a folder")


@pytest.mark.skipif(os.name == "nt", reason="needs a privilege there")
async def test_a_link_to_a_journal_is_followed_and_one_to_no_file_is_refused(path):
    path.symlink_to(path.parent / "elsewhere.db")
    await assert_refused(path, "link to a file that does not exist")
    await fill(path.parent / "elsewhere.db", 1)
    journal = SQLiteJournal(path)
    await journal.open()
    with pytest.raises(JournalError, match="in use"):  # the same file by its other name
        await SQLiteJournal(path.parent / "elsewhere.db").open()
    assert len(await journal.entries()) == 1
    await journal.aclose()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
async def test_a_pipe_is_refused(path):
    os.mkfifo(path)
    with pytest.raises(JournalError, match="not a regular file"):
        await SQLiteJournal(path).open()


async def test_the_error_names_a_missing_folder(tmp_path):
    path = tmp_path / "missing" / "run.db"
    for open_it in (SQLiteJournal(path).open, lambda: asyncio.to_thread(read_entries, path)):
        with pytest.raises(JournalError, match="there is no folder") as caught:
            await open_it()
        assert str(tmp_path / "missing") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_path_that_cannot_exist_is_refused():
    for path in ("a\0b", "x" * 5000):
        with pytest.raises(JournalError, match="cannot be opened"):
            await SQLiteJournal(path).open()


async def test_a_refused_file_can_be_replaced_and_opened(path):
    path.write_text("hello")
    with pytest.raises(JournalError):
        await SQLiteJournal(path).open()
    path.unlink()
    await fill(path, 1)


# --- moved --------------------------------------------------------------------------------------


@pytest.fixture
async def killed(tmp_path):
    """The files that a killed run leaves: its entry is only in the log."""
    path = tmp_path / "running" / "run.db"
    path.parent.mkdir()
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim(intent("a"))
    left = shutil.copytree(path.parent, tmp_path / "left") / "run.db"
    await journal.aclose()
    assert left.with_name("run.db-wal").stat().st_size > 0
    return left


async def test_a_journal_is_moved_together_with_its_log(killed):
    target = killed.with_name("run.1.db")
    move_journal(killed, target)
    assert [entry.key for entry in read_entries(target)] == ["a"]
    assert not killed.exists()
    assert not killed.with_name("run.db-wal").exists()


async def test_a_move_that_stops_halfway_leaves_nothing_that_looks_like_a_whole_journal(
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


async def test_a_journal_in_use_is_not_moved(tmp_path):
    path = tmp_path / "run.db"
    journal = SQLiteJournal(path)
    await journal.open()
    with pytest.raises(JournalError, match="in use"):
        move_journal(path, tmp_path / "run.1.db")
    await journal.aclose()
    assert path.exists()


def test_a_journal_is_never_moved_over_another_file(tmp_path):
    (tmp_path / "run.db").write_bytes(b"old")
    (tmp_path / "run.1.db").write_bytes(b"older")
    with pytest.raises(JournalError, match="a file is there"):
        move_journal(tmp_path / "run.db", tmp_path / "run.1.db")
    assert (tmp_path / "run.1.db").read_bytes() == b"older"
