"""`seedance sheet`: a contact sheet of the videos in a folder, as one picture."""

from __future__ import annotations

from pathlib import Path

import click

from seedance_async._utils.plural import counted
from seedance_async._utils.whole_file import write_whole
from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode

_NAME = "sheet.png"


@click.command()
@click.argument("folder", type=options.FOLDER, default=options.DEFAULT_FOLDER, metavar="[DIR]")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=options.OutputPath(dir_okay=False, path_type=Path),
    help=f"The picture, a PNG file.  [default: {_NAME} in DIR]",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option(
    "--columns", type=options.COUNT, help="Videos side by side.  [default: by their number]"
)
@click.option(
    "--width",
    type=click.IntRange(16, 4096),
    help="Pixels that each one is wide.  [default: 320, or fewer for many columns]",
)
def sheet(
    folder: Path, output: Path | None, overwrite: bool, columns: int | None, width: int | None
) -> ExitCode:
    """Make a contact sheet of the videos in DIR: a frame of each, its name and its prompt.

    Needs the extra media.

    \b
    Examples:
      seedance sheet videos -o sheet.png
      seedance sheet videos --columns 6 --width 200 --overwrite
    """
    from seedance_async.media.sheet import contact_sheet

    screen, path = Screen(), output or folder / _NAME
    clips = sorted(folder.glob("*.mp4"))
    if not clips:
        raise click.UsageError(f"{folder} has no videos")
    if path.exists() and not overwrite:
        raise click.UsageError(f"{path} exists; --overwrite replaces it")
    picture = contact_sheet(clips, columns=columns, width=width)
    try:
        write_whole(path, picture)
    except OSError as error:
        raise options.cannot_write(path, error) from None
    screen.say(f"{counted(len(clips), 'video')} on one sheet")
    screen.answer(str(path))
    return ExitCode.SUCCESS
