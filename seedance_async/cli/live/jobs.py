"""The jobs of a run that are in progress, as a session's events tell of them, and their ages.

It draws nothing and asks nobody; the events are all it knows.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from enum import StrEnum

import attrs

from seedance_async import (
    Event,
    GenerationRequest,
    JobAccepted,
    JobEvent,
    JobFailed,
    JobResumed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    PollFailed,
)
from seedance_async.cli.inputs import Line
from seedance_async.jobs.stats import FinishTimes

#: The line of a request, if it comes from one.
LineOf = Callable[[GenerationRequest | None], Line | None]


class Step(StrEnum):
    """What a job in progress is doing; the value is the word that is shown."""

    SENDING = "sending"
    QUEUED = "queued"
    PROCESSING = "processing"
    SAVING = "saving"

    @property
    def is_at_server(self) -> bool:
        """Whether the server is at work on it, so that its end can be foreseen."""
        return self in (Step.QUEUED, Step.PROCESSING)


@attrs.define
class RunningJob:
    """A job in progress.

    Attributes:
        request: None for a job known by its id alone.
        line: where its request comes from, if from an input.
        step: what it is doing.
        since: when its age begins, by the event loop's clock: with its acceptance, or before that
            with its submit.
        is_older: whether it was accepted in an earlier run, so that it is older than this says.
    """

    request: GenerationRequest | None
    line: Line | None
    step: Step
    since: float
    request_id: str | None = None
    is_older: bool = False

    @property
    def kind(self) -> Hashable:
        """What it has in common with jobs that are expected to take the same time."""
        return None if self.request is None else self.request.kind


class RunningJobs:
    """The jobs in progress, and what the last ones of their kind took.

    Args:
        line_of: the line of a request.
        saves: whether the videos are saved, so that a job whose video is made is not over.
    """

    def __init__(self, line_of: LineOf, *, saves: bool) -> None:
        self._line_of, self._saves = line_of, saves
        self._jobs: dict[str, RunningJob] = {}
        self._saving: dict[str, str] = {}
        self._all_times = FinishTimes()
        self._earlier = defaultdict[Hashable, FinishTimes](FinishTimes)
        self._times = defaultdict[Hashable, FinishTimes](FinishTimes)

    def __len__(self) -> int:
        return len(self._jobs)

    def hear(self, event: Event) -> None:
        """Take in what has happened."""
        if not isinstance(event, JobEvent) or isinstance(event, PollFailed):
            return
        if isinstance(event, JobSubmitted):
            self._begin(event, Step.SENDING)
        elif isinstance(event, (JobAccepted, JobResumed)):
            job = self._begin(event, Step.QUEUED)
            job.is_older = isinstance(event, JobResumed)
        elif isinstance(event, JobStarted):
            self._job(event).step = Step.PROCESSING
        else:
            self._end(event)

    def learn(self, times: Iterable[tuple[Hashable, float]]) -> None:
        """Take in what jobs of these kinds took in earlier runs."""
        for kind, seconds in times:
            self._earlier[kind].note(seconds, 0)

    def settled(self, request_id: str | None) -> None:
        """A job has its outcome, whatever became of its video."""
        if request_id is not None:
            self._jobs.pop(self._saving.pop(request_id, ""), None)

    def shown(self, most: int) -> list[RunningJob]:
        """The jobs to show: those at the server first, the oldest first."""

        def order(job: RunningJob) -> tuple[bool, bool, float]:
            return job.step is Step.SENDING, job.step is Step.QUEUED, job.since

        return heapq.nsmallest(most, self._jobs.values(), key=order)

    def expected(self, job: RunningJob, now: float) -> float | None:
        """Seconds that a job probably takes in all: by the last of its kind, in this run or else
        in earlier ones; else by all of this run.

        None while nothing is known. It is less than the job's age if that has taken longer than
        any other.
        """
        kind, age = job.kind, now - job.since
        times = self._times.get(kind) or self._earlier.get(kind) or self._all_times
        if job.is_older or not job.step.is_at_server:
            return None
        left = times.remaining(age)
        return age + left if left is not None else times.quantiles(1.0)[0]

    def remaining(self, now: float) -> float | None:
        """Seconds until the last of these jobs probably ends; None if that is unknown for one.

        Of each kind the youngest is taken to end last.
        """
        youngest = dict[Hashable, RunningJob]()
        for job in self._jobs.values():
            known = youngest.get(job.kind)
            if job.step is not Step.SAVING and (known is None or job.since > known.since):
                youngest[job.kind] = job
        ends = [(job, self.expected(job, now)) for job in youngest.values()]
        if any(expected is None for _, expected in ends):
            return None
        return max([0.0, *((expected or 0.0) - (now - job.since) for job, expected in ends)])

    def _begin(self, event: JobEvent, step: Step) -> RunningJob:
        job = self._job(event)
        job.step, job.request_id = step, event.request_id
        job.since = event.at - (event.seconds or 0.0)
        return job

    def _job(self, event: JobEvent) -> RunningJob:
        job = self._jobs.get(event.key)
        if job is None:
            line = self._line_of(event.request)
            job = RunningJob(event.request, line, Step.QUEUED, event.at, event.request_id)
            self._jobs[event.key] = job
        return job

    def _end(self, event: JobEvent) -> None:
        job = self._jobs.get(event.key)
        if job is None:
            return
        if isinstance(event, (JobSucceeded, JobFailed)) and event.seconds is not None:
            for times in (self._times[job.kind], self._all_times):
                times.note(event.seconds, 0)
        if isinstance(event, JobSucceeded) and self._saves and event.request_id is not None:
            job.step = Step.SAVING
            self._saving[event.request_id] = event.key
        else:
            del self._jobs[event.key]
            self._saving.pop(event.request_id or "", None)
