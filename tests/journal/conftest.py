"""What the journal's tests share: each kind of journal, open, on a clock that the test moves."""

import asyncio
import sqlite3
from contextlib import closing, contextmanager

import attrs
import psycopg
import pytest

from seedance_async.journal import Intent, PostgresJournal, SQLiteJournal
from seedance_async.journal.postgres.schema import migrate
from seedance_async.journal.postgres.target import Target
from tests.support.memory_journal import MemoryJournal, memory_store

START = 1_700_000_000.0


def intent(key="a", **values):
    """What is claimed where only the key matters."""
    return Intent(key, **{"fingerprint": "f", "request": "{}"} | values)


async def claimed(journal, *keys, **values):
    """Claim new keys; the number of the last attempt."""
    numbers = [await journal.claim(intent(key, **values)) for key in keys]
    assert None not in numbers
    return numbers[-1]


@attrs.define
class Clock:
    """A wall clock that stands still until it is set, forwards or back."""

    now: float = START

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture(scope="session")
def postgres_tables(postgres):
    """The URL of a database with the tables of a journal, in whatever state."""
    dsn = postgres.dsn(postgres.new_database())
    target = Target(dsn, "default")
    with target.connect() as connection:
        migrate(connection, target.schema, target.lock, target.name)
    return dsn


def empty(dsn):
    """Remove everything from the journal in a database."""
    tables = ("jobs", "attempts", "prices", "owners", "budgets", "nudges")
    with psycopg.connect(dsn) as connection:
        connection.execute("; ".join(f"DELETE FROM seedance.{table}" for table in tables))
        connection.execute("INSERT INTO seedance.budgets VALUES ('')")
        connection.execute("UPDATE seedance.turns SET next_at = 0")
        connection.execute("UPDATE seedance.journal SET embargo_until = 0")


@pytest.fixture
def empty_postgres(postgres_tables):
    """The URL of a database whose journal is empty."""
    empty(postgres_tables)
    return postgres_tables


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def new_journal(request, clock, path):
    """Creates a journal of each kind, not yet open. Add other kinds of journal here."""
    if request.param == "memory":
        return lambda: MemoryJournal(clock=clock)
    if request.param == "sqlite":
        return lambda: SQLiteJournal(path, clock=clock)
    dsn = request.getfixturevalue("empty_postgres")
    return lambda: PostgresJournal(dsn, clock=clock)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def open_shared(request, clock, path):
    """Opens one more journal on the same store, for several sessions at once."""
    store, opened = memory_store(), []
    dsn = request.getfixturevalue("empty_postgres") if request.param == "postgres" else None

    async def open_one():
        if request.param == "memory":
            journal = MemoryJournal(store, shared=True, clock=clock)
        elif request.param == "sqlite":
            journal = SQLiteJournal(path, shared=True, clock=clock)
        else:
            journal = PostgresJournal(dsn, clock=clock)
        await journal.open()
        opened.append(journal)
        return journal

    yield open_one
    for journal in opened:
        await journal.aclose()
    store.close()


@pytest.fixture
async def journal(new_journal):
    journal = new_journal()
    await journal.open()
    yield journal
    await journal.aclose()


@pytest.fixture
async def on_disk(path, clock):
    """An open journal in a file."""
    journal = SQLiteJournal(path, clock=clock)
    await journal.open()
    yield journal
    await journal.aclose()


def sqlite(path):
    return closing(sqlite3.connect(path, isolation_level=None))


async def fill(path, count=60):
    """Write a journal of some pages."""
    journal = SQLiteJournal(path, clock=lambda: START)
    await journal.open()
    for number in range(count):
        await journal.claim(Intent(f"key-{number}", "f" * 32, "x" * 400))
    await journal.aclose()


def files_in(folder):
    """Every file's name and bytes; a link by where it leads."""
    return {
        file.name: file.readlink() if file.is_symlink() else file.is_file() and file.read_bytes()
        for file in folder.iterdir()
    }


@contextmanager
def file_held(path):
    """Meanwhile the journal's thread cannot commit: another connection holds the file."""
    with sqlite(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def turns(count=3):
    """Let whatever is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)
