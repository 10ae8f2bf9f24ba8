"""The options that several commands share, each declared once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from seedance_async.cli.capability_check import strict as strict
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.extra_option import extra
from seedance_async.cli.runs.next_steps import JOURNAL

Command = TypeVar("Command", bound=Callable[..., ExitCode])

POSITIVE = click.FloatRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)
FOLDER = click.Path(file_okay=False, path_type=Path)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

#: Where a batch keeps its videos and its journal by default.
DEFAULT_FOLDER = Path("videos")

max_in_flight = click.option(
    "--max-in-flight", type=COUNT, default=20, show_default=True, help="Jobs in flight at once."
)
max_downloads = click.option(
    "--max-downloads", type=COUNT, default=4, show_default=True, help="Downloads at once."
)
timeout = click.option(
    "--timeout",
    type=POSITIVE,
    default=3600.0,
    show_default=True,
    help="Seconds of processing to wait for each job. After that it goes on at the server.",
)
queue_timeout = click.option(
    "--queue-timeout",
    type=POSITIVE,
    default=86400.0,
    show_default=True,
    help="The same for the time that a job is still queued at the server.",
)
#: What to do where media are on this machine and nobody can upload them.
NO_BUCKET = "for media from this machine, give --upload a bucket, such as s3://BUCKET/PREFIX"

max_credits = click.option(
    "--max-credits",
    type=COUNT,
    help="Stop submitting before the credits spent, in earlier runs too, exceed this.",
)
resubmit_uncertain = click.option(
    "--resubmit-uncertain",
    is_flag=True,
    help="Submit uncertain jobs of earlier runs again. They may be paid for twice.",
)
upload = click.option(
    "--upload",
    metavar="BUCKET",
    envvar="SEEDANCE_UPLOAD",
    help="Upload media from this machine to s3://BUCKET/PREFIX, gs://… or az://…, and sign their"
    " URLs. Needs the extra storage.  [default: SEEDANCE_UPLOAD; the emulator needs none]",
)
tags = click.option(
    "--tags",
    is_flag=True,
    help="Write the sidecar of each video into its own metadata, too. This rewrites the file, and"
    " leaves its frames as they are. Needs the extra media.",
)
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print results to stdout as JSON, one object per line."
)
seed = click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of everything random: ids, running times, faults.",
)


def named_place(_context: object, _parameter: object, text: Any) -> Any:
    """A click callback: what the user gave as a place to save to, if it names one."""
    if isinstance(text, str) and not text.strip():
        raise click.BadParameter(
            f"{text!r} names no place: give a name, or . for the current folder. "
            "Is a variable unset?"
        )
    if text == "-":
        raise click.BadParameter(
            "- is not standard output here, as videos go to files: give a name; ./- is one, too"
        )
    return text


def no_url(context: object, parameter: object, text: Any) -> Any:
    """A click callback: the path that the user gave. A URL is none, but would make folders."""
    if text is not None and _URL.match(str(text)):
        raise click.BadParameter(
            f"{text} is no path on this machine; for videos in a bucket: seedance batch -o"
        )
    return named_place(context, parameter, text)


class OutputPath(click.Path):
    """A path to save to."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As of its base, if the value names a place."""
        return super().convert(named_place(ctx, param, value), param, ctx)


class _Folder(click.Path):
    """A folder on this machine."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(no_url(ctx, param, value), param, ctx)


def output_folder(help_text: str, default: Path | None = None) -> Callable[[Command], Command]:
    """`-o`, a folder; made if it does not exist."""
    return click.option(
        "-o",
        "--output",
        "folder",
        type=_Folder(file_okay=False, path_type=Path),
        default=default,
        show_default=default is not None,
        help=help_text,
    )


def request_fields(command: Command) -> Command:
    """The fields of a request that have a default at the server."""
    for option in (
        extra,
        click.option("--resolution", help="480p, 720p or 1080p, or what `seedance models` lists."),
        click.option("--duration", type=int, help="Length of the video in whole seconds."),
        click.option("--aspect-ratio", help="16:9, 9:16 or 1:1, or what `seedance models` lists."),
        click.option("--model", help="The model id.  [default: seedance-2.0]"),
    ):
        command = option(command)
    return command


def make_folder(folder: Path) -> None:
    """Make a folder that the user named. Raises UsageError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None


def cannot_write(path: Path, error: OSError) -> click.UsageError:
    """The error for a path, named by the user, that cannot be written."""
    return click.UsageError(f"{path} cannot be written: {error.strerror}")


# --- the journal to work on -----------------------------------------------------------------------

_journal_option = click.option(
    "--journal",
    "named_journal",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder of the batch, or its journal file.  [default: videos]",
)


def journal_path(place: Path | None) -> Path:
    """The journal file for a file or a folder that the user named."""
    place = DEFAULT_FOLDER if place is None else place
    return place / JOURNAL if place.is_dir() else place


def journal(command: Command) -> Callable[..., ExitCode]:
    """`[DIR]`, or `--journal DIR`; the command gets the journal file as `journal`."""

    @click.argument("place", required=False, type=click.Path(path_type=Path), metavar="[DIR]")
    @_journal_option
    @functools.wraps(command)
    def run(place: Path | None, named_journal: Path | None, **rest: Any) -> ExitCode:
        if place is not None and named_journal is not None:
            raise click.UsageError("name the journal once: as DIR or with --journal")
        return command(journal=journal_path(place or named_journal), **rest)

    return run


def journal_before(
    words: str, fewest: int, most: int | None = None, *, complete: Callable[..., Any] | None = None
) -> Callable[[Command], Callable[..., ExitCode]]:
    """`[DIR] WORDS`, or `--journal DIR WORDS`; the command gets `journal` and `words`.

    Args:
        words: how the help shows the words.
        fewest, most: how many there may be besides DIR; the first of more is DIR if it exists.
        complete: what a shell offers for a word; see `click.Parameter.shell_complete`.
    """

    def decorate(command: Command) -> Callable[..., ExitCode]:
        @click.argument(
            "words", nargs=-1, required=True, metavar=f"[DIR] {words}", shell_complete=complete
        )
        @_journal_option
        @functools.wraps(command)
        def run(words: Sequence[str], named_journal: Path | None, **rest: Any) -> ExitCode:
            place = named_journal
            if place is None and len(words) > fewest and Path(words[0]).exists():
                place, words = Path(words[0]), words[1:]
            if len(words) < fewest or (most is not None and len(words) > most):
                raise click.UsageError(f"expected {expected}, got {' '.join(words)}")
            return command(journal=journal_path(place), words=tuple(words), **rest)

        expected = f"[DIR] {words}"
        return run

    return decorate
