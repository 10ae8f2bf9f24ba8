"""Imports of packages that come with an extra, and need not be installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def packages_required(error: Callable[[str], Exception]) -> Iterator[None]:
    """Around such imports.

    Args:
        error: makes what is raised in place of a ModuleNotFoundError, of the package's name. That
            of a module of the SDK itself is left as it is.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        name = missing.name or ""
        if name.startswith("seedance_async"):
            raise
        raise error(name) from None
