"""The tables of a journal: migrations, and rows whose values are damaged."""

import sqlite3

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, read_entries
from seedance_async.journal.entry import FIELDS
from seedance_async.journal.tables import APPLICATION_ID, MIGRATIONS, migrate
from tests.journal.conftest import PLAIN, files_in, fill, sqlite

# --- migrations ---------------------------------------------------------------------------------


async def test_a_journal_without_tables_yet_is_migrated(path):
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # version 0: no tables
    await fill(path, 2)
    assert len(read_entries(path)) == 2
    with sqlite(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


async def test_a_journal_of_the_first_version_is_read_as_it_is_and_migrated_when_opened(path):
    with sqlite(path) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, MIGRATIONS[:1])
        names = "key, fingerprint, request, state, credits_reserved, created_at, updated_at"
        values = "'a', 'f', '{}', 'uncertain', 40, 1.0, 2.0"
        connection.execute(f"INSERT INTO jobs ({names}) VALUES ({values})")
        connection.commit()
    before = files_in(path.parent)
    (entry,) = read_entries(path)
    assert (entry.key, entry.credits_reserved, entry.credits_doubtful) == ("a", 40, None)
    assert files_in(path.parent) == before, "reading changes nothing"
    journal = SQLiteJournal(path)
    await journal.open()
    assert await journal.reclaim("a", expected="uncertain", credits_doubtful=40)
    await journal.aclose()
    assert read_entries(path)[0].credits_doubtful == 40


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


async def test_an_error_names_the_damaged_entry_and_the_others_can_be_read(path):
    await fill(path, 2)
    whole = path.read_bytes()
    for name, value in DAMAGE:
        path.write_bytes(whole)
        literal = f"x'{value.hex()}'" if isinstance(value, bytes) else value
        with sqlite(path) as connection:
            connection.execute(f"UPDATE jobs SET {name} = {literal} WHERE number = 1")
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
        for call in (journal.find("key-0"), journal.claim("key-0", **PLAIN)):
            with pytest.raises(JournalError, match="'key-0' is damaged"):
                await call
    assert (await journal.find("key-1")).state == "submitting"
    await journal.aclose()


async def test_no_field_holds_the_api_key_or_a_signed_url():
    assert not [name for name in FIELDS if "api" in name or "url" in name]
