"""A small file that is written whole, or left as it was."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file's content; one process at a time. Raises OSError.

    A process that is killed leaves a hidden file beside it, which the next one replaces.
    """
    part = path.with_name(f".{path.name[:80]}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
