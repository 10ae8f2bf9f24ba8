"""The tables of a journal: migrations, and rows whose values are damaged."""

import json
import sqlite3

import pytest

from seedance_async import GenerationRequest, JournalError
from seedance_async.api.prepared_request import dump_request
from seedance_async.journal import SQLiteJournal, kind_text, read_entries
from seedance_async.journal.entry import FIELDS
from seedance_async.journal.schema import APPLICATION_ID, MIGRATIONS, migrate
from tests.journal.conftest import files_in, fill, intent, sqlite

# --- migrations ---------------------------------------------------------------------------------


async def test_a_journal_without_tables_yet_is_migrated(path):
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # version 0: no tables
    await fill(path, 2)
    assert len(read_entries(path)) == 2
    with sqlite(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


RIVER = GenerationRequest("A river", duration=5)
#: Key, state, request id, charged, reserved, doubtful: what version 3 recorded of each kind of job.
OF_VERSION_3 = [
    ("sending", "submitting", None, None, 40, None),
    ("running", "queued", "req_1", 40, 40, None),
    ("done", "succeeded", "req_2", 41, None, 30),
    ("refused", "rejected", None, None, 40, None),
    ("in doubt", "uncertain", None, None, None, 20),
    ("refused later", "uncertain", None, None, 0, 25),
    ("named", "uncertain", "req_3", None, 40, None),
    ("forgotten", "rejected", None, None, 0, 500),
]


def of_version(path, version, rows):
    """A journal as an earlier version wrote it."""
    names = "key, state, request_id, credits_charged, credits_reserved"
    names += ", credits_doubtful" if version > 1 else ""
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, MIGRATIONS[:version])
        for row in rows:
            values = row if version > 1 else row[:-1]
            mark = "forgotten" if row[0] == "forgotten" else "f"
            request = json.dumps(dump_request(RIVER)) if row[0] != "in doubt" else "{"
            connection.execute(
                f"INSERT INTO jobs ({names}, fingerprint, request, created_at, updated_at) "
                f"VALUES ({', '.join('?' * len(values))}, ?, ?, 1.0, 2.0)",
                (*values, mark, request),
            )


@pytest.mark.parametrize("version", [1, 2, 3])
async def test_what_an_earlier_version_wrote_is_read_as_it_is_and_migrated_when_opened(
    path, version
):
    of_version(path, version, OF_VERSION_3)
    before = files_in(path.parent)
    read = read_entries(path)
    assert files_in(path.parent) == before, "reading changes nothing"
    journal = SQLiteJournal(path)
    await journal.open()
    assert await journal.entries() == read
    assert [(entry.key, entry.state, entry.request_id) for entry in read] == [
        row[:3] for row in OF_VERSION_3[:-1]
    ]
    doubtful = [row[5] if version > 1 else None for row in OF_VERSION_3[:-1]]
    assert [entry.credits_doubtful for entry in read] == doubtful
    doubt = sum(row[5] or 0 for row in OF_VERSION_3) if version > 1 else 0
    assert await journal.spent() == 40 + 40 + 41 + 40 + doubt
    assert await journal.prices() == {kind_text(RIVER): 41}
    assert await journal.unpriced() == {"": 1}, "its request cannot be read"
    await journal.aclose()


async def test_migrated_jobs_keep_the_rules_of_attempts(path):
    of_version(path, 3, OF_VERSION_3)
    journal = SQLiteJournal(path)
    await journal.open()
    entries = {entry.key: entry for entry in await journal.entries()}
    assert await journal.claim(intent("running"), after=entries["running"].attempt) is None
    for key in ("sending", "refused", "in doubt"):
        assert await journal.claim(intent(key), after=entries[key].attempt) is not None
    with pytest.raises(JournalError, match="is that of the entry with key 'running'"):
        await journal.record(entries["named"].attempt, state="queued", request_id="req_1")
    await journal.aclose()


async def secret_of(path):
    journal = SQLiteJournal(path)
    await journal.open()
    try:
        return await journal.secret()
    finally:
        await journal.aclose()


async def test_a_journal_keeps_its_secret_which_no_other_has(path):
    secret = await secret_of(path)
    assert await secret_of(path) == secret
    assert await secret_of(path.with_name("other.db")) != secret


async def test_a_secret_that_is_damaged_is_reported(path):
    await fill(path, 1)
    with sqlite(path) as connection:
        connection.execute("UPDATE secret SET value = 'short'")
        connection.commit()
    with pytest.raises(JournalError, match="its secret is damaged"):
        await secret_of(path)


async def test_a_version_that_does_not_match_the_tables_is_refused(path):
    await fill(path, 1)
    with sqlite(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    before = files_in(path.parent)
    with pytest.raises(JournalError, match="jobs already exists"):
        await SQLiteJournal(path).open()
    assert files_in(path.parent) == before


async def test_a_migration_keeps_the_entries_and_one_that_fails_changes_nothing(path):
    await fill(path, 2)
    added = ("ALTER TABLE jobs ADD COLUMN note TEXT", "UPDATE jobs SET note = key")
    with sqlite(path) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nonsense"):
            migrate(connection, [*MIGRATIONS, added, ("UPDATE nonsense SET x = 1",)])
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        migrate(connection, [*MIGRATIONS, added])
        migrate(connection, [*MIGRATIONS, added])
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)
        found = connection.execute("SELECT note FROM jobs").fetchall()
    assert found == [("key-0",), ("key-1",)]


def test_a_migration_that_finds_the_disk_full_says_so(path):
    """SQLite may have ended the transaction itself."""

    def fill_disk(connection):
        connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with sqlite(path) as connection, pytest.raises(sqlite3.OperationalError, match="full"):
        migrate(connection, [(fill_disk,)])


# --- damaged rows -------------------------------------------------------------------------------

JOBS, ATTEMPTS = "UPDATE jobs SET {} WHERE number = 1", "UPDATE attempts SET {} WHERE job = 1"
BYTES = "x'fffe'"
DAMAGE = [
    *(
        (JOBS, name, BYTES)
        for name in FIELDS
        if name not in ("attempt", "is_held", "request_id") and "credits" not in name
    ),
    (JOBS, "key", "CAST(x'ff' AS TEXT)"),
    (JOBS, "state", "'paid'"),
    (JOBS, "error", "CAST(x'6865c3' AS TEXT)"),
    (JOBS, "size", "'large'"),
    (JOBS, "size", "1.5"),
    (JOBS, "created_at", "'today'"),
    (JOBS, "updated_at", "9e999"),
    (ATTEMPTS, "request_id", BYTES),
    (ATTEMPTS, "request_id", "CAST(x'80' AS TEXT)"),
    (ATTEMPTS, "credits_reserved", BYTES),
    (ATTEMPTS, "credits_charged", "-1"),
]


async def test_an_error_names_the_damaged_entry_and_the_others_can_be_read(path):
    await fill(path, 2)
    whole = path.read_bytes()
    for statement, name, value in DAMAGE:
        path.write_bytes(whole)
        with sqlite(path) as connection:
            connection.execute(statement.format(f"{name} = {value}"))
        await assert_damaged(path, name)


async def assert_damaged(path, name):
    """The first entry is reported as damaged in the field `name`."""
    with pytest.raises(JournalError, match=f"damaged: {name}"):
        read_entries(path)
    journal = SQLiteJournal(path)
    await journal.open()
    with pytest.raises(JournalError, match=f"damaged: {name}"):
        await journal.entries()
    if name != "key":
        with pytest.raises(JournalError, match="'key-0' is damaged"):
            await journal.find("key-0")
        assert await journal.claim(intent("key-0")) is None
    assert (await journal.find("key-1")).state == "submitting"
    await journal.aclose()


async def test_no_field_holds_the_api_key():
    assert not [name for name in FIELDS if "api" in name]
