"""`seedance gallery`: a page to look at the videos of a batch, to compare them and to choose."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.runs.gallery_page import summary, title_of, write_page
from seedance_async.cli.runs.posters import Posters
from seedance_async.cli.runs.shots import ShotFolder
from seedance_async.media.gallery import LiveGallery, Shot


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
    if live:
        return _serve(source, screen, host=host, port=port, opened=opened)
    if source.is_empty():
        raise click.UsageError(f"{folder} has no results, no journal and no videos")
    try:
        path, shots = write_page(source, screen)
    except OSError as error:
        raise options.cannot_write(folder, error) from None
    screen.say(summary(shots))
    screen.answer(str(path))
    if opened:
        click.launch(str(path))
    return ExitCode.SUCCESS


def _serve(source: ShotFolder, screen: Screen, *, host: str, port: int, opened: bool) -> ExitCode:
    from seedance_async.media.gallery.server import is_loopback, serve

    posters = Posters(screen)

    def read() -> list[Shot]:
        return posters.added(source.read())

    def ready(url: str) -> None:
        screen.answer(url)
        if not is_loopback(host):
            screen.say("Whoever can reach this machine can see the page.", style="yellow")
        if opened:
            click.launch(url)

    live = LiveGallery(title_of(source.folder), read, source.signature, redacted=screen.without_key)
    try:
        asyncio.run(serve(live, ready, host=host, port=port))
    except KeyboardInterrupt:
        return ExitCode.SUCCESS
    except OSError as error:
        raise click.UsageError(f"cannot serve on {host}:{port}: {error.strerror}") from None
    return ExitCode.SUCCESS
