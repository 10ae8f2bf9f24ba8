"""What the log tells of the polling, once in a session each."""

from __future__ import annotations

import logging

from seedance_async.api.errors import AuthenticationError, SeedanceError
from seedance_async.api.models import Generation

_log = logging.getLogger(__name__)

#: Intervals this many times as long as they should be are worth a warning.
STRETCH_WARNING = 3.0

#: Unknown statuses that are told; a server that makes them up shall not fill the log.
_MOST_STATUSES = 100


class PollNotices:
    """Warnings that are given once.

    Attributes:
        poll_rate: polls a second over all jobs.
    """

    def __init__(self, poll_rate: float) -> None:
        self.poll_rate = poll_rate
        self._unknown_statuses: set[str] = set()
        self._is_stretch_told = self._is_silence_told = self._is_refusal_told = False

    def stretch(self, stretch: float, jobs: int) -> None:
        """The poll rate makes all intervals so many times as long as they should be."""
        if stretch > STRETCH_WARNING and not self._is_stretch_told:
            self._is_stretch_told = True
            _log.warning(
                "%d jobs are polled %.1f times more rarely than they should be, so their ends are"
                " noticed late: the poll rate of %g a second is too low for them;"
                " stats().poll_stretch follows it",
                jobs,
                stretch,
                self.poll_rate,
            )

    def unanswered(self, seconds: float, jobs: int) -> None:
        """A final poll was not answered in time."""
        if not self._is_silence_told:
            self._is_silence_told = True
            _log.warning(
                "jobs are abandoned without an answer to their final poll within %g s: the server"
                " does not answer, or the poll rate of %g a second is too low for all jobs (%d)",
                seconds,
                self.poll_rate,
                jobs,
            )

    def failed(self, error: SeedanceError) -> None:
        """A poll has failed. If the key is refused, no job can be polled until it is not."""
        is_refused = isinstance(error, AuthenticationError) and error.status == 401
        if is_refused and not self._is_refusal_told:
            self._is_refusal_told = True
            _log.warning("no job can be polled for now, and all are tried again: %s", error)

    def status(self, generation: Generation) -> None:
        """The server has answered with this status."""
        status, known = generation.status, self._unknown_statuses
        if not status.is_known and status.value not in known and len(known) < _MOST_STATUSES:
            known.add(status.value)
            _log.warning(
                "the server reports the unknown status %.80r; it is treated as running",
                status.value,
            )
