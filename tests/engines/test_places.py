"""Where a queue may be, and what is said of one that is not there."""

import secrets
from pathlib import Path

import attrs
import pytest
from sqlalchemy import make_url

from seedance_async import ConfigurationError
from seedance_async.engines import QueueError
from seedance_async.engines.dbos import SeedanceQueue, SeedanceWorker
from seedance_async.engines.dbos.places import journal_place
from seedance_async.journal import SQLiteJournal
from tests.engines.conftest import OnDBOS
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_several_hosts_may_be_given_of_which_one_is_there(
    postgres_dsn, emulator, make_requests, tmp_path
):
    parsed, requests = make_url(postgres_dsn), make_requests(1)
    query = {"host": "127.0.0.1,127.0.0.1", "port": f"1,{parsed.port}"}
    url = parsed.set(host="", port=None).update_query_dict(query)
    engine = OnDBOS(url.render_as_string(hide_password=False), emulator, tmp_path / "videos")
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue(requests, run="autumn")
        assert [each.state async for each in queue.results(run="autumn")] == ["succeeded"]
    assert charged(emulator, requests) == {1: 1}


async def test_once_the_tables_are_there_a_role_needs_rows_alone(
    postgres, emulator, make_requests, tmp_path
):
    database, role = postgres.new_database(), f"fleet_{secrets.token_hex(4)}"
    maker = OnDBOS(postgres.dsn(database), emulator, tmp_path / "videos")
    async with maker.worker():
        pass
    postgres.new_role(role, "word")
    schemas = "SCHEMA dbos, seedance"
    for rights in ("USAGE ON", "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN"):
        postgres.execute(f"GRANT {rights} {schemas} TO {role}", database=database)
    engine = attrs.evolve(maker, url=postgres.dsn(database, user=role, password="word"))
    async with engine.queue() as queue, engine.worker():
        await queue.enqueue(make_requests(1), run="autumn")
        assert [each.state async for each in queue.results(run="autumn")] == ["succeeded"]
        assert await queue.forget(run="autumn") == 1


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "sqlite:////no/such/folder/run.db"])
async def test_a_queue_that_cannot_be_reached_says_so(url):
    with pytest.raises(QueueError, match="cannot be reached"):
        await SeedanceQueue(url).status(run="autumn")


async def test_a_worker_with_another_journal_than_the_queue_has_is_refused(tmp_path):
    """It would buy again what the others have bought."""
    url = f"sqlite:///{tmp_path}/run.db"
    other = SQLiteJournal(tmp_path / "other.db", shared=True)
    with pytest.raises(ConfigurationError, match=r"other\.db: all workers share it"):
        SeedanceWorker(url, api_key="key", journal=other)
    same = SQLiteJournal(tmp_path / "run.journal.db", shared=True)
    SeedanceWorker(url, api_key="key", base_url="https://api.example", journal=same)


async def test_no_two_queues_have_one_journal():
    files = ["run.db", "run.sqlite", "run", "autumn.v1", "autumn.v2"]
    assert journal_place("sqlite:///run.db") == Path("run.journal.db")
    assert len({journal_place(f"sqlite:///{file}") for file in files}) == len(files)


async def test_a_queue_has_one_journal_however_its_file_is_named(tmp_path):
    """Who comes by a link would buy again what the others have bought."""
    folder, file = tmp_path / "folder", tmp_path / "here" / "run.db"
    file.parent.mkdir()
    folder.symlink_to(file.parent)
    links = [tmp_path / "link.db", tmp_path / "link", tmp_path / "link of a link.db"]
    for link, to in zip(links, [file, file, links[0]], strict=True):
        link.symlink_to(to)
    names = [file, *links, folder / "run.db", file.parent / ".." / "here" / "run.db"]

    def journals():
        return {Path(journal_place(f"sqlite:///{name}")).resolve() for name in names}

    assert journals() == {file.with_name("run.journal.db")}, "before the file is there"
    file.touch()
    assert journals() == {file.with_name("run.journal.db")}
