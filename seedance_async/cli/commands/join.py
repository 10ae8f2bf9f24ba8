"""`seedance join`: finished clips in, one film out, without encoding anything again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode


@click.command()
@click.argument(
    "clips",
    nargs=-1,
    required=True,
    metavar="CLIP...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=options.OutputPath(dir_okay=False, path_type=Path),
    help="The film, an MP4 file.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def join(clips: Sequence[Path], output: Path, overwrite: bool) -> ExitCode:
    """Join clips, in this order, to one film, and print its path.

    Every frame is kept as it is, and so is the sound: nothing is encoded again. The clips must be
    of one kind: of the same model, with the same options. Needs the extra media.

    \b
    Examples:
      seedance join videos/0001-*.mp4 videos/0002-*.mp4 -o film.mp4
      seedance join videos/*.mp4 -o film.mp4
    """
    from seedance_async.media.joining import join_clips

    screen = Screen()
    try:
        film = join_clips(clips, output, overwrite=overwrite)
    except FileExistsError:
        raise click.UsageError(f"{output} exists; --overwrite replaces it") from None
    except OSError as error:
        raise options.cannot_write(output, error) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    length = f"{counted(film.frames, 'frame')}, {film.seconds:.1f} s"
    screen.say(f"{counted(len(clips), 'clip')} joined: {length}")
    screen.answer(str(film.path))
    return ExitCode.SUCCESS
