"""Where a queue may be, and what is said of one that is not there."""

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


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:1/x", "sqlite:////no/such/folder/run.db"])
async def test_a_queue_that_cannot_be_reached_says_so(url):
    with pytest.raises(QueueError, match="cannot be reached"):
        await SeedanceQueue(url).status(run="autumn")
