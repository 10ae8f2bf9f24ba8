"""`seedance demo`: the emulator and a batch in one process, for a person to watch.

The emulator is imported only when the command is called.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.extras import emulator_required


@click.command()
@options.output_folder("Folder for the videos and results.jsonl.", Path("demo-out"))
@options.seed
def demo(folder: Path, seed: int) -> ExitCode:
    """Watch 24 jobs go through a local emulator, with six things going wrong.

    \b
    Example:
      seedance demo -o demo-out
    """
    with emulator_required():
        from seedance_async.cli.demo.runner import play
    screen = Screen()
    with screen.logging(False):
        return asyncio.run(play(folder, seed, screen))
