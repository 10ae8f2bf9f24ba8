"""Calls that block, and may block for ever."""

import asyncio
import threading

import pytest

from seedance_async.engines.dbos.threads import in_thread, to_its_end


async def test_the_outcome_of_a_call_comes_back():
    assert await in_thread(threading.current_thread) is not threading.current_thread()
    with pytest.raises(LookupError, match="gone"):
        await in_thread(lambda: _raise(LookupError("gone")))


async def test_a_call_that_never_ends_can_be_left_and_holds_nothing_up():
    goes_on, ended = threading.Event(), threading.Event()
    seen = []

    def call():
        seen.append(threading.current_thread())
        goes_on.wait()
        ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await in_thread(call)
    assert seen[0].daemon, "the end of the process does not wait for it"
    goes_on.set()
    assert await in_thread(lambda: ended.wait(10))


async def test_a_call_that_is_cancelled_is_told_to_stop_and_has_stopped():
    started, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def call(stop):
        loop.call_soon_threadsafe(started.set)
        stop.wait(10)
        ended.set()
        raise LookupError("nobody hears of it")

    calling = asyncio.create_task(to_its_end(call, patience=10))
    await started.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert ended.is_set()


@pytest.mark.parametrize(("patience", "cancels"), [(0.01, 1), (1000, 2)])
async def test_a_call_that_does_not_stop_holds_nobody_up_for_ever(patience, cancels):
    goes_on = threading.Event()
    calling = asyncio.create_task(to_its_end(lambda _: goes_on.wait(), patience=patience))
    for _ in range(cancels):
        await asyncio.sleep(0)
        calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    goes_on.set()


async def test_the_outcome_of_a_call_that_may_be_stopped_comes_back():
    assert await to_its_end(lambda stop: stop.is_set(), patience=10) is False
    with pytest.raises(LookupError, match="gone"):
        await to_its_end(lambda _: _raise(LookupError("gone")), patience=10)


def _raise(error):
    raise error
