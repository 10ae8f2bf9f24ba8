"""The state of a batch's jobs: by its journal, and for those that run by the server.

Nothing is changed, so a run may be writing the journal.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedance_async import JobState, SeedanceError, SeedanceSession
from seedance_async._utils.plural import counted
from seedance_async.cli.connection import Connection
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.runs.journal_entries import credits_charged, request_of, state_of
from seedance_async.cli.runs.journal_entries import state_text as recorded_text
from seedance_async.cli.tables import table, terminal_width
from seedance_async.cli.takes.folder_jobs import FolderJob
from seedance_async.cli.text import shorten

#: Queries at once.
_AT_ONCE = 20

_CODES = {
    JobState.FAILED: ExitCode.FAILED,
    JobState.CANCELLED: ExitCode.FAILED,
    JobState.REJECTED: ExitCode.FAILED,
    JobState.UNCERTAIN: ExitCode.UNCERTAIN,
    JobState.SUBMITTING: ExitCode.UNCERTAIN,
}

#: The state of each job by its key, as the server tells it now; or why it does not.
States = Mapping[str, str | SeedanceError]


async def show_folder(
    connection: Connection, folder: Path, jobs: Sequence[FolderJob], *, as_json: bool
) -> ExitCode:
    """Show the jobs of a folder, each with the state that it has now."""
    states = await _states(connection, [job for job in jobs if _may_run(job)])
    rows = [_row(job, states) for job in jobs]
    if as_json:
        for row in rows:
            connection.screen.record(row)
    else:
        for line in table(_cells(rows), terminal_width()):
            connection.screen.answer(line)
        _show_totals(connection, folder, jobs, states)
    return worst(_code(job, states) for job in jobs)


async def _states(connection: Connection, running: Sequence[FolderJob]) -> States:
    if not running:
        return {}
    limit = asyncio.Semaphore(_AT_ONCE)

    async def ask(session: SeedanceSession, job: FolderJob) -> str | SeedanceError:
        async with limit:
            try:
                return str((await session.client.get(job.entry.request_id or "")).status)
            except SeedanceError as error:
                return error

    async with connection.session() as session:
        found = await asyncio.gather(*(ask(session, job) for job in running))
    return {job.entry.key: state for job, state in zip(running, found, strict=True)}


def _may_run(job: FolderJob) -> bool:
    return state_of(job.entry).is_resumable and job.entry.request_id is not None


def _state(job: FolderJob, states: States) -> str:
    """The state as the server tells it; if it does not, as the journal has it."""
    told = states.get(job.entry.key)
    return told if isinstance(told, str) else recorded_text(job.entry.state)


def _row(job: FolderJob, states: States) -> dict[str, Any]:
    line, take = job.place or (None, None)
    told = states.get(job.entry.key)
    return {
        "line": line,
        "take": take,
        "key": job.entry.key,
        "state": _state(job, states),
        "request_id": job.entry.request_id,
        "credits_charged": job.entry.credits_charged,
        "file": job.entry.path,
        "prompt": request_of(job.entry).prompt,
        "error": str(told) if isinstance(told, SeedanceError) else job.entry.error,
    }


def _cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    has_takes = any((row["take"] or 1) > 1 for row in rows)
    return [
        {
            "line": _text(row["line"]),
            **({"take": _text(row["take"])} if has_takes else {}),
            "state": row["state"],
            "request_id": _text(row["request_id"]),
            "credits": _text(row["credits_charged"]),
            "file": _text(row["file"] and Path(row["file"]).name),
            "prompt": shorten(row["prompt"], 40),
        }
        for row in rows
    ]


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _show_totals(
    connection: Connection, folder: Path, jobs: Sequence[FolderJob], states: States
) -> None:
    counts = Counter(_state(job, states) for job in jobs)
    told = ", ".join(f"{count:,} {state}" for state, count in counts.most_common())
    credits = counted(credits_charged(job.entry for job in jobs), "credit")
    screen = connection.screen
    screen.say(f"{counted(len(jobs), 'job')}{f': {told}' if told else ''}; {credits} charged")
    errors = [each for each in states.values() if isinstance(each, SeedanceError)]
    if errors:
        screen.say(f"{counted(len(errors), 'job')} could not be queried: {errors[0]}", "yellow")
    ended = sum(each == JobState.SUCCEEDED for each in states.values())
    if ended:
        videos = counted(ended, "video")
        screen.say(f"{videos} made meanwhile; seedance resume {folder} saves them.", whole=True)


def _code(job: FolderJob, states: States) -> ExitCode:
    told = states.get(job.entry.key)
    if isinstance(told, SeedanceError):
        return code_of(told)
    state = told or job.entry.state
    return next((code for each, code in _CODES.items() if each == state), ExitCode.SUCCESS)
