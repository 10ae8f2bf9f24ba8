"""The end of a process that has used obstore.

Its threads still let go of what they were given for a moment after a call has returned. If the
interpreter ends in that moment, they abort the process: a run that has gone well would have the
exit code of a crash.
"""

from __future__ import annotations

import atexit
import functools
import time

#: Seconds; the threads need some microseconds, if they get a core.
_MOMENT = 0.2


@functools.cache
def wait_for_threads_at_exit() -> None:
    """Have the process wait a moment before its interpreter ends."""
    atexit.register(time.sleep, _MOMENT)
