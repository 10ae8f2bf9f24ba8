"""Small files that are either whole or as they were before, whenever the process ends."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, *, on_disk: bool = False) -> None:
    """Replace a file's content; one process at a time. Raises OSError.

    A process that is killed leaves a hidden file beside it, which the next one replaces.

    Args:
        path: the file.
        data: its new content.
        on_disk: whether that survives a power failure from now on.
    """
    part = path.with_name(f".{path.name[:80]}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            if on_disk:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if on_disk:
        _sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, if it is not there; on disk when this returns. Raises OSError."""
    path.mkdir(exist_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    if os.name != "posix":  # it cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
