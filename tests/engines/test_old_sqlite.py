"""A queue in a file of SQLite, where SQLite is older than DBOS expects on this Python."""

import sqlite3
import time

import pytest
from sqlalchemy import create_engine, text

from seedance_async.engines.dbos import old_sqlite


@pytest.fixture
def moment(monkeypatch):
    """What a connection to a file says that the time is, once it is known as a queue's or not."""
    monkeypatch.setattr(old_sqlite, "_files", set())
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))

    def asked(file, *, queue, what="subsec"):
        url = f"sqlite:///{file}"
        if queue:
            old_sqlite.mend_clock(url)
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                return connection.execute(text(f"SELECT unixepoch('{what}')")).scalar()
        finally:
            engine.dispose()

    return asked


def test_it_knows_the_time_to_the_millisecond(moment, tmp_path):
    before = time.time()
    assert before <= moment(tmp_path / "run.db", queue=True) <= time.time()


def test_any_other_time_is_what_sqlite_makes_of_it(moment, tmp_path):
    assert moment(tmp_path / "run.db", queue=True, what="1970-01-02") == 86_400
    assert moment(tmp_path / "run.db", queue=True, what="never") is None


@pytest.mark.skipif(sqlite3.sqlite_version_info >= (3, 42), reason="this SQLite knows it by itself")
def test_files_of_others_are_left_alone(moment, tmp_path):
    assert moment(tmp_path / "theirs.db", queue=False) is None
