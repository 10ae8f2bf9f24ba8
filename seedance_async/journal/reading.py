"""Reads a journal wherever it is, a file or a database, without becoming one of its owners."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from seedance_async.journal.database import Database
from seedance_async.journal.journal_file import read_file

_T = TypeVar("_T")


def read_journal(
    place: str | os.PathLike[str], read: Callable[[Database], _T], *, is_shared: bool = False
) -> _T | None:
    """What a function reads from a journal; None if there is none yet. Blocks.

    Args:
        place: a file, or the URL of a database of Postgres; others may be writing it.
        read: may be called again, if the journal is written meanwhile.
        is_shared: whether it tells what sessions are submitting at this moment; in Postgres it
            always does.

    Raises:
        JournalError: it is no journal, or cannot be read.
        ConfigurationError: the extra `postgres` is needed, and is not installed.
    """
    name = os.fspath(place)
    if not is_url(name):
        return read_file(name, read, is_shared=is_shared) if Path(name).exists() else None
    from seedance_async.journal.postgres.once import read_once  # with psycopg behind it

    return read_once(name, read)


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is in a database, and not in a file."""
    return "://" in os.fspath(place)
