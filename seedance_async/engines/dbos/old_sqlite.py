"""What DBOS needs of SQLite on Python 3.12 and newer, where SQLite is older than 3.42.

DBOS assumes that a new Python comes with a new SQLite, and asks for `unixepoch('subsec')`. An older
SQLite, such as that of Debian 12, answers NULL, and no task could be queued.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing

from sqlalchemy import Engine, event, make_url

#: The first release in which `unixepoch('subsec')` means something.
_NEW = (3, 42)

#: The files of queues, and of nobody else, that are open in this process.
_files: set[str] = set()


def mend_clock(url: str) -> None:
    """Have all connections to the queue at this URL know the time as DBOS asks for it."""
    if sqlite3.sqlite_version_info < _NEW and url.startswith("sqlite"):
        _files.add(os.path.realpath(make_url(url).database or ""))


@event.listens_for(Engine, "connect")
def _connected(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection) and _files and _file_of(connection) in _files:
        connection.create_function("unixepoch", 1, _unixepoch)


def _file_of(connection: sqlite3.Connection) -> str:
    file: str = connection.execute("PRAGMA database_list").fetchone()[2]
    return os.path.realpath(file)


def _unixepoch(moment: object) -> float | int | None:
    if moment == "subsec":
        return time.time()
    with closing(sqlite3.connect(":memory:")) as plain:
        found: int | None = plain.execute("SELECT unixepoch(?)", (moment,)).fetchone()[0]
    return found
