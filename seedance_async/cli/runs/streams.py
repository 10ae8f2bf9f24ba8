"""From lines to jobs that have ended: submitted, or resumed by their keys in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress

from seedance_async import GenerationRequest, Job, SeedanceError, SeedanceSession
from seedance_async.cli.exit_codes import NotResumedError, StoppedRunError
from seedance_async.cli.inputs import Line, Place
from seedance_async.journal import JournalEntry

#: Each line with its job; or, for one that an earlier run sent, why it is not resumed.
Results = AsyncGenerator[tuple[Line, Job | NotResumedError]]
Stream = Callable[[SeedanceSession, Iterator[Line]], Results]


async def submit_lines(
    session: SeedanceSession, lines: Iterator[Line], *, named: frozenset[str] = frozenset()
) -> Results:
    """Submit the lines, but resume those that the session's journal knows.

    Args:
        session: an open one.
        lines: what to submit.
        named: keys of lines whose videos are media of later ones.
    """
    items = _Items(lines, named)
    async with aclosing(session.as_completed(items)) as jobs:
        async for job in jobs:
            yield items.by_request[id(job.request)], job


class _Items:
    """The lines as a session takes them, and what it asks of them.

    Attributes:
        named: see `submit_lines`.
        by_request: each line by the identity of its request.
    """

    def __init__(self, lines: Iterator[Line], named: frozenset[str]) -> None:
        self._lines, self.named = lines, named
        self.by_request: dict[int, Line] = {}

    def __iter__(self) -> Iterator[GenerationRequest | tuple[str, GenerationRequest]]:
        for line in self._lines:
            self.by_request[id(line.request)] = line
            yield line.item


def resume_entries(entries: Mapping[Place, JournalEntry]) -> Stream:
    """A stream that resumes the lines' jobs by their journal entries, and submits nothing."""

    async def resume(session: SeedanceSession, lines: Iterator[Line]) -> Results:
        session.stop_submitting(StoppedRunError("this command submits nothing"))
        waiting: set[asyncio.Task[tuple[Line, Job]]] = set()
        try:
            for line in lines:
                entry = entries[line.place]
                if entry.request_id is None:
                    yield line, NotResumedError("its request id is not known")
                    continue
                try:  # the session finds the key in its journal, and resumes the job
                    job = await session.submit(line.request, key=entry.key)
                except SeedanceError as error:
                    yield line, NotResumedError(f"it could not be resumed: {error}")
                else:
                    waiting.add(asyncio.create_task(_ended(line, job)))
                ended = {task for task in waiting if task.done()}
                waiting -= ended
                for task in ended:
                    yield task.result()
            for next_ended in asyncio.as_completed(waiting):
                yield await next_ended
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    return resume


async def _ended(line: Line, job: Job) -> tuple[Line, Job]:
    with suppress(SeedanceError):  # the job itself has the error
        await job.wait()
    return line, job
