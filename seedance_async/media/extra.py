"""What happens where the extra `media`, Pillow and PyAV, is needed and not installed."""

from __future__ import annotations

from contextlib import AbstractContextManager

from seedance_async._utils.packages import packages_required
from seedance_async.api.errors import ConfigurationError


def media_required() -> AbstractContextManager[None]:
    """Around imports of Pillow and PyAV: ConfigurationError if one of them is not installed."""
    return packages_required(
        lambda name: ConfigurationError(
            f"{name} is not installed; "
            'pip install "seedance-async[media]" installs what pictures and clips need'
        )
    )
