"""The means by which a caller breaks off what it waits for: asyncio's, and anyio's.

Each awaits some work and breaks it off after some seconds, if it is not over by then.
"""

import asyncio

import anyio

from seedance_async import SeedanceError


class SiblingError(Exception):
    """What another task of the same group fails with."""


class _SiblingError(Exception):
    """What another task of the same group fails with."""


#: What a wait comes to that was left without an exception.
NOTHING = object()


async def _cancelled(work, after):
    return await _cancelled_at(work, (after,))


async def _cancelled_often(work, after):
    return await _cancelled_at(work, (after, after, after + 0.5))


async def _cancelled_at(work, times):
    task = asyncio.ensure_future(work)
    for after in times:
        asyncio.get_running_loop().call_later(after, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if asyncio.current_task().cancelling():
            task.cancel()
        raise


async def _in_a_cancelled_scope(work, after):
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_later(after, scope.cancel)
        return await work
    return NOTHING


async def _timed_out(work, after):
    async with asyncio.timeout(after):
        return await work


async def _moved_on(work, after):
    with anyio.move_on_after(after):
        return await work
    return NOTHING


async def _failed_after(work, after):
    with anyio.fail_after(after):
        return await work


async def _beside_a_sibling(work, after):
    async def fail():
        await asyncio.sleep(after)
        raise SiblingError

    failures = None
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(work)
            sibling = tasks.create_task(fail())
            task.add_done_callback(lambda _: sibling.cancel())
    except* SiblingError as group:
        failures = group
    except* (SeedanceError, ValueError, RuntimeError):
        pass  # it is the task's own, and comes with its result
    if failures is not None and task.cancelled():
        raise SiblingError from failures
    return task.result()


WRAPS = {
    "cancel": _cancelled,
    "cancel often": _cancelled_often,
    "scope": _in_a_cancelled_scope,
    "timeout": _timed_out,
    "move_on": _moved_on,
    "fail_after": _failed_after,
    "sibling": _beside_a_sibling,
}
