"""Writes a journal wherever it is, a file or a database, in one transaction."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from seedance_async.api.errors import JournalError
from seedance_async.journal.database import Database
from seedance_async.journal.journal_file import OpenJournal
from seedance_async.journal.reading import is_url


@contextmanager
def writing(place: str | os.PathLike[str], *, many: bool = False) -> Iterator[Database]:
    """A journal within a transaction that writes, which ends with the block. Blocks.

    Args:
        place: a file, created if it is missing, or the URL of a database of Postgres; sessions
            that share it may be writing it.
        many: whether very many attempts are written.

    Raises:
        JournalError: it cannot be used or written.
        ConfigurationError: the extra `postgres` is needed, and is not installed.
    """
    name = os.fspath(place)
    if is_url(name):
        from seedance_async.journal.postgres.once import writing_once  # with psycopg behind it

        with writing_once(name, many=many) as database:
            yield database
        return
    opened = OpenJournal(name, is_shared=True)
    try:
        opened.begin(writes=True)
        yield opened.database
        opened.database.commit()
    except (sqlite3.Error, OSError) as error:
        opened.database.rollback()
        raise JournalError(f"it cannot be written: {error}", path=name) from error
    except BaseException:
        opened.database.rollback()
        raise
    finally:
        opened.close()
