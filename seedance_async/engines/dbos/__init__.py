"""DBOS as the engine: a queue on Postgres, or in a file of SQLite, and workers that empty it.

Needs the extra `dbos`. One URL says where both are, the queue and the journal that its workers
share: `postgresql://…`, or `sqlite:///path/run.db` for several processes of one machine.
"""

from seedance_async._utils.packages import packages_required
from seedance_async.api.errors import ConfigurationError


def _missing(name: str) -> ConfigurationError:
    return ConfigurationError(f"the engine needs {name}: pip install 'seedance-async[dbos]'")


with packages_required(_missing):
    from seedance_async.engines.dbos.places import journal_at, journal_place, queue_file
    from seedance_async.engines.dbos.queue import SeedanceQueue
    from seedance_async.engines.dbos.worker import SeedanceWorker

__all__ = ["SeedanceQueue", "SeedanceWorker", "journal_at", "journal_place", "queue_file"]
