"""Waits for the database of a queue while it is away: restarted, or replaced by another server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from seedance_async.engines.contract import QueueError

_log = logging.getLogger(__name__)

#: Seconds between two tries.
_PAUSE = 1.0

Result = TypeVar("Result")


async def outlasting(read: Callable[[], Awaitable[Result]], patience: float) -> Result:
    """Read from a database, again and again while that fails because it is away.

    Args:
        read: what may be repeated.
        patience: seconds after which the failure is raised.
    """
    loop = asyncio.get_running_loop()
    since: float | None = None
    while True:
        try:
            result = await read()
        except QueueError as error:
            if since is None:
                since = loop.time()
                _log.warning("the queue cannot be read now, and is tried again: %s", error)
            if loop.time() - since >= patience:
                raise
            await asyncio.sleep(_PAUSE)
        else:
            return result
