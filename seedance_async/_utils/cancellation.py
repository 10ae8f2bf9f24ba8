"""Waiting that a cancellation of the waiter does not cut short, within bounds.

Both kinds of cancellation are outlived: asyncio's, which comes once for each `cancel()`, and
anyio's, which comes again at every await. Neither is swallowed: whoever calls these raises it
afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import anyio

_T = TypeVar("_T")


async def shielded(work: Awaitable[_T]) -> _T:
    """Await something to its end even if the caller is cancelled meanwhile, and cancel then."""
    task = asyncio.ensure_future(work)
    cancelled = await wait_shielded(task)
    result = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return result


async def wait_shielded(
    task: asyncio.Future[Any], *, grace: float | None = None, cancel: bool = True
) -> bool:
    """Wait until a task is over, whatever cancellations come meanwhile.

    Args:
        task: what is waited for; its result or exception stays with it.
        grace: seconds after which the task is cancelled; never if absent.

    Returns:
        Whether the waiter was cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    deadline = None if grace is None else loop.time() + grace
    cancelled = False
    with anyio.CancelScope(shield=True):
        while not task.done():
            left = None if deadline is None else deadline - loop.time()
            if left is not None and left <= 0:
                if not cancel:
                    break
                task.cancel()
                left = 0.1
            try:
                await asyncio.wait({task}, timeout=left)
            except asyncio.CancelledError:
                cancelled = True
    return cancelled


def was_cancelled(error: BaseException) -> bool:
    """Whether an error is the cancellation of this task, and not of something it waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def is_broken_off(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the end of a coroutine whose loop was closed in the middle.

    It sees a GeneratorExit, or what became of that, while another loop is running or none.
    """
    try:
        return asyncio.get_running_loop() is not loop
    except RuntimeError:
        return True
