"""The root of the command line: its commands, and how errors are shown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import click

from seedance_async import ConfigurationError, InvalidRequestError, SeedanceError
from seedance_async.cli.commands.batch import batch
from seedance_async.cli.commands.cancel import cancel
from seedance_async.cli.commands.completion import COMPLETING, completion
from seedance_async.cli.commands.demo import demo
from seedance_async.cli.commands.emulator import emulator
from seedance_async.cli.commands.gallery import gallery
from seedance_async.cli.commands.generate import generate
from seedance_async.cli.commands.history import history
from seedance_async.cli.commands.join import join
from seedance_async.cli.commands.journal import journal
from seedance_async.cli.commands.models import models
from seedance_async.cli.commands.queue import queue
from seedance_async.cli.commands.reroll import reroll
from seedance_async.cli.commands.resume import resume
from seedance_async.cli.commands.sheet import sheet
from seedance_async.cli.commands.status import status
from seedance_async.cli.commands.worker import worker
from seedance_async.cli.config import Settings, read_settings
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, code_of, worst
from seedance_async.cli.outlets import guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="seedance-async", prog_name="seedance")
def cli() -> None:
    """Video generation with the Seedance 2.0 Open API.

    The API key is read from the environment variable SEEDANCE_API_KEY, or from your own
    seedance.toml if nobody else can read that, and from nowhere else: other users of the machine
    can read what is on a command line.

    \b
    Examples:
      seedance demo
      seedance generate "A river in autumn"
    """


_COMMANDS = (
    *(generate, batch, reroll, resume),
    *(history, journal, status, cancel, models),
    *(worker, queue),
    *(gallery, sheet, join, emulator, demo, completion),
)
for _command in _COMMANDS:
    cli.add_command(_command)


def run(args: Sequence[str]) -> int:
    """Run one command line and return its exit code. Expected errors are shown as one message."""
    with guarded(_say_stdout_failed) as stdout:
        code = _run(args)
    return code if stdout.failure is None else worst([ExitCode(code), ExitCode.NOT_SAVED])


def _say_stdout_failed(error: OSError) -> None:
    Screen().say(f"seedance: stdout cannot be written: {error}", style="red")


def _run(args: Sequence[str]) -> int:
    try:
        settings = Settings() if _needs_no_settings(args) else read_settings(cli)
    except ConfigurationError as error:
        Screen().say(f"seedance: {error}", style="red")
        return ExitCode.CONFIGURATION
    with settings.in_use():
        return _run_with(settings, args)


def _needs_no_settings(args: Sequence[str]) -> bool:
    """What a user calls to learn of the command works whatever is in a file."""
    helps = {"-h", "--help", "--version"}
    return not helps.isdisjoint(args) or args[:1] == ["completion"] or COMPLETING in os.environ


def _run_with(settings: Settings, args: Sequence[str]) -> int:
    screen = Screen()
    try:
        code = cli.main(
            list(args),
            prog_name="seedance",
            standalone_mode=False,
            default_map=settings.defaults,
        )
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        screen.say("seedance: interrupted", style="yellow")
        return ExitCode.INTERRUPTED
    except InvalidRequestError as error:
        for broken in error.violations:
            screen.say(f"seedance: {InvalidRequestError([broken])}")
        return ExitCode.USAGE
    except SeedanceError as error:
        screen.say(f"seedance: {error}", style="red")
        return code_of(error)
    return int(code or ExitCode.SUCCESS)
