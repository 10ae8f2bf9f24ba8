"""An event loop whose clock jumps to the next timer whenever nothing else is ready.

A test that waits for an hour ends at once, and every run has the same order of events. Not for
tests with sockets or threads, which do not follow this clock.
"""

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jump = 0.0

    def select(self, timeout=None):
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            ready = super().select(5)
            if not ready:
                raise RuntimeError("this test waits for something that can never happen")
            return ready
        self.jump += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1_000.0 + self._jumping.jump

    def block(self, seconds: float) -> None:
        """Let time pass while nothing else runs, as a slow call on the loop would."""
        self._jumping.jump += seconds

    async def shutdown_default_executor(self, timeout=None) -> None:
        """As in the base class, but without the timeout that newer Pythons have.

        Threads do not follow this clock, which would jump past the timeout at once.
        """
        await super().shutdown_default_executor()
