"""Where a queue is: its URL, the journal that its workers share, and the option that names it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import attrs
import click

from seedance_async.journal import JournalEntry, SQLiteJournal
from seedance_async.journal.database import Database
from seedance_async.journal.reading import read_journal

if TYPE_CHECKING:
    from seedance_async.engines.dbos import SeedanceQueue
    from seedance_async.journal import PostgresJournal

#: Seconds between two looks of who shows a run.
LOOK_EVERY = 0.5

_T = TypeVar("_T")
_Command = TypeVar("_Command", bound=Callable[..., Any])


@attrs.frozen
class QueuePlace:
    """A queue, and the journal beside it. The journal is read without becoming one of its owners.

    Attributes:
        url: `postgresql://…` or `sqlite:///path/run.db`.
    """

    url: str = attrs.field(repr=False)

    @property
    def shown(self) -> str:
        """The URL without its password, for people; others may read what is on a screen."""
        if not self.url.startswith("postgres"):
            return self.url
        parts = urlsplit(self.url)
        user, at, host = parts.netloc.rpartition("@")
        options = [each for each in parts.query.split("&") if "password" not in each.lower()]
        netloc = f"{user.partition(':')[0]}{at}{host}"
        return parts._replace(netloc=netloc, query="&".join(options)).geturl()

    @property
    def option(self) -> str:
        """The option for a command to copy."""
        return shlex.join(["--queue", self.shown])

    @property
    def journal(self) -> Path | str:
        """The journal: a file, or the URL of a database.

        Raises:
            ConfigurationError: no queue can be there, or the extra `dbos` is not installed.
        """
        from seedance_async.engines.dbos import journal_place  # with DBOS behind it

        return journal_place(self.url)

    @property
    def is_new(self) -> bool:
        """Whether there is nothing yet; that a database is empty is not seen."""
        from seedance_async.engines.dbos import queue_file  # with DBOS behind it

        file = queue_file(self.url)
        return file is not None and not file.exists()

    def check_exists(self) -> None:
        """Raise UsageError if there is nothing: looking for it would make it."""
        if self.is_new:
            raise click.UsageError(f"there is no queue at {self.shown}")

    def queue(self, **options: Any) -> SeedanceQueue:
        """The queue, not yet open. Raises as `journal` does."""
        from seedance_async.engines.dbos import SeedanceQueue  # with DBOS behind it

        return SeedanceQueue(self.url, look_every=LOOK_EVERY, **options)

    @asynccontextmanager
    async def opened_journal(self) -> AsyncIterator[SQLiteJournal | PostgresJournal]:
        """The journal, open for writing beside the workers."""
        from seedance_async.engines.dbos import journal_at  # with DBOS behind it

        journal = journal_at(self.url)
        await journal.open()
        try:
            yield journal
        finally:
            await journal.aclose()

    async def entries(self) -> list[JournalEntry]:
        """All that the journal has. Raises JournalError if it cannot be read."""
        return await self._read(Database.entries) or []

    async def find(self, keys: Collection[str]) -> dict[str, JournalEntry]:
        """What the journal has under these keys. Raises JournalError if it cannot be read."""
        if not keys:
            return {}

        def read(database: Database) -> list[JournalEntry]:
            return database.find_all(keys)

        return {entry.key: entry for entry in await self._read(read) or ()}

    async def _read(self, read: Callable[[Database], _T]) -> _T | None:
        return await asyncio.to_thread(read_journal, self.journal, read, is_shared=True)


def _place(_context: click.Context, _option: click.Parameter, url: str | None) -> Any:
    return None if url is None else QueuePlace(url)


def queue_option(help_text: str, *, required: bool = False) -> Callable[[_Command], _Command]:
    """`--queue URL`; the command gets a `QueuePlace`."""
    return click.option(
        "--queue",
        "place",
        metavar="URL",
        envvar="SEEDANCE_QUEUE",
        required=required,
        callback=_place,
        help=f"{help_text} postgresql://…, or sqlite:///PATH.db for processes of one machine. Needs"
        " the extra dbos.  [default: SEEDANCE_QUEUE]",
    )


run_option = click.option(
    "--run",
    metavar="NAME",
    help="The run: what `batch --run` said, by default the name of the batch's folder.",
)
