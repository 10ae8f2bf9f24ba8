"""`seedance worker`: a process that makes the jobs of a queue, until it is told to leave."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, worst
from seedance_async.cli.live.event_log import with_events
from seedance_async.cli.live.news import News
from seedance_async.cli.queues.place import QueuePlace, queue_option
from seedance_async.cli.queues.tally import Tally
from seedance_async.cli.queues.workers import new_worker
from seedance_async.cli.runs import destinations
from seedance_async.cli.signals import Interrupts
from seedance_async.engines import Queue, QueueError

#: Seconds between two lines with the figures.
HEARTBEAT = 30.0

#: Seconds between two looks whether the queue is empty.
LOOK = 0.5

#: Whose warnings are told: what is taken over, what holds submits up, a database that is away.
_TOLD = ("seedance_async.engines", "seedance_async.journal")


@click.command()
@queue_option("The queue:", required=True)
@destinations.output_option(
    "Folder or bucket for the videos. On several machines, one that all see.",
    options.DEFAULT_FOLDER,
)
@options.max_credits
@options.max_in_flight
@click.option("--concurrency", type=options.COUNT, help="Jobs in flight at once over all workers.")
@click.option(
    "--at-once",
    type=options.COUNT,
    default=8,
    show_default=True,
    help="Submits on their way at once: those of a process that is killed are uncertain.",
)
@click.option("--rate", type=options.POSITIVE, help="Submits a second over all workers.")
@options.max_downloads
@options.timeout
@options.queue_timeout
@click.option(
    "--lease",
    type=options.POSITIVE,
    default=60.0,
    show_default=True,
    help="Seconds without a sign of life after which others take over the jobs of a worker.",
)
@options.strict
@click.option(
    "--until-empty", is_flag=True, help="Leave once every task of the queue has its outcome."
)
@api_command
@with_events
async def worker(
    connection: Connection,
    place: QueuePlace,
    output: Path | str,
    until_empty: bool,
    **settings: Any,
) -> ExitCode:
    """Make the jobs of a queue, on this machine, until Ctrl-C or SIGTERM.

    What is not done then is handed back, and others go on with it within seconds. A worker that
    dies is noticed by the others, which take over its jobs: nothing is submitted twice.

    --max-credits bounds what all workers of the queue spend together, --concurrency what they have
    in flight, and --rate how fast they submit: give all of them the same.

    The exit code is 0 if it was told to leave; with --until-empty, it is that of the jobs which it
    has made.

    \b
    Examples:
      seedance worker --queue sqlite:///fleet.db -o videos
      seedance worker --queue postgresql://HOST/DATABASE -o s3://BUCKET/films/ --max-credits 5000
      seedance worker --queue sqlite:///fleet.db -o videos --until-empty
    """
    screen, started = connection.screen, time.monotonic()
    news = News(screen.tell, lambda request: None)
    tally = Tally(news)
    made = new_worker(connection, place, output, **settings, on_outcome=tally.told)

    def leave() -> None:
        jobs = counted(tally.running, "running job")
        screen.say(f"Leaving: {jobs} handed back; submits on their way are seen through.")
        made.leave()

    interrupts = Interrupts(leave, lambda: None)
    screen.listeners += [news.hear, tally.hear]
    with _told(), interrupts.installed():
        async with made:
            screen.say(
                f"Worker {made.executor_id} takes the tasks of {place.shown}; videos go to "
                f"{output}. Ctrl-C hands back what is not done."
            )
            async with _beside(_beat(screen, tally)), _beside(_look(place, made, until_empty)):
                await made.serve()
    screen.say(f"Worker {made.executor_id} has left: {tally.summary(time.monotonic() - started)}")
    if not until_empty:
        return ExitCode.SUCCESS
    return worst([tally.code(), *([ExitCode.INTERRUPTED] if interrupts.stopping else [])])


async def _look(place: QueuePlace, worker: Any, until_empty: bool) -> None:
    """Let the worker leave once the queue is empty, if that is asked for."""
    if not until_empty:
        return
    async with place.queue() as queue:
        while not await _is_empty(queue):  # noqa: ASYNC110 - others empty it, too
            await asyncio.sleep(LOOK)
    worker.leave()


async def _is_empty(queue: Queue) -> bool:
    try:
        return await queue.is_empty()
    except QueueError:
        return False  # nobody knows: its database is away


async def _beat(screen: Screen, tally: Tally) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT)
        screen.tell(f"{counted(tally.running, 'job')} running · {tally.text()}")


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run something beside the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@contextmanager
def _told() -> Iterator[None]:
    """Have the warnings shown that a person at a worker has to know."""
    loggers = [logging.getLogger(name) for name in _TOLD]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
