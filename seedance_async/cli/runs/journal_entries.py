"""What a journal tells the command line: entries as jobs and outcomes, and files that are there.

It reads entries and writes none; what a later run makes of an entry is decided by the SDK.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from seedance_async import (
    ErrorDetail,
    Generation,
    GenerationRequest,
    GenerationStatus,
    Job,
    JobState,
    JournalError,
    SeedanceError,
    SubmitUncertainError,
    TaskRegistry,
    load_request,
)
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.advice import JOURNAL
from seedance_async.journal import JournalEntry, match_entries

#: The states of an entry of which nobody knows whether it was charged: a killed run's, told's.
UNKNOWN = frozenset({"submitting", "uncertain"})
#: The states of an entry whose job goes on at the server, as far as the journal knows.
RUNNING = frozenset({"queued", "processing", "abandoned"})
#: The states of an entry whose job has ended at the server.
ENDED = frozenset({"succeeded", "failed", "cancelled"})


def journal_in(place: Path) -> Path:
    """The journal that is meant by a file or a folder."""
    return place / JOURNAL if place.is_dir() else place


def sent_before(entries: Sequence[JournalEntry], lines: Sequence[Line]) -> dict[int, JournalEntry]:
    """By line number, the entries of those lines that an earlier run has sent, perhaps sent."""
    found = match_entries(entries, [line.request for line in lines])
    pairs = zip(lines, found, strict=True)
    return {line.number: entry for line, entry in pairs if entry and entry.state != "rejected"}


def request_of(entry: JournalEntry) -> GenerationRequest:
    """The request of an entry. Raises JournalError if it is none."""
    try:
        return load_request(json.loads(entry.request))
    except ValueError as error:
        raise JournalError(f"the request of {entry.key} cannot be read: {error}") from None


def job_of(entry: JournalEntry, request: GenerationRequest, left: SeedanceError) -> Job:
    """The job of an entry as a handle that can be read.

    Args:
        entry: one that is not rejected.
        request: the entry's.
        left: why nobody asks the server how the job is, where it was running.
    """
    registry = TaskRegistry()
    record = registry.add(entry.key, request)
    if entry.request_id is None:
        reason = entry.error or "the process ended between the submit and its answer"
        error = SubmitUncertainError(reason, request=request, key=entry.key)
        registry.move(record, JobState.SUBMITTING)
        registry.move(record, JobState.UNCERTAIN, error=error)
        return Job(record, None)
    registry.resume(record, entry.request_id, credits_charged=entry.credits_charged)
    if entry.state in ENDED:
        detail = ErrorDetail(entry.error) if entry.error is not None else None
        status = GenerationStatus(entry.state)
        registry.observe(record, Generation(entry.request_id, status, error=detail))
    else:
        registry.move(record, JobState.ABANDONED, error=left)
    return Job(record, None)


def file_there(path: Path | str | None, size: int | None, folder: Path) -> Path | None:
    """Where a video that was saved still is: at its place, or in the folder under its name.

    Its size must be the recorded one. The hash is not computed: that would read every video of
    a folder at each run, and a file has its name only once it is whole.
    """
    if path is None or size is None:
        return None
    return next((each for each in _places(Path(path), folder) if _size(each) == size), None)


def _places(path: Path, folder: Path) -> tuple[Path, Path]:
    return path, folder / path.name


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
