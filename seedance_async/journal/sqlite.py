"""`SQLiteJournal`: the journal in a file, which survives the process however it ends."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from functools import partial

from seedance_async.journal.journal_file import OpenJournal
from seedance_async.journal.owner import BEAT_SECONDS, DOUBT_SECONDS
from seedance_async.journal.threaded import ThreadedJournal
from seedance_async.journal.writer import Writer


class SQLiteJournal(ThreadedJournal):
    """A `Journal` in one SQLite file. It contains prompts, so only its owner may read it.

    Beside the file are `<path>.lock`, which stays, and, while it is open, SQLite's `-wal` and
    `-shm`. A copy of the file alone that is made meanwhile lacks the latest jobs: a run with it
    would buy them again.

    Args:
        path: the file; created if it is missing or empty. Its folder must exist.
        shared: whether several sessions, of several processes of this machine perhaps, may write
            it at the same time. Each must say so; otherwise the second one is refused.
        clock: returns seconds since the epoch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shared: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(os.fspath(path))
        self._shared, self._clock, self.doubt = shared, clock, DOUBT_SECONDS

    @property
    def is_shared(self) -> bool:  # noqa: D102
        return self._shared

    def _new_writer(self, loop: asyncio.AbstractEventLoop) -> Writer:
        opener = partial(OpenJournal, self._path, is_shared=self._shared, clock=self._clock)
        return Writer(self._path, loop, opener, beat=BEAT_SECONDS if self._shared else None)
