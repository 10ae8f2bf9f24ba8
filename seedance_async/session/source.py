"""Where the requests of a stream come from: any iterable, sync or async, pulled one at a time.

All code of an async source runs in the task that pulls, so that a timeout or a cancel scope inside
it is entered, fires and is left in one task. Nothing here knows of jobs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sized
from typing import Any

from seedance_async.api.job_media import JobMedium
from seedance_async.api.request import GenerationRequest

#: One job of a stream: its request, or a key of the caller's own with it.
Item = GenerationRequest | tuple[str, GenerationRequest]
Requests = Iterable[Item] | AsyncIterable[Item]

#: What a source has after its last request.
END = object()


class Source:
    """The requests of a batch, one at a time.

    Attributes:
        is_async: whether the next request may take any time to come.
        named: keys of jobs whose videos are media of later requests: known of a list or a tuple,
            and of an iterable that has them as an attribute of this name.
        size: how many requests there are; 0 if that cannot be known beforehand.
    """

    def __init__(self, requests: Requests) -> None:
        self.is_async = isinstance(requests, AsyncIterable)
        self.size = len(requests) if isinstance(requests, Sized) else 0
        self.named: frozenset[str] = _named_in(requests)
        if isinstance(requests, AsyncIterable):
            self._async = aiter(requests)
        elif isinstance(requests, Iterable) and not isinstance(requests, (str, bytes, dict)):
            self._sync = iter(requests)
        else:
            raise TypeError(f"an iterable of GenerationRequest is needed, not {requests!r}")

    async def pull(self) -> Any:
        """The next request, or `END`."""
        return await anext(self._async, END) if self.is_async else next(self._sync, END)

    async def interrupt(self, cancellation: asyncio.CancelledError) -> Any:
        """Raise in an async generator a cancellation that came while it was not running.

        Returns:
            As `pull`: the generator may have wanted it, for a timeout or a cancel scope of its own.
        """
        if not self.is_async or not isinstance(self._async, AsyncGenerator):
            raise cancellation
        try:
            return await self._async.athrow(cancellation)
        except StopAsyncIteration:
            return END

    def rest(self) -> Iterator[Any]:
        """What is left of a sync source. Nothing of an async one: it may take any time to come."""
        return iter(()) if self.is_async else self._sync

    async def aclose(self) -> None:
        """Close an async generator. What is sync is left as it is."""
        if self.is_async and isinstance(self._async, AsyncGenerator):
            await self._async.aclose()


def _named_in(requests: object) -> frozenset[str]:
    if not isinstance(requests, (list, tuple)):
        named = getattr(requests, "named", None)
        return named if isinstance(named, frozenset) else frozenset()
    both = (item[-1] if isinstance(item, tuple) and item else item for item in requests)
    media = (each for request in both for each in _media_of(request))
    return frozenset(each.key for each in media if isinstance(each, JobMedium) and not each.job)


def _media_of(request: object) -> tuple[Any, ...]:
    media = request.media_urls if isinstance(request, GenerationRequest) else ()
    return media if isinstance(media, tuple) else ()
