"""`seedance completion`: the script that has a shell complete commands, ids, keys and folders."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode

#: The environment variable by which the script asks for completions.
COMPLETING = "_SEEDANCE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> ExitCode:
    """Print the script that completes `seedance` in a shell.

    Ids and keys come from the journals of your own jobs and batches; no server is asked.

    \b
    In ~/.bashrc:  eval "$(seedance completion bash)"
    In ~/.zshrc, after compinit:  eval "$(seedance completion zsh)"
    For fish:  seedance completion fish > ~/.config/fish/completions/seedance.fish

    \b
    Example:
      seedance completion bash
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    Screen().answer(kind(root, {}, "seedance", COMPLETING).source())
    return ExitCode.SUCCESS
