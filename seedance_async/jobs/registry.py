"""The task registry: every job of a session, in memory, and the only place where states change.

Two rules:
1. A job's state changes through `TaskRegistry.move` alone, along `TRANSITIONS`; an illegal move
   raises and changes nothing.
2. Nothing here awaits, does I/O or calls out, except the watchers of a job that has ended, and
   those of its moves: `TaskRegistry.on_move`, which is called at every move, and `watch_moves`.

A job stays in the tables while its state can still change. Once it has ended it is only counted;
whoever holds its record can still read it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from seedance_async.api.errors import SeedanceError, frameless
from seedance_async.api.models import Generation, GenerationStatus, Submission
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.state import (
    FINAL_STATES,
    RUNNING_STATES,
    STATE_OF,
    TRANSITIONS,
    UNSETTLED_STATES,
    JobState,
)


@attrs.frozen
class SavedFile:
    """Where a job's video is.

    Attributes:
        path: the file; of an object in a store, its bucket and its key.
        size: bytes.
        sha256: of the whole file, in hexadecimal.
        url: the object in a store; None for a file.
    """

    path: Path
    size: int
    sha256: str
    url: str | None = None

    @classmethod
    def at(cls, place: str, size: int, sha256: str) -> SavedFile:
        """The file or object at a recorded place."""
        _, scheme, key = place.partition("://")
        return cls(Path(key), size, sha256, place) if scheme else cls(Path(place), size, sha256)

    @property
    def place(self) -> str:
        """The object's URL, or the file's path from the root of its disk."""
        return str(self.path.absolute()) if self.url is None else self.url


#: Ids of ended jobs that are remembered, to notice a server that gives one out again.
REMEMBERED_IDS = 10_000


@attrs.define(eq=False, weakref_slot=False)
class JobRecord:
    """What is known of one job. Only `TaskRegistry` writes to it, except for where its video is.

    And but for handles of other jobs in its request, which are dropped once it is accepted.
    """

    key: str
    request: GenerationRequest | None
    state: JobState = JobState.PENDING
    request_id: str | None = None
    credits_charged: int | None = None
    generation: Generation | None = attrs.field(default=None, repr=False)
    error: SeedanceError | None = attrs.field(default=None, repr=False)
    saved: SavedFile | None = attrs.field(default=None, repr=False)
    accepted_at: float | None = attrs.field(default=None, repr=False)  # the event loop's clock
    has_automatic_key: bool = attrs.field(default=False, repr=False)  # its caller gave none
    fingerprint: str | None = attrs.field(default=None, repr=False)  # only of files, as they were
    _watchers: tuple[Callable[[JobRecord], None], ...] = attrs.field(default=(), repr=False)

    def on_final(self, watcher: Callable[[JobRecord], None]) -> None:
        """Call `watcher` once when the job's state is final, at once if it is already.

        Also if the registry discards the job.
        """
        if self.state in FINAL_STATES:
            watcher(self)
        else:
            self._watchers += (watcher,)

    def forget(self, watcher: Callable[[JobRecord], None]) -> None:
        """Take back `on_final`."""
        self._watchers = tuple(known for known in self._watchers if known != watcher)

    def _take_watchers(self) -> tuple[Callable[[JobRecord], None], ...]:
        taken, self._watchers = self._watchers, ()
        return taken


class TaskRegistry:
    """The table of a session's jobs, by key and by request id, with counters kept as they change.

    Iterating yields the jobs whose state can still change: those not final, and the uncertain
    ones.

    Attributes:
        on_move: if set, called after each move with the job and the state that it was in.
    """

    def __init__(self) -> None:
        self.on_move: Callable[[JobRecord, JobState], None] | None = None
        self._move_watchers: dict[JobRecord, list[Callable[[], None]]] = {}
        self._by_key: dict[str, JobRecord] = {}
        self._by_request_id: dict[str, JobRecord] = {}
        self._ended_ids: OrderedDict[str, None] = OrderedDict()
        self._counts = dict.fromkeys(JobState, 0)
        self._credits_charged = 0
        self._credits_unknown = 0

    def __repr__(self) -> str:
        counts = ", ".join(f"{state}={count}" for state, count in self._counts.items() if count)
        return f"<TaskRegistry {counts or 'empty'}>"

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[JobRecord]:
        return iter(list(self._by_key.values()))

    @property
    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state, ended ones included."""
        return dict(self._counts)

    @property
    def live(self) -> int:
        """How many jobs are not final."""
        return sum(count for state, count in self._counts.items() if state not in FINAL_STATES)

    @property
    def credits_charged(self) -> int:
        """The sum of the charges that the server reported."""
        return self._credits_charged

    @property
    def credits_unknown(self) -> int:
        """How many jobs were accepted without a charge that could be read."""
        return self._credits_unknown

    def find(self, *, key: str | None = None, request_id: str | None = None) -> JobRecord | None:
        """The job with this key or this request id, if it is still in the tables."""
        if key is not None:
            return self._by_key.get(key)
        return None if request_id is None else self._by_request_id.get(request_id)

    def add(
        self, key: str, request: Any, *, automatic: bool = False, fingerprint: str | None = None
    ) -> JobRecord:
        """A new job, pending.

        Args:
            key: the job's.
            request: what is asked for.
            automatic: whether the key was made for a caller that gave none.
            fingerprint: of a request with files, which may change.

        Raises:
            ValueError: the key belongs to a job of this session that has not ended.
        """
        if key in self._by_key:
            raise ValueError(f"the key {key!r} belongs to a job that has not ended")
        record = JobRecord(key, request, has_automatic_key=automatic, fingerprint=fingerprint)
        self._by_key[key] = record
        self._counts[record.state] += 1
        return record

    def identify(self, record: JobRecord, request: GenerationRequest, *, automatic: bool) -> None:
        """The request of a job is known, though it was attached by its id.

        Args:
            record: the job.
            request: what it was asked for.
            automatic: whether that gives the job its key.
        """
        if record.request is None:
            record.request, record.has_automatic_key = request, automatic

    def discard(self, record: JobRecord) -> None:
        """Forget a job whose submit was never sent, as if it had never been added.

        Its watchers are called, with the state that it was in: there will be no final one.

        Raises:
            RuntimeError: something may have been sent, or the job is not in the tables.
        """
        if record.state not in UNSETTLED_STATES:
            raise RuntimeError(f"job {record.key} is {record.state} and must not be forgotten")
        self._check_here(record)
        self._counts[record.state] -= 1
        self._drop(record)
        for watcher in record._take_watchers():
            watcher(record)

    def release(self, record: JobRecord) -> None:
        """Let go of an uncertain job and its key: what became of it was found out elsewhere.

        Raises:
            RuntimeError: it is not uncertain, or not in the tables.
        """
        if record.state is not JobState.UNCERTAIN:
            raise RuntimeError(f"job {record.key} is {record.state}, not uncertain")
        self._check_here(record)
        self._counts[record.state] -= 1
        self._drop(record)

    def accept(self, record: JobRecord, submission: Submission, *, at: float | None = None) -> None:
        """The server took the job: from here its id is known.

        Args:
            record: the job.
            submission: the server's answer.
            at: when, by the event loop's clock; None where that was not seen.

        Raises:
            ValueError: the id belongs to another job of this session, even one that has ended
                recently; nothing is changed.
            RuntimeError: the job cannot be accepted in its state; nothing is changed.
        """
        self._check_step(record, JobState.QUEUED)
        if submission.request_id in self._ended_ids:
            raise ValueError(f"the request id {submission.request_id!r} belongs to an ended job")
        self._claim(record, submission.request_id)
        record.credits_charged, record.accepted_at = submission.credits_charged, at
        if submission.credits_charged is None:
            self._credits_unknown += 1
        else:
            self._credits_charged += submission.credits_charged
        self._enter_running(record, submission.status)

    def resume(
        self, record: JobRecord, request_id: str, *, credits_charged: int | None = None
    ) -> None:
        """Continue a job that was accepted earlier, or whose uncertain submit turns out accepted.

        What it was charged then, if that is known, is kept with the job and not counted again.

        Raises:
            ValueError: the id belongs to another job of this session; nothing is changed.
            RuntimeError: the job has an id, or has ended; nothing is changed.
        """
        pending = record.state is JobState.PENDING
        self._check_step(record, JobState.SUBMITTING if pending else JobState.QUEUED)
        self._claim(record, request_id)
        if record.state is JobState.UNCERTAIN:  # submitted here, its charge unknown
            self._credits_unknown += 1
        record.credits_charged = credits_charged
        if pending:
            self.move(record, JobState.SUBMITTING)
        self.move(record, JobState.QUEUED)

    def observe(self, record: JobRecord, generation: Generation) -> bool:
        """Record what the server says of a job; whether the job's state changed.

        A state never goes back: an older or an unknown status leaves it where it is.
        """
        target = STATE_OF.get(generation.status, record.state)
        if record.state in FINAL_STATES:
            return False
        if generation != record.generation:  # else the one that is kept is the same
            record.generation = _sharing(generation, record.request)
        if target not in TRANSITIONS[record.state]:
            return False
        self.move(record, target)
        return True

    def move(
        self, record: JobRecord, state: JobState, *, error: SeedanceError | None = None
    ) -> None:
        """The one mutator of a job's state. What is kept of an error is a copy without tracebacks.

        A running job becomes uncertain if its id turns out to be another job's: it has none then.

        Raises:
            RuntimeError: `TRANSITIONS` has no such step, or the job is not in the tables; nothing
                is changed.
        """
        self._check_step(record, state)
        before = record.state
        if state is JobState.UNCERTAIN and before in RUNNING_STATES:
            self._take_id(record)
        self._counts[before] -= 1
        self._counts[state] += 1
        record.state = state
        record.error = None if error is None else frameless(error)
        if state in FINAL_STATES:
            if state is not JobState.UNCERTAIN:
                self._drop(record)
            for watcher in record._take_watchers():
                watcher(record)
        if self.on_move is not None:
            self.on_move(record, before)
        for moved in self._move_watchers.get(record, ()):
            moved()

    def watch_moves(self, record: JobRecord, moved: Callable[[], None]) -> None:
        """Call `moved` after each move of a job, until `unwatch_moves`."""
        self._move_watchers.setdefault(record, []).append(moved)

    def unwatch_moves(self, record: JobRecord, moved: Callable[[], None]) -> None:
        """Take back `watch_moves`."""
        watchers = self._move_watchers[record]
        watchers.remove(moved)
        if not watchers:
            del self._move_watchers[record]

    def _check_step(self, record: JobRecord, state: JobState) -> None:
        if state not in TRANSITIONS[record.state]:
            raise RuntimeError(f"job {record.key} cannot go from {record.state} to {state}")
        self._check_here(record)

    def _check_here(self, record: JobRecord) -> None:
        if self._by_key.get(record.key) is not record:
            raise RuntimeError(f"job {record.key} is not in this registry")

    def _claim(self, record: JobRecord, request_id: str) -> None:
        holder = self._by_request_id.get(request_id)
        if holder is not None and holder is not record:
            raise ValueError(f"the request id {request_id!r} belongs to job {holder.key}")
        record.request_id = request_id
        self._by_request_id[request_id] = record

    def _take_id(self, record: JobRecord) -> None:
        self._by_request_id.pop(record.request_id or "", None)
        record.request_id = record.credits_charged = None
        record.generation = record.accepted_at = None

    def _enter_running(self, record: JobRecord, status: GenerationStatus) -> None:
        processing = status is GenerationStatus.PROCESSING
        self.move(record, JobState.PROCESSING if processing else JobState.QUEUED)

    def _drop(self, record: JobRecord) -> None:
        self._by_key.pop(record.key, None)
        if record.request_id is not None:
            self._by_request_id.pop(record.request_id, None)
            self._ended_ids[record.request_id] = None
            if len(self._ended_ids) > REMEMBERED_IDS:
                self._ended_ids.popitem(last=False)


def _sharing(generation: Generation, request: GenerationRequest | None) -> Generation:
    """The same, but without a second copy of the prompt: very many jobs may be waiting."""
    if request is None or generation.prompt != request.prompt:
        return generation
    return attrs.evolve(generation, prompt=request.prompt)
