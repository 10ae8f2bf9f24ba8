"""Who writes a journal, and whether another writer is alive: by its process, or its last sign."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import attrs

#: An owner that can be seen neither to run nor to have ended counts as dead after this many seconds
#: without a sign of life. A submit takes less, and so does a process that was stopped for a while.
DOUBT_SECONDS = 300.0

#: Seconds between two signs of life.
BEAT_SECONDS = 30.0


@attrs.frozen
class Owner:
    """An open journal, as its table of owners knows it.

    Attributes:
        place: where its process runs.
        pid: its process.
        seen_at: its last sign of life, wall clock.
    """

    place: str
    pid: int
    seen_at: float

    def is_alive(self, now: float, doubt: float = DOUBT_SECONDS) -> bool:
        """Whether it may be alive. Wrong in one direction only, for `doubt` seconds at most."""
        if self.place == this_place() and not _runs(self.pid):
            return False
        return now - self.seen_at <= doubt


@cache
def this_place() -> str:
    """This machine since it was started, and the space of its process ids (a container's, say)."""
    boot = _text("/proc/sys/kernel/random/boot_id")
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return " ".join(part for part in (platform.node(), boot, space) if part)


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
