"""Those who wait for outcomes while the database is away."""

import asyncio

import pytest

from seedance_async.engines import QueueError
from seedance_async.engines.dbos.outages import outlasting
from seedance_async.engines.dbos.watch import RunWatch
from seedance_async.engines.task import Outcome
from tests.engines.test_contract_alone import outcomes


class Row:
    """A row of DBOS that has ended."""

    created_at = completed_at = 1
    status, executor_id = "SUCCESS", "1@here"

    def __init__(self, key):
        self.workflow_id = f"autumn/{key}"
        self.output = Outcome(key, "succeeded").dump()


class Failing:
    """Rows whose reader loses the connection after the first page, once."""

    def __init__(self, pages):
        self.pages, self.fails = pages, True

    async def of_run(self, run, *, status=None, since=None, ended_since=None):
        seen = since or ended_since
        return [] if status == "PENDING" or seen else [row for page in self.pages for row in page]

    async def with_outputs(self, ids):
        for page in self.pages:
            yield [row for row in page if row.workflow_id in ids]
            if self.fails:
                self.fails = False
                raise lost()


def lost():
    return QueueError("connection refused")


async def test_a_look_that_fails_on_its_way_is_repeated_whole():
    watch = RunWatch(Failing([[Row("one")], [Row("two")]]), "autumn")
    with pytest.raises(QueueError):
        await watch.look()
    assert [each.key for each in await watch.look()] == ["one", "two"]
    assert watch.status.is_complete
    assert await watch.look() == []


@pytest.mark.virtual_time
async def test_what_is_away_for_longer_than_patience_is_an_error(caplog):
    async def read():
        raise lost()

    began = asyncio.get_running_loop().time()
    with pytest.raises(QueueError):
        await outlasting(read, 60.0)
    assert asyncio.get_running_loop().time() - began == 60.0
    assert caplog.text.count("the queue cannot be read now") == 1


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_reader_outlasts_a_database_that_is_away(engine, postgres, make_requests, caplog):
    database = engine.url.rpartition("/")[2]
    async with engine.queue() as queue:
        await queue.enqueue(make_requests(2), run="autumn")
        reading = asyncio.create_task(outcomes(queue, "autumn"))
        await asyncio.to_thread(
            postgres.execute, f"ALTER DATABASE {database} ALLOW_CONNECTIONS false"
        )
        await asyncio.to_thread(
            postgres.execute,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", database,
        )  # fmt: skip
        async with asyncio.timeout(30):
            while "the queue cannot be read now" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await asyncio.to_thread(
            postgres.execute, f"ALTER DATABASE {database} ALLOW_CONNECTIONS true"
        )
        async with engine.worker():
            assert len(await reading) == 2
