"""`PostgresJournal`: one journal for the processes of many machines, in a PostgreSQL database."""

from seedance_async._utils.packages import packages_required
from seedance_async.api.errors import ConfigurationError

with packages_required(
    lambda name: ConfigurationError(
        f"a journal in Postgres needs {name}: pip install 'seedance-async[postgres]'"
    )
):
    from seedance_async.journal.postgres.journal import PostgresJournal

__all__ = ["PostgresJournal"]
