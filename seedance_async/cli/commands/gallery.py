"""`seedance gallery`: a page to look at the videos of a batch, to compare them and to choose."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import click

from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.posters import Posters
from seedance_async.cli.runs.shots import ShotFolder
from seedance_async.media.gallery import Gallery, LiveGallery, Shot, is_loopback, page, serve

#: The name of the page in the folder.
PAGE = "gallery.html"


@click.command()
@click.argument(
    "folder",
    type=options.FOLDER,
    default=options.DEFAULT_FOLDER,
    metavar="[DIR]",
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The journal of the batch, if it is elsewhere.  [default: run.db in DIR]",
)
@click.option(
    "--serve", "live", is_flag=True, help="Serve the page until Ctrl-C; it follows the batch."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve it on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8766,
    show_default=True,
    help="Port to serve it on; 0 picks a free one.",
)
@click.option("--open", "opened", is_flag=True, help="Open the page in the browser.")
def gallery(
    folder: Path, journal: Path | None, live: bool, host: str, port: int, opened: bool
) -> ExitCode:
    """Write a page that shows the videos of a batch: DIR/gallery.html.

    It plays them, searches, filters, compares up to four in sync, and keeps ratings and picks,
    which it exports as the file of the next batch. `?` on the page lists its keys.

    With --serve the page shows what a running batch makes, as it is made. It is served to this
    machine alone, unless --host says otherwise.

    \b
    Examples:
      seedance gallery videos --open
      seedance gallery videos --serve
    """
    screen = Screen()
    source = ShotFolder.of(folder, journal)
    posters = Posters(screen)
    if live:
        return _serve(source, posters, screen, host=host, port=port, opened=opened)
    shots = posters.added(source.read()) if folder.is_dir() else []
    if not shots:
        raise click.UsageError(f"{folder} has no results, no journal and no videos")
    path = folder / PAGE
    text = page(Gallery(_title(folder)), shots, lambda file: _relative(file, folder))
    try:
        _write(path, screen.without_key(text))
    except OSError as error:
        raise options.cannot_write(path, error) from None
    screen.say(_summary(shots))
    screen.answer(str(path))
    if opened:
        click.launch(str(path))
    return ExitCode.SUCCESS


def _serve(
    source: ShotFolder, posters: Posters, screen: Screen, *, host: str, port: int, opened: bool
) -> ExitCode:
    def read() -> list[Shot]:
        return posters.added(source.read())

    def ready(url: str) -> None:
        screen.answer(url)
        if not is_loopback(host):
            screen.say("Whoever can reach this machine can see the page.", style="yellow")
        if opened:
            click.launch(url)

    live = LiveGallery(_title(source.folder), read, source.signature, redacted=screen.without_key)
    try:
        asyncio.run(serve(live, ready, host=host, port=port))
    except KeyboardInterrupt:
        return ExitCode.SUCCESS
    except OSError as error:
        raise click.UsageError(f"cannot serve on {host}:{port}: {error.strerror}") from None
    return ExitCode.SUCCESS


def _title(folder: Path) -> str:
    return folder.resolve().name or str(folder)


def _relative(file: Path, folder: Path) -> str:
    """A file as the page in the folder refers to it."""
    path = os.path.relpath(file, folder.resolve())
    return quote(Path(path).as_posix().encode("utf-8", "surrogateescape"))


def _summary(shots: Sequence[Shot]) -> str:
    videos = sum(shot.video is not None for shot in shots)
    others = Counter(shot.state for shot in shots if shot.video is None)
    parts = [counted(videos, "video"), *(f"{n:,} {state}" for state, n in others.items())]
    return ", ".join(parts)


def _write(path: Path, text: str) -> None:
    """Whole or not at all: somebody may be looking at the page of before."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # as JSON does
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
