"""The worker of a process, as the command line starts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedance_async.cli.connection import Connection
from seedance_async.cli.queues.place import QueuePlace

if TYPE_CHECKING:
    from seedance_async.engines.dbos import SeedanceWorker

#: Seconds between two looks of a worker for tasks.
LOOK_EVERY = 1.0


def new_worker(
    connection: Connection, place: QueuePlace, output: Path | str, **options: Any
) -> SeedanceWorker:
    """A worker, not yet open.

    Args:
        connection: where the API is.
        place: the queue.
        output: the folder or the bucket for the videos.
        options: those of `SeedanceWorker`, as the command line names them.

    Raises:
        ConfigurationError: no key, no queue can be there, or the extra `dbos` is not installed.
    """
    from seedance_async.engines.dbos import SeedanceWorker  # with DBOS behind it

    renamed = {"timeout": "job_timeout"}
    given = {renamed.get(name, name): value for name, value in options.items()}
    options = connection.session_options(**given)
    return SeedanceWorker(place.url, output, look_every=LOOK_EVERY, **options)
