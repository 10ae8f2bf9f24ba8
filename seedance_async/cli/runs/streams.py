"""From lines to jobs that have ended: submitted, or resumed by their keys in the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress

from seedance_async import GenerationRequest, Job, SeedanceError, SeedanceSession
from seedance_async.cli.exit_codes import NotResumedError, StoppedRunError
from seedance_async.cli.inputs import Line
from seedance_async.journal import JournalEntry

#: Each line's number with its job; or, for one that an earlier run sent, why it is not resumed.
Results = AsyncGenerator[tuple[int, Job | NotResumedError]]
Stream = Callable[[SeedanceSession, Iterator[Line]], Results]


async def submit_lines(session: SeedanceSession, lines: Iterator[Line]) -> Results:
    """Submit the lines, but resume those that the session's journal knows."""
    numbers: dict[int, int] = {}

    def items() -> Iterator[GenerationRequest | tuple[str, GenerationRequest]]:
        for line in lines:
            numbers[id(line.request)] = line.number
            yield line.item

    async with aclosing(session.as_completed(items())) as jobs:
        async for job in jobs:
            yield numbers[id(job.request)], job


def resume_entries(entries: Mapping[int, JournalEntry]) -> Stream:
    """A stream that resumes the lines' jobs by their journal entries, and submits nothing."""

    async def resume(session: SeedanceSession, lines: Iterator[Line]) -> Results:
        session.stop_submitting(StoppedRunError("this command submits nothing"))
        waiting: set[asyncio.Task[tuple[int, Job]]] = set()
        try:
            for line in lines:
                entry = entries[line.number]
                if entry.request_id is None:
                    yield line.number, NotResumedError("its request id is not known")
                    continue
                try:  # the session finds the key in its journal, and resumes the job
                    job = await session.submit(line.request, key=entry.key)
                except SeedanceError as error:
                    yield line.number, NotResumedError(f"it could not be resumed: {error}")
                else:
                    waiting.add(asyncio.create_task(_ended(line.number, job)))
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


async def _ended(number: int, job: Job) -> tuple[int, Job]:
    with suppress(SeedanceError):  # the job itself has the error
        await job.wait()
    return number, job
