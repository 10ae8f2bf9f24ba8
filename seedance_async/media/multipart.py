"""One object put in parts, as they come: all of it gets its name at once, or nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any

from seedance_async._utils.cancellation import wait_shielded

if TYPE_CHECKING:
    from obstore import Attributes, PutResult
    from obstore.store import ObjectStore

#: Bytes of a part. S3 takes 10,000 parts of at least 5 MiB.
PART_SIZE = 8 << 20

#: Parts of one object that are sent at once.
_AT_ONCE = 2

#: Seconds in which a store is told that an upload has been given up.
_ABORT_SECONDS = 10.0


async def in_parts(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Put pieces together to parts of `PART_SIZE`, of which the last may be smaller or empty."""
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        while size + len(piece) >= PART_SIZE:
            needed = PART_SIZE - size
            yield b"".join([*waiting, piece[:needed]])
            piece, size, waiting = piece[needed:], 0, []
        waiting.append(piece)
        size += len(piece)
    yield b"".join(waiting)


async def put_parts(
    store: ObjectStore, key: str, parts: AsyncIterator[bytes], attributes: Attributes | None
) -> PutResult:
    """Put an object; all of it gets its name at once, or nothing does, whatever is raised.

    A failure of `parts` and a cancellation are reported to the store, which then keeps no part.
    """
    import obstore

    first = await anext(parts)
    if len(first) < PART_SIZE:
        return await obstore.put_async(store, key, first, attributes=attributes)
    feed = _Feed()
    putting = asyncio.ensure_future(
        obstore.put_async(
            store,
            key,
            feed,
            attributes=attributes,
            use_multipart=True,
            chunk_size=PART_SIZE,
            max_concurrency=_AT_ONCE,
        )
    )
    try:
        await feed.add(first, putting)
        async for part in parts:
            if part:
                await feed.add(part, putting)
        await feed.add(None, putting)
        return await asyncio.shield(putting)
    except BaseException:
        feed.fail()
        await wait_shielded(putting, grace=_ABORT_SECONDS)
        if not putting.cancelled():
            putting.exception()  # it was raised already, or follows from the failure
        raise


class _Feed:
    """Hands parts to the upload of an object, at most one at a time."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._failed = False

    def __aiter__(self) -> _Feed:
        return self

    async def __anext__(self) -> bytes:
        part = await self._parts.get()
        if self._failed:
            raise _GivenUpError
        if part is None:
            raise StopAsyncIteration
        return part

    async def add(self, part: bytes | None, putting: asyncio.Future[Any]) -> None:
        """Hand over a part, or None at the end; raises what has ended the upload meanwhile."""
        adding = asyncio.ensure_future(self._parts.put(part))
        try:
            await asyncio.wait({adding, putting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            adding.cancel()
        if putting.done() and part is not None:
            putting.result()
            raise _GivenUpError

    def fail(self) -> None:
        """Have the upload fail, so that the store keeps none of its parts."""
        self._failed = True
        if self._parts.empty():
            self._parts.put_nowait(None)


class _GivenUpError(Exception):
    """The upload is given up."""
