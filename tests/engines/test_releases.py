"""Two releases beside each other: what one has queued, the other goes on with if it can read it."""

import pytest
from dbos import DBOSClient

from seedance_async.engines.dbos import names

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.parametrize("working", ["sqlite"], indirect=True),
]


@pytest.fixture
def client(running):
    client = DBOSClient(system_database_url=running.engine.url)
    yield client
    client.destroy()


async def test_names_in_the_database_are_those_of_every_release(running, client, make_requests):
    [key] = await running.queue.enqueue(make_requests(1), run=running.run)
    await running.outcomes()
    run = running.run.replace("/", "%2F")
    [row] = await client.list_workflows_async(workflow_ids=[f"{run}/{key}"])
    assert (row.app_version, row.name, row.queue_name, row.application_name) == (
        "seedance-1", "seedance.make", "seedance", "seedance",
    )  # fmt: skip
    assert (names.CANCEL, names.CANCELS) == ("seedance.cancel", "seedance-cancels")
    assert row.input["args"][0].keys() == {"key", "request"}
