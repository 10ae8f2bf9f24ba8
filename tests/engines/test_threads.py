"""Calls that block, and may block for ever."""

import asyncio
import threading

import pytest

from seedance_async.engines.dbos.threads import in_thread


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


def _raise(error):
    raise error
