"""A gate as a context manager."""

from contextlib import asynccontextmanager


@asynccontextmanager
async def through(gate):
    """Enter as the client does, however long that takes, and leave at the end."""
    if not gate.try_enter():
        await gate.wait_and_enter(float("inf"))
    try:
        yield
    finally:
        gate.leave()
