"""An event loop whose clock jumps to the next timer as soon as there is nothing else to do.

A test that waits an hour ends at once, and two runs see the same order of events. Not for tests
with sockets or threads: what they wait for is not on this clock.
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
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1_000.0 + self._jumping.jump

    def block(self, seconds: float) -> None:
        """Let time pass while nothing else can run, as a slow call on the loop does."""
        self._jumping.jump += seconds

    async def shutdown_default_executor(self, timeout=None) -> None:
        """As the base class, but without the limit in seconds that newer Pythons have.

        Threads are not on this clock, which would jump over it at once.
        """
        await super().shutdown_default_executor()
