"""What happens where the extra `media`, Pillow and PyAV, is needed and not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from seedance_async.api.errors import ConfigurationError


@contextmanager
def media_required() -> Iterator[None]:
    """Around imports of Pillow and PyAV.

    Raises:
        ConfigurationError: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("seedance_async"):
            raise
        raise ConfigurationError(
            f"{missing.name} is not installed; "
            'pip install "seedance-async[media]" installs what pictures and clips need'
        ) from None
