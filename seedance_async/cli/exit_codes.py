"""The exit codes: what each means, which of several wins, and which one an error has."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from seedance_async import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    InsufficientCreditsError,
    InvalidRequestError,
    JobTimeoutError,
    JournalError,
    SeedanceError,
    SubmitUncertainError,
)
from seedance_async.engines import QueueError


class ExitCode(IntEnum):
    """What the command's exit code means to a script."""

    SUCCESS = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    REFUSED = 4
    UNCERTAIN = 5
    NOT_SAVED = 6
    INTERRUPTED = 130


#: A run with several outcomes exits with the first of these that occurred. Money spent on an
#: unknown result comes first, then what stopped the run, then what is still to be downloaded.
PRECEDENCE = (
    ExitCode.UNCERTAIN,
    ExitCode.REFUSED,
    ExitCode.CONFIGURATION,
    ExitCode.INTERRUPTED,
    ExitCode.NOT_SAVED,
    ExitCode.FAILED,
    ExitCode.USAGE,
)


class MissingExtraError(ConfigurationError):
    """A command needs packages that are not installed."""


class StoppedRunError(SeedanceError):
    """The run ended before this job was submitted, ended or saved."""


class InterruptedRunError(StoppedRunError):
    """The user ended the run, with Ctrl-C or SIGTERM."""


class LimitReachedError(StoppedRunError):
    """A worker's limit on credits leaves nothing for this job."""


class TaskError(SeedanceError):
    """A worker could not make this; what it says has the words, and no more."""


class GivenUpError(SeedanceError):
    """A worker no longer waits for this job, which may still succeed at the server."""


class EarlierRunError(SeedanceError):
    """A job of an earlier run failed or was cancelled; the journal has no more than the words."""


class NotResumedError(SeedanceError):
    """A job of an earlier run could not be resumed; it may still succeed at the server."""


_OF_ERROR: tuple[tuple[type[SeedanceError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.CONFIGURATION),
    (InvalidRequestError, ExitCode.USAGE),
    (AuthenticationError, ExitCode.REFUSED),
    (InsufficientCreditsError, ExitCode.REFUSED),
    (BudgetExceededError, ExitCode.REFUSED),
    (LimitReachedError, ExitCode.REFUSED),
    (JournalError, ExitCode.CONFIGURATION),
    (QueueError, ExitCode.CONFIGURATION),
    (SubmitUncertainError, ExitCode.UNCERTAIN),
    (JobTimeoutError, ExitCode.UNCERTAIN),
    (NotResumedError, ExitCode.UNCERTAIN),
    (GivenUpError, ExitCode.UNCERTAIN),
    (InterruptedRunError, ExitCode.INTERRUPTED),
    (DownloadError, ExitCode.NOT_SAVED),
)


def code_of(error: SeedanceError | None) -> ExitCode:
    """The exit code for an outcome with this error; without one, success."""
    if error is None:
        return ExitCode.SUCCESS
    if isinstance(error, JournalError) and getattr(error, "request_id", None) is not None:
        return ExitCode.NOT_SAVED  # a paid job is not in the journal
    return next((code for kind, code in _OF_ERROR if isinstance(error, kind)), ExitCode.FAILED)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """The exit code of a run whose outcomes have these codes."""
    found = set(codes)
    return next((code for code in PRECEDENCE if code in found), ExitCode.SUCCESS)
