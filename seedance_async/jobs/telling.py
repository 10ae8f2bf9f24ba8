"""What the parts of a session tell of their jobs while it happens; here, to nobody.

`seedance_async.jobs.events` makes events of it. Most sessions need none, and so import none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from seedance_async.api.errors import SeedanceError
from seedance_async.jobs.registry import JobRecord, SavedFile
from seedance_async.jobs.state import JobState


class Telling:
    """What can be told. What a submit came to is told only once it is on disk.

    From `submitted` until `release`, and within `holding`, what happens to that job waits.
    """

    @contextmanager
    def holding(self, record: JobRecord) -> Iterator[None]:
        """Keep what happens to a job until the block is left, and tell it then."""
        yield

    def release(self, record: JobRecord) -> None:
        """Tell what was kept."""

    def submitted(self, record: JobRecord) -> None:
        """A job is about to be sent; how that ends is told after `release`."""

    def withdrawn(self, record: JobRecord) -> None:
        """A job was forgotten; that is told if its submit was."""

    def moved(self, record: JobRecord, before: JobState) -> None:
        """A job's state has moved."""

    def poll_failed(self, record: JobRecord, error: SeedanceError) -> None:
        """A status query of a job has failed."""

    def saved(self, record: JobRecord, saved: SavedFile) -> None:
        """A job's video is in its place."""

    def throttled(self, operation: Literal["submit", "query"], retry_after: float | None) -> None:
        """A rate limit has refused a call."""
