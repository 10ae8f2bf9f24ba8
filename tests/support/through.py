"""A gate as a context manager."""

from contextlib import asynccontextmanager


@asynccontextmanager
async def through(gate):
    """Enter when it opens, however long that takes, and leave at the end."""
    await gate.wait_and_enter(float("inf"))
    try:
        yield
    finally:
        gate.leave()
