"""What `SeedanceSession.as_completed` returns: an async generator that knows when it is dropped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from seedance_async.jobs.job import Job


class CompletedJobs(AsyncGenerator[Job, None]):
    """The jobs of a stream, as an async generator.

    A loop that is left by `break` or by an exception drops its generator, which the event loop
    closes some turns later. By then the program may have asked for the same requests again, so what
    is left of the stream has to be known at once.

    Args:
        jobs: the generator.
        dropped: called when this is garbage, in whatever thread, whether the generator has ended or
            not.
    """

    def __init__(self, jobs: AsyncGenerator[Job, None], dropped: Callable[[], None]) -> None:
        self._jobs, self._dropped = jobs, dropped

    def __anext__(self) -> Coroutine[Any, Any, Job]:
        return self._jobs.__anext__()

    def asend(self, value: None) -> Coroutine[Any, Any, Job]:
        """See `AsyncGenerator`."""
        return self._jobs.asend(value)

    def athrow(self, *error: Any) -> Coroutine[Any, Any, Job]:
        """See `AsyncGenerator`."""
        return self._jobs.athrow(*error)

    def aclose(self) -> Coroutine[Any, Any, None]:
        """See `AsyncGenerator`."""
        return self._jobs.aclose()

    def __del__(self) -> None:
        self._dropped()
