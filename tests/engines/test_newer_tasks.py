"""A task that a newer release has queued, and the workers of this one cannot read."""

import pytest

from seedance_async.engines import Outcome, Task
from seedance_async.engines.dbos.queue import _options
from tests.support.ledger import charged

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_this_release_cannot_read_is_left_to_those_who_can(
    engine, emulator, make_requests, monkeypatch, caplog
):
    requests, load = make_requests(2), Task.load
    async with engine.queue() as queue, engine.worker(lease=0.25):
        for key, request in zip(["k", "c"], requests, strict=True):
            newer = Task(key, request).dump() | {"colour": "red"}
            await queue._rows.client.enqueue_async(_options("autumn", key, 0), newer)
        taken = aiter(queue.follow(run="autumn"))
        while (await anext(taken))[1].running < 2:
            pass
        assert await queue.cancel(run="autumn", keys=["c"]) == 1
        told = queue.results(run="autumn")
        assert await anext(told) == Outcome("c", "cancelled")

        def newer(data):
            return load({key: data[key] for key in data if key != "colour"})

        monkeypatch.setattr(Task, "load", newer)
        [made] = [each async for each in told]
    assert (made.key, made.state) == ("k", "succeeded")
    assert charged(emulator, requests) == {1: 1, 0: 1}
    assert caplog.text.count("cannot read") == 1
    assert "colour" in caplog.text
