"""What DBOS hands over to a worker that is not there any more has no outcome: others make it."""

import asyncio

import pytest

from seedance_async.engines.dbos import launch


async def nothing(workflow_id, task):
    raise AssertionError("it is never run")


def without_a_worker():
    return None


def with_a_closed_loop():
    loop = asyncio.new_event_loop()
    loop.close()
    return loop, nothing


@pytest.mark.parametrize("making", [without_a_worker, with_a_closed_loop])
async def test_what_comes_after_the_worker_has_gone_is_left_to_others(making, monkeypatch):
    monkeypatch.setattr(launch, "_making", making())
    with pytest.raises(asyncio.CancelledError):
        await launch._in_worker("autumn/river", {})
