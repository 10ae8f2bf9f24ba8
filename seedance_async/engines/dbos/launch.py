"""The one DBOS of this process: started for a worker, and stopped with it.

DBOS runs workflows on an event loop of its own, in a thread of its own; what they do is handed over
to the worker's loop. So DBOS's blocking calls hold up no job, and its thread pool is not the one of
the application.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from dbos import DBOS, DBOSConfig

from seedance_async.engines.dbos.names import APPLICATION, MAKE, QUEUE, VERSION
from seedance_async.engines.dbos.places import IDLE_SECONDS, dbos_url, reaching
from seedance_async.engines.dbos.threads import in_thread

_log = logging.getLogger(__name__)

#: Makes the task of a workflow, in the worker of this process; DBOS keeps the text it returns.
Make = Callable[[str, dict[str, Any]], Coroutine[Any, Any, str]]

#: Seconds that DBOS has to stop. It is quick, but for calls to a database that does not answer.
STOP_SECONDS = 10.0

_making: tuple[asyncio.AbstractEventLoop, Make] | None = None


@DBOS.workflow(name=MAKE, max_recovery_attempts=None)
async def _make(task: dict[str, Any]) -> str:
    workflow_id = DBOS.workflow_id
    assert workflow_id is not None
    return await _in_worker(workflow_id, task)


async def _in_worker(workflow_id: str, task: dict[str, Any]) -> str:
    if _making is None:
        raise asyncio.CancelledError  # the worker has gone; the task stays for others
    loop, make = _making
    making = make(workflow_id, task)
    try:
        future = asyncio.run_coroutine_threadsafe(making, loop)
    except RuntimeError:  # the loop is closed, and the worker was never left
        making.close()
        raise asyncio.CancelledError from None
    return await asyncio.wrap_future(future)


async def launch(url: str, make: Make, *, executor_id: str) -> Callable[[], Awaitable[None]]:
    """Start DBOS; returns what stops it. What was being made is cancelled then, and has no outcome.

    Args:
        url: where the queue is.
        make: makes a task, on this event loop.
        executor_id: the worker, as DBOS knows it.

    Raises:
        RuntimeError: another worker runs in this process, or somebody else who uses DBOS.
    """
    global _making
    if _making is not None:
        raise RuntimeError("a process can have one worker at a time")
    _making = (asyncio.get_running_loop(), make)
    config = DBOSConfig(
        name=APPLICATION,
        system_database_url=dbos_url(url),
        application_version=VERSION,
        executor_id=executor_id,
        sys_db_pool_size=8,
        sys_db_idle_transaction_timeout_sec=IDLE_SECONDS,
        max_executor_threads=8,
        log_level="WARNING",
        enable_otlp=False,
        notification_listener_polling_interval_sec=0.1,
    )

    def start() -> None:
        DBOS(config=config)
        if DBOS.executor_id != executor_id:  # it is the one that was there before
            raise RuntimeError("this process uses DBOS already: a worker needs one of its own")
        try:
            DBOS.listen_queues([QUEUE])
            DBOS.launch()
        except BaseException:
            DBOS.destroy()
            raise
        if _making is None:  # whoever waits for this was cancelled
            DBOS.destroy()

    async def stop() -> None:
        global _making
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await in_thread(DBOS.destroy)
        except TimeoutError:  # this process can have no other worker
            _log.warning("DBOS has not stopped: its database does not answer")
            return
        _making = None

    try:
        with reaching():
            await in_thread(start)
    except BaseException:
        _making = None
        raise
    return stop
