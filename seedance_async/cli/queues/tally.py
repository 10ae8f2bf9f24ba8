"""What a worker has done: for a heartbeat, a summary and an exit code."""

from __future__ import annotations

from collections import Counter

from seedance_async import Event, JobAccepted, JobEvent, JobState, VideoSaved
from seedance_async._utils.plural import counted
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.live.clock import clock
from seedance_async.cli.live.jobs import RunningJobs
from seedance_async.cli.live.news import News
from seedance_async.cli.queues.errors import failure_of
from seedance_async.cli.runs import outcome as of_runs
from seedance_async.engines import Outcome


class Tally:
    """Counts what comes of tasks, and tells what went wrong.

    Args:
        news: tells it.
    """

    def __init__(self, news: News) -> None:
        self._news, self._jobs = news, RunningJobs(lambda request: None, saves=False)
        self._counts: Counter[str] = Counter()
        self._codes: set[ExitCode] = set()
        self._charged = self._saved = 0

    @property
    def running(self) -> int:
        """Jobs that are sent, or at the server."""
        return len(self._jobs)

    def hear(self, event: Event) -> None:
        """Take in what happens in the session."""
        if isinstance(event, JobEvent):
            self._jobs.hear(event)
        if isinstance(event, JobAccepted):
            self._charged += event.credits_charged or 0
        elif isinstance(event, VideoSaved):
            self._saved += 1

    def told(self, outcome: Outcome) -> None:
        """Take in the outcome of a task."""
        error = failure_of(outcome)
        self._counts[outcome.state] += 1
        self._codes.add(code_of(error))
        if error is not None:
            self._news.settled(
                of_runs.Outcome(
                    state=outcome.state,
                    key=outcome.key,
                    error=error,
                    request_id=outcome.request_id,
                )
            )

    def code(self) -> ExitCode:
        """The exit code of all that was made."""
        return worst(self._codes)

    def text(self) -> str:
        """The figures."""
        states = [f"{self._counts[state]:,} {state}" for state in JobState if self._counts[state]]
        figures = [*states, f"{counted(self._saved, 'video')} saved"]
        return f"{', '.join(figures)}, {counted(self._charged, 'credit')} charged"

    def summary(self, seconds: float) -> str:
        """All of it in one line."""
        made = counted(self._counts.total(), "task")
        return f"{made} ended here in {clock(seconds)}: {self.text()}"
