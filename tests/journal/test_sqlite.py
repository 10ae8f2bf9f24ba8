"""The journal in a file: what is refused and left alone, one writer, waiting that is cut short."""

import asyncio
import gc
import os
import shutil
import sqlite3
import stat
import sys
import threading
from contextlib import closing, contextmanager

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, read_entries
from seedance_async.journal.database import APPLICATION_ID, STEPS, Database, migrate
from seedance_async.journal.entry import FIELDS
from seedance_async.journal.files import OpenJournal
from seedance_async.journal.lock import WriteLock
from tests.journal.conftest import PLAIN, START


def sqlite(path):
    return closing(sqlite3.connect(path, isolation_level=None))


async def fill(path, count=60):
    """A journal of some pages."""
    journal = SQLiteJournal(path, clock=lambda: START)
    await journal.open()
    for number in range(count):
        await journal.claim(f"key-{number}", fingerprint="f" * 32, request="x" * 400)
    await journal.aclose()


def picture(folder):
    """Every file's name and bytes; a link by where it leads."""
    return {
        file.name: file.readlink() if file.is_symlink() else file.is_file() and file.read_bytes()
        for file in folder.iterdir()
    }


async def assert_refused(path, reason):
    """Both ways to open it name the file and the reason, and leave everything as it was."""
    before = picture(path.parent)
    with pytest.raises(JournalError, match=reason) as caught:
        await SQLiteJournal(path).open()
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert picture(path.parent) == before
    with pytest.raises(JournalError, match=reason) as caught:
        read_entries(path)
    assert caught.value.path == str(path)
    assert picture(path.parent) == before


# --- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [False, True], ids=["absent", "empty"])
async def test_a_file_that_is_absent_or_empty_is_made_into_a_journal(path, there):
    if there:
        path.touch()
        assert read_entries(path) == []
    journal = SQLiteJournal(str(path))
    await journal.open()
    await journal.aclose()
    assert read_entries(path) == []
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.db", "run.db.lock"]


@pytest.mark.skipif(os.name == "nt", reason="no file modes there")
async def test_only_its_owner_may_read_it(path, on_disk):
    await on_disk.claim("a", **PLAIN)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["run.db", "run.db-wal", "run.db-shm", "run.db.lock"], 0o600)


def test_it_flushes_to_the_disk_at_each_commit(path):
    journal = OpenJournal(str(path))
    told = [
        journal.database.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "application_id", "user_version")
    ]
    journal.close()
    assert told == ["wal", 2, APPLICATION_ID, len(STEPS)]


async def test_a_journal_can_be_read_while_it_is_written(path, on_disk):
    await on_disk.claim("a", **PLAIN)
    assert read_entries(path) == await on_disk.entries()
    await on_disk.claim("b", **PLAIN)
    assert read_entries(path) == await on_disk.entries()


async def test_reading_a_journal_that_nobody_writes_leaves_no_trace(path):
    await fill(path, 3)
    before = picture(path.parent)
    assert [entry.key for entry in read_entries(str(path))] == ["key-0", "key-1", "key-2"]
    assert picture(path.parent) == before


async def test_reading_what_a_killed_writer_left_changes_neither_file_nor_log(path, tmp_path):
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    before = picture(left.parent)
    assert [entry.key for entry in read_entries(left)] == ["key-0", "key-1", "late"]
    after = picture(left.parent)
    assert {name: after[name] for name in before} == before


async def left_by_a_killed_writer(path, folder):
    """A copy of the files of a journal in use: "late" stands in the log alone."""
    await fill(path, 2)
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim("late", **PLAIN)
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", folder / f"run.db{suffix}")
    await journal.aclose()
    return folder / "run.db"


async def test_what_a_killed_writer_left_is_taken_up(path, tmp_path):
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    journal = SQLiteJournal(left)
    await journal.open()
    assert [entry.key for entry in await journal.entries()] == ["key-0", "key-1", "late"]
    await journal.aclose()


async def test_a_reader_reads_again_when_a_writer_came_and_went_meanwhile(path, monkeypatch):
    await fill(path, 2)
    entries, reads = Database.entries, []

    def entries_and_a_writer(database):
        found = entries(database)
        reads.append(found)
        if len(reads) < 3:
            with sqlite(path) as connection:
                connection.execute(f"UPDATE jobs SET size = {len(reads)}")
        if len(reads) == 1:
            raise sqlite3.DatabaseError("of the two, this is neither")
        return found

    monkeypatch.setattr(Database, "entries", entries_and_a_writer)
    assert {entry.size for entry in read_entries(path)} == {2}
    assert len(reads) == 3


def test_names_with_odd_characters_are_files_too(tmp_path):
    path = tmp_path / "a ?mode=memory#x%20y&z.db"

    async def write():
        journal = SQLiteJournal(path)
        await journal.open()
        await journal.claim("a", **PLAIN)
        await journal.aclose()

    asyncio.run(write())
    assert len(read_entries(path)) == 1
    assert path.stat().st_size > 0


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "no SQLite file"),
        (b"prompt,duration\n" * 1000, "no SQLite file"),
        (b"SQLite format 3\0", "no SQLite file"),
        (b"SQLite format 3\0" + bytes(range(256)) * 64, "no SQLite file|damaged"),
        (b"\0" * 8192, "no SQLite file|damaged|another program"),
    ],
    ids=["short text", "text", "a header alone", "nonsense behind a header", "zeros"],
)
async def test_what_is_no_database_is_refused(path, content, reason):
    path.write_bytes(content)
    await assert_refused(path, reason)


async def test_a_database_of_another_program_is_refused(path):
    with sqlite(path) as connection:
        connection.execute("CREATE TABLE jobs (key)")
    await assert_refused(path, "database of another program")


async def test_a_journal_of_a_newer_version_is_refused(path):
    await fill(path, 3)
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    await assert_refused(path, f"version {len(STEPS) + 1}, newer than {len(STEPS)}")


async def test_a_journal_without_its_tables_is_refused(path):
    await fill(path, 1)
    with sqlite(path) as connection:
        connection.execute("ALTER TABLE jobs RENAME COLUMN sha256 TO md5")
    await assert_refused(path, "damaged: no such column: sha256")


@pytest.mark.parametrize("left", [100, 4096, 3 * 4096, 4 * 4096 + 17])
async def test_a_journal_that_is_cut_short_is_refused(path, left):
    await fill(path)
    assert path.stat().st_size > left
    os.truncate(path, left)
    await assert_refused(path, "damaged|no SQLite file")


async def test_a_journal_with_random_bytes_in_the_middle_is_refused(path):
    await fill(path)
    scribble(path)
    before = picture(path.parent)
    with pytest.raises(JournalError, match="damaged") as caught:
        await SQLiteJournal(path).open()
    assert caught.value.path == str(path)
    assert picture(path.parent) == before
    with pytest.raises(JournalError, match="damaged"):
        read_entries(path)


def scribble(path, page=4096):
    data = bytearray(path.read_bytes())
    for start in range(page, len(data) - page, page):
        data[start : start + 64] = bytes(range(137, 201))
    path.write_bytes(data)


async def test_a_damaged_file_with_a_log_is_refused_and_both_left_as_they_were(path, tmp_path):
    await fill(path)
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    scribble(left)
    before = picture(left.parent)
    with pytest.raises(JournalError, match="damaged"):
        await SQLiteJournal(left).open()
    assert picture(left.parent) == before


async def test_a_log_without_its_file_is_refused_since_it_tells_of_an_earlier_run(path, tmp_path):
    left = await left_by_a_killed_writer(path, tmp_path / "left")
    left.write_bytes(b"")
    before = picture(left.parent)
    with pytest.raises(JournalError, match=r"run\.db-wal is there"):
        await SQLiteJournal(left).open()
    assert picture(left.parent) == before


async def test_a_folder_is_refused(path):
    path.mkdir()
    await assert_refused(path, "it is a folder")


@pytest.mark.skipif(os.name == "nt", reason="no such links there")
async def test_a_link_that_leads_nowhere_is_refused_and_one_that_leads_to_a_journal_is_not(path):
    path.symlink_to(path.parent / "elsewhere.db")
    await assert_refused(path, "link that leads nowhere")
    await fill(path.parent / "elsewhere.db", 1)
    journal = SQLiteJournal(path)
    await journal.open()
    with pytest.raises(JournalError, match="in use"):  # by whatever name
        await SQLiteJournal(path.parent / "elsewhere.db").open()
    assert len(await journal.entries()) == 1
    await journal.aclose()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
async def test_a_pipe_is_refused(path):
    os.mkfifo(path)
    with pytest.raises(JournalError, match="no regular file"):
        await SQLiteJournal(path).open()


async def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "missing" / "run.db"
    for open_it in (SQLiteJournal(path).open, lambda: asyncio.to_thread(read_entries, path)):
        with pytest.raises(JournalError, match="there is no folder") as caught:
            await open_it()
        assert str(tmp_path / "missing") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_path_that_no_system_takes_is_refused():
    for path in ("a\0b", "x" * 5000):
        with pytest.raises(JournalError, match="cannot be opened"):
            await SQLiteJournal(path).open()


def test_reading_a_file_that_is_not_there_is_refused_and_makes_none(path):
    with pytest.raises(JournalError, match="there is no such file"):
        read_entries(path)
    assert not path.exists()


async def test_a_refused_file_can_be_replaced_and_opened(path):
    path.write_text("hello")
    with pytest.raises(JournalError):
        await SQLiteJournal(path).open()
    path.unlink()
    await fill(path, 1)


# --- versions -----------------------------------------------------------------------------------


async def test_a_journal_of_an_older_version_is_brought_up_to_date(path):
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # version 0: no tables
    await fill(path, 2)
    assert len(read_entries(path)) == 2
    with sqlite(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)


async def test_a_journal_of_the_first_version_can_be_read_and_is_then_brought_up_to_date(path):
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, STEPS[:1])
        names = "key, fingerprint, request, state, credits_reserved, created_at, updated_at"
        values = "'a', 'f', '{}', 'uncertain', 40, 1.0, 2.0"
        connection.execute(f"INSERT INTO jobs ({names}) VALUES ({values})")
        connection.commit()
    before = picture(path.parent)
    (entry,) = read_entries(path)
    assert (entry.key, entry.credits_reserved, entry.credits_doubtful) == ("a", 40, None)
    assert picture(path.parent) == before, "reading changes nothing"
    journal = SQLiteJournal(path)
    await journal.open()
    assert await journal.reclaim("a", expected="uncertain", credits_doubtful=40)
    await journal.aclose()
    assert read_entries(path)[0].credits_doubtful == 40


async def test_a_version_that_the_tables_belie_is_refused(path):
    await fill(path, 1)
    with sqlite(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    before = picture(path.parent)
    with pytest.raises(JournalError, match="jobs already exists"):
        await SQLiteJournal(path).open()
    assert picture(path.parent) == before


async def test_a_further_step_keeps_what_is_there_and_one_that_fails_changes_nothing(path):
    await fill(path, 2)
    step = ("ALTER TABLE jobs ADD COLUMN note TEXT", "UPDATE jobs SET note = key")
    with sqlite(path) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nonsense"):
            migrate(connection, [*STEPS, step, ("UPDATE nonsense SET x = 1",)])
        assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
        migrate(connection, [*STEPS, step])
        migrate(connection, [*STEPS, step])
        assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)
        found = connection.execute("SELECT note FROM jobs").fetchall()
    assert found == [("key-0",), ("key-1",)]


# --- damaged rows -------------------------------------------------------------------------------

DAMAGE = [
    *((name, b"\xff\xfe") for name in FIELDS),
    ("key", "CAST(x'ff' AS TEXT)"),
    ("state", "'paid'"),
    ("error", "CAST(x'6865c3' AS TEXT)"),
    ("request_id", "CAST(x'80' AS TEXT)"),
    ("size", "'large'"),
    ("size", "1.5"),
    ("credits_charged", "-1"),
    ("created_at", "'today'"),
    ("updated_at", "9e999"),
]


async def test_a_damaged_entry_is_named_and_no_other_is_lost(path):
    await fill(path, 2)
    whole = path.read_bytes()
    for name, value in DAMAGE:
        path.write_bytes(whole)
        literal = f"x'{value.hex()}'" if isinstance(value, bytes) else value
        with sqlite(path) as connection:
            connection.execute(f"UPDATE jobs SET {name} = {literal} WHERE number = 1")
        await assert_damaged(path, name)


async def assert_damaged(path, name):
    """The first entry, in the field `name`."""
    with pytest.raises(JournalError, match=f"damaged: {name}"):
        read_entries(path)
    journal = SQLiteJournal(path)
    await journal.open()
    with pytest.raises(JournalError, match=f"damaged: {name}"):
        await journal.entries()
    if name != "key":
        for call in (journal.find("key-0"), journal.claim("key-0", **PLAIN)):
            with pytest.raises(JournalError, match="'key-0' is damaged"):
                await call
    assert (await journal.find("key-1")).state == "submitting"
    await journal.aclose()


# --- one writer ---------------------------------------------------------------------------------


async def test_a_second_writer_in_the_same_process_is_refused_at_once(path, on_disk):
    for _ in range(2):
        with pytest.raises(JournalError, match="it is in use") as caught:
            await SQLiteJournal(path).open()
        assert caught.value.path == str(path)
    await on_disk.claim("a", **PLAIN)
    assert (await on_disk.find("a")).key == "a"


async def test_when_the_first_writer_has_closed_the_next_may_write(path):
    for _ in range(3):
        journal = SQLiteJournal(path)
        await journal.open()
        await journal.aclose()
    assert not [thread for thread in threading.enumerate() if "journal" in thread.name]


async def test_a_file_that_is_there_in_place_of_the_lock_is_refused_and_left(path):
    lock = path.with_name("run.db.lock")
    lock.write_text("somebody else's" * 100)
    with pytest.raises(JournalError, match="cannot be taken"):
        await SQLiteJournal(path).open()
    assert "somebody" in lock.read_text()
    assert not path.exists()


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(path, monkeypatch):
    """A lock file of a refused journal is removed: who was about to take it has locked nothing."""
    monkeypatch.setattr("seedance_async.journal.lock.os.path.samestat", lambda *_: False)
    with pytest.raises(JournalError, match="in use"):
        WriteLock(path).acquire()


# --- the thread ---------------------------------------------------------------------------------


@contextmanager
def file_held(path):
    """Meanwhile the journal's thread cannot commit: another connection is writing."""
    with sqlite(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def turns(count=3):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_cancelled_claim_is_made_all_the_same(path, on_disk):
    with file_held(path):
        task = asyncio.create_task(on_disk.claim("a", **PLAIN))
        await turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    assert (await on_disk.find("a")).state == "submitting"


async def test_a_cancelled_write_that_fails_is_logged(path, on_disk, caplog):
    with file_held(path):
        task = asyncio.create_task(on_disk.update("nobody", state="queued", request_id="req_1"))
        await turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await on_disk.flush()
    assert "req_1 is not on record" in caplog.text
    assert "no longer waits" in caplog.text


async def test_while_the_disk_is_waited_for_the_event_loop_goes_on(path, on_disk):
    with file_held(path):
        task = asyncio.create_task(on_disk.claim("a", **PLAIN))
        await turns(100)
        assert not task.done()
    assert await task is None


async def test_of_operations_that_are_committed_together_one_may_fail_alone(path, on_disk):
    await on_disk.claim("a", **PLAIN)
    await on_disk.update("a", request_id="req_1")
    with file_held(path):
        first = asyncio.create_task(on_disk.flush())
        await turns()
        rest = asyncio.gather(
            on_disk.claim("b", **PLAIN),
            on_disk.update("b", state="queued", request_id="req_1"),
            on_disk.update("nobody", state="queued"),
            on_disk.update("a", state="queued"),
            on_disk.claim("a", **PLAIN),
            return_exceptions=True,
        )
        await turns()
    await first
    told = await rest
    assert [type(outcome).__name__ for outcome in told] == [
        "NoneType",
        "JournalError",
        "JournalError",
        "NoneType",
        "JournalEntry",
    ]
    assert {entry.key: entry.state for entry in await on_disk.entries()} == {
        "a": "queued",
        "b": "submitting",
    }


async def test_a_thousand_who_wait_are_all_told(on_disk):
    await asyncio.gather(*(on_disk.claim(f"key-{n}", **PLAIN) for n in range(1000)))
    assert len(await on_disk.entries()) == 1000


@contextmanager
def unusable(path):
    """Meanwhile every operation on the file fails, as it does on a broken disk."""
    with sqlite(path) as connection:
        connection.execute("ALTER TABLE jobs RENAME TO hidden")
        yield
        connection.execute("ALTER TABLE hidden RENAME TO jobs")


async def test_when_the_disk_fails_all_who_wait_are_told_and_later_all_goes_on(path, on_disk):
    await on_disk.claim("a", **PLAIN)
    with unusable(path):
        told = await asyncio.gather(
            on_disk.update("a", state="queued", request_id="req_1"),
            on_disk.claim("b", **PLAIN),
            on_disk.entries(),
            return_exceptions=True,
        )
    assert [(type(error), error.path) for error in told] == [(JournalError, str(path))] * 3
    assert told[0].request_id == "req_1"
    assert [entry.state for entry in await on_disk.entries()] == ["submitting"]
    await on_disk.update("a", state="queued", request_id="req_1")


async def test_a_later_update_that_the_disk_refuses_is_kept_with_its_id(path, on_disk, caplog):
    await on_disk.claim("a", **PLAIN)
    with unusable(path):
        on_disk.update_soon("a", state="queued", request_id="req_1")
        with pytest.raises(JournalError):
            await on_disk.update("a", state="queued")
    assert "req_1 is not on record" in caplog.text
    with pytest.raises(JournalError) as caught:
        await on_disk.flush()
    assert caught.value.request_id == "req_1"


async def test_a_kept_failure_outlasts_a_failing_disk(path, on_disk):
    await on_disk.claim("a", **PLAIN)
    on_disk.update_soon("nobody", state="queued")
    await on_disk.update("a", state="queued")  # it is kept by now
    with unusable(path):
        with file_held(path):
            first = asyncio.create_task(on_disk.update("nobody", state="queued"))
            await turns()
            rest = asyncio.gather(on_disk.flush(), on_disk.entries(), return_exceptions=True)
            await turns()
        with pytest.raises(JournalError):
            await first
        assert ["no such table" in str(error) for error in await rest] == [True, True]
    with pytest.raises(JournalError, match="'nobody'"):
        await on_disk.flush()


async def test_closing_waits_until_all_is_written(path):
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim("a", **PLAIN)
    for number in range(500):
        journal.update_soon("a", size=number)
    await journal.aclose()
    assert read_entries(path)[0].size == 499


async def test_closing_is_finished_though_it_is_cancelled(path):
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim("a", **PLAIN)
    with file_held(path):
        journal.update_soon("a", size=1)
        task = asyncio.create_task(journal.aclose())
        await turns()
        task.cancel()
        await turns()
        assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert read_entries(path)[0].size == 1
    await fill(path, 0)  # and the file is free


async def test_opening_that_is_cancelled_leaves_the_file_free(path):
    journal = SQLiteJournal(path)
    task = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "closed" in repr(journal)
    await fill(path, 1)


async def test_while_it_is_being_opened_it_can_be_closed_but_not_used(path):
    journal = SQLiteJournal(path)
    opening = asyncio.create_task(journal.open())
    await asyncio.sleep(0)
    with pytest.raises(JournalError, match="opening"):
        await journal.flush()
    await journal.aclose()
    with pytest.raises(JournalError, match="closed"):
        await opening
    await fill(path, 1)


def test_when_the_event_loop_ends_first_the_writes_are_made_all_the_same(path):
    async def leave():
        journal = SQLiteJournal(path)
        await journal.open()
        await journal.claim("a", **PLAIN)
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
    assert read_entries(path)[0].size == 1
    asyncio.run(fill(path, 0))  # dropped, it has let go of the file


async def soon(journal):
    journal.update_soon("a", size=1)
    waiting = asyncio.ensure_future(journal.flush())
    await turns()
    assert not waiting.done()


async def test_a_system_without_threads_left_is_told_so(path, monkeypatch):
    def no_more(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    journal = SQLiteJournal(path)
    with pytest.raises(JournalError, match="no thread can be started"):
        await journal.open()
    await journal.aclose()


async def test_a_file_that_cannot_be_closed_well_is_logged_and_hangs_nobody(
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
    await fill(path, 0)  # its lock is gone


async def test_a_fault_of_our_own_is_a_journal_error_and_hangs_nobody(path, on_disk, monkeypatch):
    monkeypatch.setattr(Database, "find", lambda *_: 1 / 0)
    with pytest.raises(JournalError, match="division by zero"):
        await on_disk.find("a")
    await on_disk.claim("a", **PLAIN)


async def test_neither_the_key_nor_a_signed_url_has_a_place_in_it():
    assert not [name for name in FIELDS if "api" in name or "url" in name]


@pytest.mark.skipif(sys.platform == "win32", reason="paths are spelt differently there")
def test_its_repr_tells_the_file_and_its_state():
    assert repr(SQLiteJournal("/runs/a.db")) == "<SQLiteJournal /runs/a.db new>"
