"""What DBOS hands over to a worker that is not there any more has no outcome: others make it."""

import asyncio
import threading

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


class SlowDBOS:
    """Starts once it may, in whatever thread that is."""

    def __init__(self, *, config):
        type(self).executor_id = config["executor_id"]

    starting, may_start, destroyed = threading.Event(), threading.Event(), threading.Event()

    @staticmethod
    def listen_queues(names):
        pass

    @classmethod
    def launch(cls):
        cls.starting.set()
        cls.may_start.wait(30)

    @classmethod
    def destroy(cls):
        cls.destroyed.set()


async def test_what_starts_for_a_worker_that_was_cancelled_is_stopped(monkeypatch):
    monkeypatch.setattr(launch, "DBOS", SlowDBOS)
    opening = asyncio.create_task(launch.launch("sqlite:///run.db", nothing, executor_id="1@here"))
    await asyncio.to_thread(SlowDBOS.starting.wait, 30)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    SlowDBOS.may_start.set()
    assert await asyncio.to_thread(SlowDBOS.destroyed.wait, 30)
