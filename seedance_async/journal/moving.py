"""Moving a journal aside: it gets another name and loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

from seedance_async.api.errors import JournalError
from seedance_async.journal.files import locate
from seedance_async.journal.lock import WriteLock

#: What SQLite keeps beside a file that was not closed well; part of what is in it.
_COMPANIONS = ("-wal", "-shm")


def move_journal(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a journal, be it damaged or no journal at all. It blocks.

    Args:
        path: the journal's file.
        target: its new name, in the same folder; nothing must be there.

    Raises:
        JournalError: a run is writing it, something has the new name, or it cannot be renamed.
    """
    name = os.fspath(path)
    file, new = locate(name), Path(target)
    lock = WriteLock(file)
    try:
        lock.acquire()
        try:
            # The file itself first: a log without its file is refused, a file without its log is
            # taken for the whole.
            for suffix in ("", *_COMPANIONS):
                _rename(file.with_name(file.name + suffix), new.with_name(new.name + suffix))
        finally:
            lock.release()
    except OSError as error:
        raise JournalError(f"it cannot be renamed: {error}", path=name) from error


def _rename(source: Path, target: Path) -> None:
    if source.exists():
        if target.exists():
            raise FileExistsError(17, "a file is there", str(target))
        source.rename(target)
