"""Posters for videos that have none, where the extra `media` can make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from seedance_async import ConfigurationError
from seedance_async.cli.console import Screen
from seedance_async.media.gallery import Shot

#: How many posters are made before somebody is told that it takes a while.
_MANY = 50


class Posters:
    """Makes `NAME.jpg` beside `NAME.mp4`, once; a video that yields none is left alone."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._make = _maker()
        self._failed: set[Path] = set()

    def added(self, shots: Sequence[Shot]) -> list[Shot]:
        """The shots, each with a poster where one can be made."""
        lacking = sum(self._lacks(shot) for shot in shots)
        if lacking > _MANY:
            self._screen.say(f"Making {lacking:,} posters …")
        return [self._with_poster(shot) if self._lacks(shot) else shot for shot in shots]

    def _lacks(self, shot: Shot) -> bool:
        has_none = shot.video is not None and shot.poster is None
        return self._make is not None and has_none and shot.video not in self._failed

    def _with_poster(self, shot: Shot) -> Shot:
        assert shot.video is not None
        assert self._make is not None
        try:
            return attrs.evolve(shot, poster=self._make(shot.video))
        except (OSError, ValueError):
            self._failed.add(shot.video)
            return shot


def _maker() -> Callable[[Path], Path] | None:
    """What makes a poster; without the extra, the page shows the first frame of the video."""
    try:
        from seedance_async.media.posters import write_poster
    except ConfigurationError:
        return None
    return write_poster
