"""`seedance journal copy`: the record of a batch, copied to where other machines find it."""

from __future__ import annotations

from pathlib import Path

import click

from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.journal.copying import Copied, copy_journal
from seedance_async.journal.reading import is_url


@click.command()
@click.argument("source", metavar="FROM", type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="TO")
def copy(source: Path, target: str) -> ExitCode:
    """Copy a journal into another one: all jobs and attempts, their cost, the files, the secret.

    FROM is the folder of a batch, or its journal file. TO is the same, or the URL of a queue, whose
    workers then know what was bought. What TO has already stays: the same copy can be repeated.
    Nothing is copied while a run writes FROM, or if TO has another job under the same key.

    From then on, go on with TO alone: neither knows what is bought with the other.

    \b
    Examples:
      seedance journal copy videos postgresql://HOST/DATABASE
      seedance journal copy videos sqlite:///fleet.db
      seedance journal copy old/run.db new/run.db
    """
    screen = Screen()
    place = QueuePlace(target).journal if is_url(target) else options.journal_path(Path(target))
    copied = copy_journal(options.journal_path(source), place)
    for text in _texts(copied, QueuePlace(target).shown if is_url(target) else place):
        screen.say(text)
    return ExitCode.SUCCESS


def _texts(copied: Copied, place: object) -> list[str]:
    jobs, attempts = counted(copied.jobs, "job"), counted(copied.attempts, "attempt")
    known = f"; {copied.known:,} were there already" if copied.known else ""
    texts = [f"{jobs} and {attempts} copied to {place}{known}."]
    if not copied.has_secret and copied.jobs:
        texts.append(
            "TO has a secret of its own, so webhooks of jobs that are running now are not "
            "recognised there; these jobs are polled."
        )
    return texts
