"""Jobs: the simulated GPUs, and each job from queued to its final state.

A job waits for one of N GPUs, runs for a seeded random time and ends. No job has a task, and only
running jobs have a timer, so tens of thousands cost no more than their records. Nothing here knows
about HTTP, money or faults; ``on_end`` is called with each job that ends.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from math import log
from random import Random
from typing import Any, Literal

from attrs import define, field, frozen

from seedance_async.emulator.accounts import DEFAULTS
from seedance_async.emulator.clock import Changes, Clock

# API overview, "Statuses"; the last three are terminal.
Status = Literal["queued", "processing", "succeeded", "failed", "cancelled"]
End = Literal["succeeded", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
_NO_ERROR = {"code": "generation_failed", "message": "The generation failed"}


@frozen
class Fate:
    """The final state that a job will reach; ``end=None``: none, it keeps running."""

    end: End | None = "succeeded"
    error: Mapping[str, str] | None = None


@define(eq=False)
class SimulatedJob:
    """One accepted generation. Times are virtual seconds since the emulator's start."""

    request_id: str
    account: str
    body: Mapping[str, Any]
    credits: int
    created_at: float
    fate: Fate = field(factory=Fate)
    status: Status = "queued"
    error: Mapping[str, str] | None = None
    started_at: float | None = None
    ended_at: float | None = None
    polls: int = 0
    end_was_reported: bool = False
    defaults: Mapping[str, Any] = DEFAULTS

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.status in TERMINAL

    @property
    def prompt(self) -> str:
        """The prompt that was submitted."""
        return str(self.body["prompt"])

    def setting(self, name: str) -> Any:
        """A field of the submit body, or its assumed default."""
        return self.body.get(name, self.defaults.get(name))


class Jobs:
    """All jobs by request id, and the GPUs that run them.

    Args:
        gpus: how many jobs run at once.
        median_seconds: median running time, virtual seconds.
        sigma: spread of the log-normal running time; with 0 every job takes the median.
        hold: jobs start and end only by ``start`` and ``finish``.
    """

    def __init__(
        self,
        clock: Clock,
        changes: Changes,
        random: Random,
        *,
        gpus: int,
        median_seconds: float,
        sigma: float,
        hold: bool = False,
        on_end: Callable[[SimulatedJob], None] = lambda job: None,
    ) -> None:
        self._clock, self._changes, self._random = clock, changes, random
        self._mu, self._sigma = log(median_seconds), sigma
        self._hold, self._on_end = hold, on_end
        self._by_id: dict[str, SimulatedJob] = {}
        self._queue: deque[SimulatedJob] = deque()
        self._free = gpus
        self._running: dict[str, Callable[[], None]] = {}
        self.counts: Counter[str] = Counter()
        self.peak_active = 0
        self.peak_processing = 0

    def __getitem__(self, request_id: str) -> SimulatedJob:
        return self._by_id[request_id]

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._by_id

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
        return f"<Jobs {len(self)}: {counts or 'none'}; peak {self.peak_active} active>"

    def values(self) -> list[SimulatedJob]:
        """The jobs in order of acceptance."""
        return list(self._by_id.values())

    def get(self, request_id: str) -> SimulatedJob | None:
        """The job of that id, if there is one."""
        return self._by_id.get(request_id)

    @property
    def active(self) -> int:
        """Jobs that are queued or processing."""
        return self.counts["queued"] + self.counts["processing"]

    def new_id(self) -> str:
        """A fresh request id, random but seeded."""
        return f"req_{self._random.getrandbits(64):016x}"

    def accept(
        self,
        request_id: str,
        account: str,
        body: Mapping[str, Any],
        cost: int,
        fate: Fate,
        defaults: Mapping[str, Any] = DEFAULTS,
    ) -> SimulatedJob:
        """Queue a job; it starts at once if a GPU is free."""
        now = self._clock.now()
        job = SimulatedJob(request_id, account, body, cost, now, fate, defaults=defaults)
        self._by_id[request_id] = job
        self._queue.append(job)
        self.counts["queued"] += 1
        self.peak_active = max(self.peak_active, self.active)
        if not self._hold:
            self._fill_gpus()
        self._changes.notify()
        return job

    def _fill_gpus(self) -> None:
        while self._free > 0 and self._queue:
            job = self._queue.popleft()
            if job.status == "queued":
                self._start(job)

    def _start(self, job: SimulatedJob) -> None:
        self._free -= 1
        self._set(job, "processing")
        self.peak_processing = max(self.peak_processing, self.counts["processing"])
        seconds = self._random.lognormvariate(self._mu, self._sigma)
        end, error = job.fate.end, job.fate.error
        if end is None or self._hold:
            self._running[job.request_id] = lambda: None
        else:
            timer = self._clock.call_later(seconds, lambda: self._end(job, end, error))
            self._running[job.request_id] = timer.cancel

    def start(self, request_id: str) -> None:
        """Start a queued job now, whether or not a GPU is free."""
        job = self._by_id[request_id]
        if job.status != "queued":
            raise ValueError(f"job {request_id} is {job.status}, so it cannot start")
        self._start(job)
        self._changes.notify()

    def finish(
        self,
        request_id: str,
        status: End = "succeeded",
        error: Mapping[str, str] | None = None,
    ) -> SimulatedJob:
        """End a job now, whatever its fate.

        Raises:
            ValueError: if it has already ended.
        """
        job = self._by_id[request_id]
        if job.is_terminal:
            raise ValueError(f"job {request_id} is already {job.status}")
        self._end(job, status, error)
        return job

    def _end(self, job: SimulatedJob, status: End, error: Mapping[str, str] | None) -> None:
        cancel_timer = self._running.pop(job.request_id, None)
        if cancel_timer is not None:
            cancel_timer()
            self._free += 1
        job.error = (error or _NO_ERROR) if status == "failed" else None
        job.ended_at = self._clock.now()
        self._set(job, status)
        if not self._hold:
            self._fill_gpus()
        self._on_end(job)
        self._changes.notify()

    def _set(self, job: SimulatedJob, status: Status) -> None:
        self.counts[job.status] -= 1
        self.counts[status] += 1
        job.status = status
        if status == "processing":
            job.started_at = self._clock.now()

    def close(self) -> None:
        """Stop the timers; the records stay readable."""
        for cancel_timer in self._running.values():
            cancel_timer()
        self._running.clear()
