"""What `status` and `cancel` share: many jobs by their ids, all at once, each with its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from seedance_async import (
    DownloadError,
    Generation,
    InvalidRequestError,
    Job,
    JobError,
    SeedanceError,
    SeedanceSession,
    Violation,
)
from seedance_async.cli.connection import Connection
from seedance_async.cli.console import Screen
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.journal import Journal

#: The state of a job that the server does not know, or that could not be queried.
_UNKNOWN = "unknown"

#: From what the server says about a job to its outcome.
Query = Callable[[SeedanceSession, Generation], Awaitable[Outcome]]


async def query_each(
    connection: Connection,
    request_ids: Sequence[str],
    query: Query,
    as_json: bool,
    timeout: float,
    journal: Journal | None = None,
) -> list[Outcome]:
    """Query each job and show each outcome as it comes."""
    outcomes: list[Outcome] = []

    async def one(session: SeedanceSession, request_id: str) -> None:
        outcome = await _outcome(session, request_id, query)
        outcomes.append(outcome)
        _show(outcome, connection.screen, as_json)

    session = connection.session(job_timeout=timeout, queue_timeout=timeout, journal=journal)
    async with session, asyncio.TaskGroup() as tasks:
        for request_id in dict.fromkeys(request_ids):
            tasks.create_task(one(session, request_id))
    return outcomes


async def final_outcome(job: Job, folder: Path | None) -> Outcome:
    """Wait for a job to end, and save its video if there is a folder for it."""
    file = error = None
    try:
        await job.wait()
        file = None if folder is None else await job.download(folder)
    except (JobError, DownloadError) as raised:
        error = raised
    return Outcome.of_job(job, None, file=file, error=error, next_steps=NextSteps(folder))


async def _outcome(session: SeedanceSession, request_id: str, query: Query) -> Outcome:
    """The outcome for one id; a job that the server does not know is reported at once."""
    error: SeedanceError
    try:
        return await query(session, await session.client.get(request_id))
    except SeedanceError as raised:
        error = raised
    except ValueError:
        error = InvalidRequestError([Violation("request_id", request_id, "must be a request id")])
    return Outcome(state=_UNKNOWN, request_id=request_id, error=error)


def _line(outcome: Outcome) -> str:
    if outcome.line is None:
        return ""
    return f"line {outcome.line} " + (f"take {outcome.take} " if outcome.take > 1 else "")


def _show(outcome: Outcome, screen: Screen, as_json: bool) -> None:
    if as_json:
        screen.record(outcome.as_record())
        return
    place = outcome.file or outcome.output_url or ""
    screen.answer(f"{_line(outcome)}{outcome.request_id} {outcome.state} {place}".rstrip())
    if outcome.error is not None:
        screen.say(f"  {outcome.error}")
    if outcome.next_step is not None:
        screen.say(f"  What to do: {outcome.next_step}", whole=True)
