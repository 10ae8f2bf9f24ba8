"""A journal in a file, copied into another one: of a file, and of Postgres."""

import sqlite3
from contextlib import closing

import pytest

from seedance_async import BudgetExceededError, JournalError
from seedance_async.journal import PostgresJournal, SQLiteJournal, read_entries, rows
from seedance_async.journal.copying import copy_journal
from seedance_async.journal.journal_file import OpenJournal
from seedance_async.journal.reading import read_journal
from seedance_async.journal.rows import read_rows
from tests.journal.conftest import START, intent

KIND = '["seedance-2.0", 4, null, "text"]'


@pytest.fixture(params=["sqlite", "postgres"])
def target(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "other.db")
    return request.getfixturevalue("empty_postgres")


@pytest.fixture
async def source(path, clock):
    """A journal with a job of each kind, and with what a forgotten one has cost."""
    async with opened(path, clock) as journal:
        await journal.record(
            await journal.claim(intent("done", kind=KIND, origin="https://a.test")),
            state="succeeded", request_id="req_1", credits_charged=40,
            output_url="https://a.test/v.mp4",
        )  # fmt: skip
        await journal.record_file("done", path="/videos/1.mp4", size=9, sha256="ab")
        clock.now += 1
        refused = await journal.claim(intent("running", kind=KIND))
        await journal.record(refused, state="rejected", error="not now")
        again = await journal.claim(intent("running", kind=KIND, budget="b"), after=refused)
        await journal.record(again, state="queued", request_id="req_2", credits_charged=30)
        clock.now += 1
        await journal.claim(intent("broken off", credits=7))
        clock.now += 1
        lost = await journal.claim(intent("lost", credits=5))
        await journal.record(lost, state="uncertain", error="reset")
        clock.now += 1
        gone = await journal.claim(intent("gone", kind=KIND, budget="b"))
        await journal.record(gone, state="failed", request_id="req_3", credits_charged=20)
        await journal.forget(["gone"])
    return path


class opened:  # noqa: N801
    """A journal that is open within the block."""

    def __init__(self, place, clock, **options):
        is_url = "://" in str(place)
        kind = PostgresJournal if is_url else SQLiteJournal
        self.journal = kind(place, clock=clock, **options)

    async def __aenter__(self):
        await self.journal.open()
        return self.journal

    async def __aexit__(self, *_):
        await self.journal.aclose()


def content(place):
    """What is in a journal, but for the numbers of attempts."""
    found = read_journal(place, read_rows)
    attempts = sorted(
        (str(each.key), each.values["claimed_at"], str(each.values))
        for each in found.attempts.values()
    )
    lasts = {key: str(found.attempts[number].values) for key, number in found.last_attempts.items()}
    return dict(found.jobs), list(found.jobs), lasts, attempts, dict(found.prices), found.secret


async def spending(place, clock):
    async with opened(place, clock) as journal:
        return {name: await journal.spent(name) for name in ("", "b")}, await journal.unpriced()


async def test_all_of_a_journal_is_copied(source, target, clock):
    made = copy_journal(source, target)
    assert (made.jobs, made.known, made.attempts, made.has_secret) == (4, 0, 6, True)
    assert await spending(target, clock) == await spending(source, clock)
    assert await spending(target, clock) == ({"": 102, "b": 50}, {})
    assert content(target) == content(source)


async def test_a_second_copy_changes_nothing(source, target, clock):
    copy_journal(source, target)
    before = read_journal(target, read_rows)
    made = copy_journal(source, target)
    assert (made.jobs, made.known, made.attempts) == (0, 4, 0)
    assert read_journal(target, read_rows) == before


async def test_a_copy_goes_on_as_the_journal_would(source, target, clock):
    copy_journal(source, target)
    async with opened(target, clock, **({} if "://" in target else {"shared": True})) as journal:
        for key in ("done", "running", "broken off", "lost"):
            assert await journal.claim(intent(key)) is None
        known = await journal.find("running")
        await journal.record(known.attempt, state="succeeded", request_id="req_2")
        assert (await journal.find("running")).state == "succeeded"
        with pytest.raises(BudgetExceededError):
            await journal.claim(intent("new", credits=1, limits={"": 102}))
        assert await journal.claim(intent("new", credits=1, limits={"": 103})) is not None


async def test_a_copy_that_has_gone_on_is_left_alone(source, target, clock):
    copy_journal(source, target)
    async with opened(target, clock) as journal:
        known = await journal.find("running")
        await journal.record(known.attempt, state="succeeded", request_id="req_2")
        lost = await journal.find("lost")
        clock.now += 1
        await journal.claim(intent("lost"), after=lost.attempt)
        await journal.forget(["done"])
    before = await spending(target, clock)
    copy_journal(source, target)
    after = {each.key: each for each in read_journal(target, lambda database: database.entries())}
    assert after["running"].state == "succeeded"
    assert after["lost"].state == "submitting"
    done = after["done"]  # it is known again, at the same cost
    assert (done.request_id, done.credits_charged) == ("req_1", 40)
    assert await spending(target, clock) == before


async def test_what_the_source_has_learned_since_is_copied(source, target, clock):
    copy_journal(source, target)
    async with opened(source, clock) as journal:
        known = {entry.key: entry for entry in await journal.entries()}
        clock.now += 1
        await journal.record(
            known["running"].attempt, state="failed", request_id="req_2", error="no"
        )
        await journal.record(known["lost"].attempt, state="queued", request_id="req_9")
        again = await journal.claim(intent("broken off"), after=known["broken off"].attempt)
        await journal.record(again, state="queued", request_id="req_8", credits_charged=3)
    made = copy_journal(source, target)
    assert (made.jobs, made.attempts) == (0, 1)
    assert content(target)[:4] == content(source)[:4]
    assert await spending(target, clock) == await spending(source, clock)


async def test_what_contradicts_is_refused_and_nothing_is_copied(source, target, clock):
    async with opened(target, clock) as journal:
        clock.now += 1
        await journal.claim(intent("done", fingerprint="another"))
        number = await journal.claim(intent("other"))
        await journal.record(number, state="queued", request_id="req_2")
    before = read_journal(target, read_rows)
    with pytest.raises(JournalError) as refused:
        copy_journal(source, target)
    assert "done is another job there" in str(refused.value)
    assert "the id req_2 is that of other there" in str(refused.value)
    assert read_journal(target, read_rows) == before


async def test_two_ends_of_one_job_contradict(source, target, clock):
    copy_journal(source, target)
    for place, end in ((source, "failed"), (target, "succeeded")):
        async with opened(place, clock) as journal:
            known = await journal.find("running")
            await journal.record(known.attempt, state=end, request_id="req_2")
    with pytest.raises(JournalError, match="running is failed, and succeeded there"):
        copy_journal(source, target)


async def test_a_journal_in_use_has_its_own_secret(source, target, clock):
    async with opened(target, clock) as journal:
        await journal.claim(intent("other"))
        secret = await journal.secret()
    made = copy_journal(source, target)
    assert (made.jobs, made.has_secret) == (4, False)
    assert content(target)[-1] == secret


async def test_a_journal_that_is_being_written_is_not_copied(source, target, clock):
    async with opened(source, clock):
        with pytest.raises(JournalError, match="it is in use"):
            copy_journal(source, target)
    assert read_journal(target, lambda database: database.entries()) in (None, [])


async def test_who_may_only_write_rows_can_copy_as_well(source, empty_postgres, postgres, clock):
    database = empty_postgres.rpartition("/")[2]
    postgres.new_role("copier", "pw")
    for rights in (
        "USAGE ON SCHEMA seedance",
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA seedance",
    ):
        postgres.execute(f"GRANT {rights} TO copier", database=database)
    copied = copy_journal(source, empty_postgres.replace("postgres@", "copier:pw@"))
    assert copied.jobs == 4
    assert await spending(empty_postgres, clock) == ({"": 102, "b": 50}, {})


async def test_others_may_be_writing_where_it_is_copied_to(source, target, clock):
    shared = {} if "://" in target else {"shared": True}
    async with opened(target, clock, **shared) as journal:
        await journal.claim(intent("theirs"))
        copy_journal(source, target)
        assert len(await journal.entries()) == 5


async def test_a_journal_of_an_old_version_is_copied(source, tmp_path, clock):
    """Its tables are brought up to date in memory: the file stays as it is."""
    old = tmp_path / "old.db"
    _write_version_3(old)
    before = old.read_bytes()
    made = copy_journal(old, tmp_path / "new.db")
    assert (made.jobs, made.attempts) == (1, 1)
    [entry] = read_entries(tmp_path / "new.db")
    assert (entry.key, entry.request_id, entry.credits_charged) == ("a", "req_1", 4)
    assert old.read_bytes() == before


def _write_version_3(path):
    from seedance_async.journal.schema import APPLICATION_ID, MIGRATIONS, migrate

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, MIGRATIONS[:3])
        connection.execute(
            "INSERT INTO jobs (key, fingerprint, request, state, request_id, credits_charged, "
            "created_at, updated_at) VALUES ('a', 'f', '{}', 'succeeded', 'req_1', 4, ?, ?)",
            (START, START),
        )


def test_no_column_is_forgotten(tmp_path):
    """A new one has to be copied, or to be named here."""
    copy_journal(_empty(tmp_path / "a.db"), tmp_path / "b.db")
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:
        tables = [name for (name,) in connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )]  # fmt: skip
        columns = {
            table: {row[1] for row in connection.execute(f"PRAGMA table_xinfo({table})")}
            for table in tables
        }
    assert columns.pop("jobs") == {*rows._JOB, "number", "attempt"}
    assert columns.pop("attempts") == {*rows._ATTEMPT, "number", "job", "owner", "cost"}
    of_sessions = {"owners", "turns", "nudges"}  # those that have it open
    assert set(columns) == {"secret", "prices", "budgets", *of_sessions}


def _empty(path):
    OpenJournal(str(path)).close()
    return path


def test_a_journal_is_not_copied_into_itself(tmp_path):
    with pytest.raises(JournalError, match="into itself"):
        copy_journal(tmp_path / "run.db", tmp_path / "." / "run.db")
