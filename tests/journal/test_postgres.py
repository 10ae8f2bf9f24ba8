"""`PostgresJournal`: its place, its tables, and the least that a role needs."""

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import JournalError
from seedance_async.journal import PostgresJournal
from seedance_async.journal.owners import KEPT_SECONDS
from seedance_async.journal.postgres import link, statements, target, writer
from seedance_async.journal.postgres.schema import MIGRATIONS, migrate, version_of
from seedance_async.journal.postgres.statements import PostgresStatements
from seedance_async.journal.postgres.target import Target
from tests.journal.conftest import claimed, intent


async def opened(dsn, *arguments, **options):
    journal = PostgresJournal(dsn, *arguments, **options)
    await journal.open()
    return journal


@pytest.fixture
def run_on(postgres, empty_postgres):
    """Runs a statement in the database of the journal."""
    database = empty_postgres.rsplit("/", 1)[1]
    return lambda statement, *values: postgres.execute(statement, *values, database=database)


# --- where it is ----------------------------------------------------------------------------------


async def test_each_queue_has_a_schema_and_the_money_of_its_own(empty_postgres, run_on):
    one = await opened(empty_postgres)
    other = await opened(empty_postgres, "Autumn-2")
    await claimed(one, "a", credits=40)
    await claimed(other, "a", credits=7)
    assert (await one.spent(), await other.spent()) == (40, 7)
    assert await one.secret() != await other.secret()
    assert run_on('SELECT key FROM "seedance_Autumn-2".jobs') == [("a",)]
    await one.aclose()
    await other.aclose()


@pytest.mark.parametrize(
    "queue", ["", "a b", 'x"; DROP SCHEMA seedance; --', "ä", "x" * 51, "-a", None]
)
def test_a_name_that_cannot_be_part_of_a_schemas_is_refused(queue):
    with pytest.raises(ValueError, match="the name of a queue"):
        PostgresJournal("postgresql://localhost/db", queue)


@pytest.mark.parametrize("options", [{"lease": 0}, {"doubt": -1.0}, {"patience": float("nan")}])
def test_a_time_that_is_none_is_refused(options):
    with pytest.raises(ValueError, match="must be above 0 seconds"):
        PostgresJournal("postgresql://localhost/db", **options)


@pytest.mark.parametrize(
    ("dsn", "name"),
    [
        ("postgresql://me:s3cret@one:5433,two:5434/db", "me@one:5433,two:5434/db"),
        ("host=one user=me password=s3cret dbname=db", "me@one/db"),
        ("host=a,b port=5433", "a:5433,b:5433/"),
    ],
)
def test_it_is_called_by_its_place_without_the_password(dsn, name):
    journal = PostgresJournal(dsn)
    assert repr(journal) == f"<PostgresJournal postgresql://{name} (default) new>"


async def test_a_server_that_is_not_there_or_refuses_is_told(postgres, monkeypatch):
    with pytest.raises(JournalError, match="authentication failed"):
        await PostgresJournal(postgres.dsn(user="nobody", password="s3cret")).open()
    with pytest.raises(JournalError, match='database "none" does not exist'):
        await PostgresJournal(postgres.dsn("none")).open()
    monkeypatch.setattr(writer, "OPENING_SECONDS", 0)
    with pytest.raises(JournalError, match="refused"):
        await PostgresJournal("postgresql://postgres@127.0.0.1:1/db").open()


# --- tables and rights ----------------------------------------------------------------------------

RIGHTS = """
GRANT USAGE ON SCHEMA seedance TO worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA seedance TO worker;
"""


async def test_a_role_that_may_only_read_and_write_rows_is_enough(postgres, empty_postgres, run_on):
    postgres.new_role("worker", "s3cret")
    database = empty_postgres.rsplit("/", 1)[1]
    dsn = postgres.dsn(database, user="worker", password="s3cret")
    with pytest.raises(JournalError, match="permission denied for schema seedance"):
        await PostgresJournal(dsn).open()
    run_on(RIGHTS)
    journal = await opened(dsn)
    number = await claimed(journal, "a", kind="k", credits=40, limits={"": 100}, budget="acme")
    await journal.record(number, state="queued", request_id="req_1", credits_charged=30)
    await journal.adopt(intent("b"), "req_2")
    await journal.price("other", 3)
    assert (await journal.spent("acme"), await journal.prices()) == (30, {"k": 30})
    assert await journal.forget(["a", "b"]) == 2
    await journal.aclose()
    with pytest.raises(JournalError, match="permission denied for database"):
        await PostgresJournal(dsn, "another").open()


async def test_where_the_tables_are_current_nothing_is_defined(empty_postgres, run_on):
    before = run_on("SELECT max(xmin::text::bigint) FROM pg_class")
    await (await opened(empty_postgres)).aclose()
    assert run_on("SELECT max(xmin::text::bigint) FROM pg_class") == before


async def test_tables_of_a_newer_release_are_refused_and_nothing_is_claimed_in_them(
    empty_postgres, run_on
):
    """What a worker of this release has learnt is recorded all the same."""
    journal = await opened(empty_postgres)
    number = await claimed(journal, "a")
    run_on("UPDATE seedance.journal SET version = version + 1")
    try:
        with pytest.raises(JournalError, match=r"newer than \d+: update seedance-async"):
            await PostgresJournal(empty_postgres).open()
        with pytest.raises(JournalError, match="a newer release has changed it"):
            await journal.claim(intent("b"))
        await journal.record(number, state="queued", request_id="req_1")
        assert [entry.request_id for entry in await journal.entries()] == ["req_1"]
    finally:
        run_on("UPDATE seedance.journal SET version = version - 1")
    await journal.aclose()


async def test_tables_of_an_older_release_are_migrated_and_keep_what_they_hold(
    postgres_dsn, monkeypatch
):
    journal = await opened(postgres_dsn)
    number = await claimed(journal, "a", credits=40)
    await journal.aclose()
    added = ("ALTER TABLE jobs ADD COLUMN note text", "UPDATE jobs SET note = key")
    place = Target(postgres_dsn, "default")
    with place.connect() as connection:
        broken = (*MIGRATIONS, added, ("UPDATE nonsense SET x = 1",))
        with pytest.raises(psycopg.Error, match="nonsense"):
            migrate(connection, place.schema, place.lock, place.name, broken)
        assert version_of(connection, "seedance") == len(MIGRATIONS)
        for _ in range(2):
            migrate(connection, place.schema, place.lock, place.name, (*MIGRATIONS, added))
        assert version_of(connection, "seedance") == len(MIGRATIONS) + 1
        assert connection.execute("SELECT key, note FROM jobs").fetchall() == [("a", "a")]
    monkeypatch.setattr(link, "MIGRATIONS", (*MIGRATIONS, added))
    journal = await opened(postgres_dsn)
    assert (await journal.find("a")).attempt == number
    assert await journal.claim(intent("b")) is not None
    await journal.aclose()


# --- what is written ------------------------------------------------------------------------------


async def test_entries_are_read_in_pages(empty_postgres, monkeypatch):
    monkeypatch.setattr(PostgresStatements, "page", 3)
    journal = await opened(empty_postgres)
    for count in range(8):
        assert [entry.key for entry in await journal.entries()] == [f"{n}" for n in range(count)]
        await claimed(journal, f"{count}")
    await journal.aclose()


async def test_owners_that_were_silent_for_a_day_and_left_nothing_are_removed(
    empty_postgres, run_on, monkeypatch
):
    monkeypatch.setattr(link, "EMBARGO_SECONDS", 0.1)
    journals = [await opened(empty_postgres) for _ in range(3)]
    await claimed(journals[0], "a")
    run_on("UPDATE seedance.owners SET seen_at = seen_at - %s", KEPT_SECONDS + 10)
    journals.append(await opened(empty_postgres))
    assert run_on("SELECT count(*) FROM seedance.owners") == [(2,)]
    assert await journals[1].claim(intent("b")) is not None, "it is one again"
    for journal in journals:
        await journal.aclose()
    assert run_on("SELECT count(*) FROM seedance.owners") == [(0,)]


def test_numbers_rise_though_the_clock_goes_back_and_fit_the_column():
    numbers = PostgresStatements("x", 1)
    found = []
    for clock, highest in [(1.7e9, None), (1.7e9, None), (1.6e9, None), (3.7e9, 2**62)]:
        numbers._state = statements._State(clock, highest=highest)
        found += [numbers.next_number("attempts") for _ in range(3)]
    assert found == sorted(set(found))
    assert 2**62 < found[-1] < 2**63
    again = PostgresStatements("x", 1)
    again._state = statements._State(1.7e9)
    assert again.next_number("attempts") not in found[:6], "of the same microsecond"


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("\0\x1a01"))
def test_any_text_is_read_as_it_was_written(text):
    written = target._TextDumper(str).dump(text)
    assert b"\0" not in written
    assert target._TextLoader(25).load(written) == text


def test_a_statement_may_be_repeated_only_if_what_failed_may_pass():
    errors = psycopg.errors
    passing = (
        *(errors.DiskFull, errors.TooManyConnections, errors.AdminShutdown, errors.PipelineAborted),
        *(errors.LockNotAvailable, errors.DeadlockDetected, errors.ReadOnlySqlTransaction),
    )
    lasting = (errors.UndefinedTable, errors.InsufficientPrivilege, errors.UniqueViolation)
    assert all(target.is_passing(kind()) for kind in passing)
    assert not any(target.is_passing(kind()) for kind in lasting)
    assert not target.is_passing(ZeroDivisionError())
    assert statements._with_marks("a = ?") == "a = %s"
