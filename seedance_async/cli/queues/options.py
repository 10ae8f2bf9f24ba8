"""Which options of `batch` say something to workers, or nothing, where others make the jobs."""

from __future__ import annotations

import click
from click.core import ParameterSource

#: Options of the session that makes the jobs.
_OF_WORKERS = {
    "max_credits": "--max-credits",
    "max_in_flight": "--max-in-flight",
    "max_downloads": "--max-downloads",
    "timeout": "--timeout",
    "queue_timeout": "--queue-timeout",
    "poll_interval": "--poll-interval",
}

#: Options that mean nothing with a queue, and why.
_MEANINGLESS = {
    "journal": ("--journal", "the journal is that of the queue"),
    "no_journal": ("--no-journal", "workers share a journal"),
    "overwrite": (
        "--overwrite",
        "what was bought is in the journal of the queue: for new jobs, give the lines other keys",
    ),
    "resubmit_uncertain": (
        "--resubmit-uncertain",
        "a worker never submits again what is uncertain: see `seedance queue uncertain`",
    ),
    "tags": ("--tags", "workers compare the videos with what they have saved"),
    "upload": ("--upload", "media of jobs that other machines make must be URLs"),
    "fit": ("--fit", "media of jobs that other machines make must be URLs"),
}


def check_options(context: click.Context, *, works: bool) -> None:
    """Refuse what would be ignored.

    Args:
        context: of the command.
        works: whether this process is a worker, too.

    Raises:
        UsageError: an option was given on the command line that says nothing here.
    """
    for name, (option, why) in _MEANINGLESS.items():
        if _is_given(context, name):
            raise click.UsageError(f"{option} cannot be combined with --queue: {why}")
    given = [option for name, option in _OF_WORKERS.items() if _is_given(context, name)]
    if given and not works:
        raise click.UsageError(
            f"{' and '.join(given)}: with --queue, workers make the jobs, so this belongs to "
            "`seedance worker`; or pass --work, for this process to be one, too"
        )


def check_without_queue(context: click.Context) -> None:
    """Refuse what says something only with a queue. Raises UsageError."""
    for name, option in (("work", "--work"), ("run", "--run")):
        if _is_given(context, name):
            raise click.UsageError(f"{option} needs --queue")


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
