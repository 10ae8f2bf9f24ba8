"""Where a queue may be, and what is said of one that is not there."""

import secrets

import attrs
import pytest
from sqlalchemy import make_url

from seedance_async.engines import QueueError
from seedance_async.engines.dbos import SeedanceQueue
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
