"""What happens when a command needs an extra that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from seedance_async.cli.exit_codes import MissingExtraError


@contextmanager
def emulator_required() -> Iterator[None]:
    """Around imports of the emulator: a package that is missing is one clear line.

    Raises:
        MissingExtraError: the extra `emulator` is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("seedance_async"):
            raise
        raise MissingExtraError(
            f"{missing.name} is not installed; "
            'pip install "seedance-async[emulator]" installs what the emulator needs'
        ) from None
