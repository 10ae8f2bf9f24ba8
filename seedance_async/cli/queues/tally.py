"""What a worker has done, as the events of its session tell of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from seedance_async import (
    Event,
    JobAbandoned,
    JobAccepted,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRejected,
    JobResumed,
    JobState,
    JobSucceeded,
    SubmitBecameUncertain,
    VideoSaved,
)
from seedance_async._utils.plural import counted
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.live.clock import clock
from seedance_async.cli.live.news import News
from seedance_async.cli.queues.errors import failure_of
from seedance_async.cli.runs.outcome import Outcome

_ENDS: Mapping[type[JobEvent], JobState] = {
    JobSucceeded: JobState.SUCCEEDED,
    JobFailed: JobState.FAILED,
    JobCancelled: JobState.CANCELLED,
    JobRejected: JobState.REJECTED,
    SubmitBecameUncertain: JobState.UNCERTAIN,
    JobAbandoned: JobState.ABANDONED,
}


class Tally:
    """Counts what happens in a session, and tells what went wrong.

    Args:
        news: tells it.

    Attributes:
        running: jobs that are at the server and were not seen to end.
        saved: videos.
    """

    def __init__(self, news: News) -> None:
        self._news = news
        self._counts: Counter[JobState] = Counter()
        self._codes: set[ExitCode] = set()
        self._running: set[str] = set()
        self._charged = 0
        self.saved = 0
        self.is_leaving = False

    @property
    def running(self) -> int:
        """Jobs that are at the server."""
        return len(self._running)

    def hear(self, event: Event) -> None:
        """Take in what has happened."""
        if isinstance(event, (JobAccepted, JobResumed)):
            self._running.add(event.key)
            if isinstance(event, JobAccepted):
                self._charged += event.credits_charged or 0
        elif isinstance(event, VideoSaved):
            self.saved += 1
        elif isinstance(event, JobEvent) and (state := _ENDS.get(type(event))) is not None:
            self._end(event, state)

    def _end(self, event: JobEvent, state: JobState) -> None:
        self._running.discard(event.key)
        if self.is_leaving and state is JobState.ABANDONED:
            return  # it is handed back
        self._counts[state] += 1
        error = failure_of(event, state)
        self._codes.add(code_of(error))
        if error is not None:
            self._news.settled(
                Outcome(
                    state=str(state),
                    error=error,
                    request=event.request,
                    request_id=event.request_id,
                )
            )

    def code(self) -> ExitCode:
        """The exit code of all that was made."""
        return worst(self._codes)

    def text(self) -> str:
        """The figures."""
        states = [f"{self._counts[s]:,} {s}" for s in JobState if self._counts[s]]
        figures = [*states, f"{counted(self.saved, 'video')} saved"]
        return f"{', '.join(figures)}, {counted(self._charged, 'credit')} charged"

    def summary(self, seconds: float) -> str:
        """All of it in one line."""
        made = counted(self._counts.total(), "job")
        return f"{made} ended here in {clock(seconds)}: {self.text()}"
