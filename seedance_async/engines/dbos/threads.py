"""Calls that block, each in a thread of its own that the end of the process does not wait for.

A database that has stopped answering must not keep a process that was told to leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from typing import Any, TypeVar

_T = TypeVar("_T")


async def in_thread(call: Callable[[], _T]) -> _T:
    """The result of a call that blocks. If this is cancelled, the call goes on and is not heard."""
    return await _started(call)


async def to_its_end(call: Callable[[Event], _T], *, patience: float) -> _T:
    """Return the result of a blocking call. If this is cancelled, tell the call to stop.

    Then wait for it, so that it does nothing more once `CancelledError` is raised; a second
    cancellation waits no longer.

    Args:
        call: is given what is set once it should stop.
        patience: seconds for which a call that was told to stop is waited for.
    """
    stop = Event()
    future = _started(lambda: call(stop))
    future.add_done_callback(asyncio.Future.exception)  # heard, even if nobody waits any more
    try:
        await asyncio.wait({future})
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait({future}, timeout=patience)
        raise
    return future.result()


def _started(call: Callable[[], _T]) -> asyncio.Future[_T]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        try:
            outcome: tuple[Callable[[Any], None], Any] = future.set_result, call()
        except BaseException as error:
            outcome = future.set_exception, error
        with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is waiting
            loop.call_soon_threadsafe(_settle, future, *outcome)

    Thread(target=run, name="seedance-queue", daemon=True).start()
    return future


def _settle(future: asyncio.Future[Any], settle: Callable[[Any], None], outcome: Any) -> None:
    if not future.done():
        settle(outcome)
