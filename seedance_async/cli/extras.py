"""What happens when a command needs an extra that is not installed."""

from __future__ import annotations

from contextlib import AbstractContextManager

from seedance_async._utils.packages import packages_required
from seedance_async.cli.exit_codes import MissingExtraError


def emulator_required() -> AbstractContextManager[None]:
    """Around imports of the emulator: MissingExtraError if a package that it needs is missing."""
    return packages_required(
        lambda name: MissingExtraError(
            f"{name} is not installed; "
            'pip install "seedance-async[emulator]" installs what the emulator needs'
        )
    )
