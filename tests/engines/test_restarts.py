"""The database of the queue and the journal is restarted, or is not there at all."""

import asyncio

import attrs
import pytest
from sqlalchemy import make_url

from seedance_async.engines import QueueError
from seedance_async.engines.dbos import SeedanceQueue
from tests.engines.conftest import OnDBOS
from tests.engines.test_failures import finish_all
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def own_engine(own_postgres, held_emulator, tmp_path):
    return OnDBOS(own_postgres.dsn(), held_emulator, tmp_path / "videos")


async def test_a_run_goes_on_when_its_database_was_restarted(
    own_engine, own_postgres, make_requests
):
    requests, emulator = make_requests(3), own_engine.emulator
    async with own_engine.queue() as queue, own_engine.worker():
        await queue.enqueue(requests, run="autumn")
        await emulator.wait_until(lambda: charged(emulator, requests) == {1: 3})
        following = queue.follow(run="autumn")
        await anext(following)
        await asyncio.to_thread(own_postgres.restart, "immediate")
        finish_all(emulator, requests)
        told = [outcome async for outcomes, _ in following for outcome in outcomes]
    assert {each.state for each in told} == {"succeeded"}
    assert charged(emulator, requests) == {1: 3}


async def test_several_hosts_may_be_given_of_which_one_is_there(own_engine, make_requests):
    parsed = make_url(own_engine.url)
    query = {"host": "127.0.0.1,127.0.0.1", "port": f"1,{parsed.port}"}
    url = parsed.set(host="", port=None).update_query_dict(query)
    engine = attrs.evolve(own_engine, url=url.render_as_string(hide_password=False))
    async with engine.queue() as queue, engine.worker():
        requests, emulator = make_requests(1), engine.emulator
        await queue.enqueue(requests, run="autumn")
        await emulator.wait_until(lambda: charged(emulator, requests) == {1: 1})
        finish_all(emulator, requests)
        assert [each.state async for each in queue.results(run="autumn")] == ["succeeded"]


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "sqlite:////no/such/folder/run.db"])
async def test_a_queue_that_cannot_be_reached_says_so(url):
    with pytest.raises(QueueError, match="cannot be reached"):
        await SeedanceQueue(url).status(run="autumn")
