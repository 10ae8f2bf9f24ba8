"""The page of a folder: `gallery.html` beside the videos, by its own command or after a run."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from seedance_async import JournalError
from seedance_async._utils.plural import counted
from seedance_async.cli.connection import Connection
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.destinations import state_folder
from seedance_async.cli.runs.posters import Posters
from seedance_async.cli.runs.shots import ShotFolder
from seedance_async.media.gallery import Gallery, Shot, page

#: The name of the page in the folder.
PAGE = "gallery.html"

_Work = Callable[..., Awaitable[ExitCode]]


def with_gallery(work: _Work) -> _Work:
    """Give a command that makes a folder of videos the option `--gallery`."""

    @click.option(
        "--gallery",
        is_flag=True,
        help=f"Write {PAGE} into the folder at the end: a page to look and choose.",
    )
    @functools.wraps(work)
    async def run(connection: Connection, *, gallery: bool, **rest: Any) -> ExitCode:
        code = await work(connection, **rest)
        if gallery and code is not ExitCode.USAGE and not rest["dry_run"]:
            folder = state_folder(rest["output"], rest["state"])
            source = ShotFolder.of(folder, rest["journal"])
            await asyncio.to_thread(_write_after, source, connection.screen)
        return code

    return run


def _write_after(source: ShotFolder, screen: Screen) -> None:
    """The page once a run has ended, whose videos and exit code stay what they are."""
    try:
        path, _ = write_page(source, screen)
    except (OSError, JournalError) as error:
        screen.say(f"the gallery could not be written: {error}", style="yellow")
    else:
        screen.say(f"Gallery: {path}")


def write_page(source: ShotFolder, screen: Screen) -> tuple[Path, list[Shot]]:
    """Write the page of a folder; its path, and what it shows.

    Raises:
        OSError: it cannot be written.
        JournalError: the journal cannot be read.
    """
    folder = source.folder
    shots = Posters(screen).added(source.read())
    text = page(Gallery(title_of(folder)), shots, lambda file: _relative(file, folder))
    _write(folder / PAGE, screen.without_key(text))
    return folder / PAGE, shots


def title_of(folder: Path) -> str:
    """What the page of a folder is called."""
    return folder.resolve().name or str(folder)


def summary(shots: Sequence[Shot]) -> str:
    """How many videos there are, and how many jobs without one, by their states."""
    videos = sum(shot.video is not None for shot in shots)
    others = Counter(shot.state for shot in shots if shot.video is None)
    return ", ".join([counted(videos, "video"), *(f"{n:,} {state}" for state, n in others.items())])


def _relative(file: Path, folder: Path) -> str:
    """A file as the page in the folder refers to it."""
    path = os.path.relpath(file, folder.resolve())
    return quote(Path(path).as_posix().encode("utf-8", "surrogateescape"))


def _write(path: Path, text: str) -> None:
    """Whole or not at all: somebody may be looking at the page of before."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON does
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
