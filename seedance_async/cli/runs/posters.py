"""Posters for the videos of a gallery that have none, where the extra `media` can make them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from seedance_async import ConfigurationError
from seedance_async.cli.console import Screen
from seedance_async.media.gallery import Shot

#: How many posters are made before somebody is told that it takes a while.
_MANY = 50
#: Seconds for which a video is left to the run that has just saved it, and writes its poster.
_FRESH = 10.0


class Posters:
    """Makes `NAME.jpg` beside `NAME.mp4`, once; a video that yields none is left alone."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._write = _writer()
        self._failed: set[Path] = set()

    def added(self, shots: Sequence[Shot]) -> list[Shot]:
        """The shots, each with a poster where one can be made."""
        write = self._write
        if write is None:
            return list(shots)
        lacking = sum(self._lacks(shot) for shot in shots)
        if lacking > _MANY:
            self._screen.say(f"Making {lacking:,} posters …")
        return [self._with_poster(shot, write) if self._lacks(shot) else shot for shot in shots]

    def _lacks(self, shot: Shot) -> bool:
        if shot.video is None or shot.poster is not None or shot.video in self._failed:
            return False
        try:
            return time.time() - shot.video.stat().st_mtime > _FRESH
        except OSError:  # it has just gone
            return False

    def _with_poster(self, shot: Shot, write: Callable[[Path], Path]) -> Shot:
        assert shot.video is not None
        try:
            return attrs.evolve(shot, poster=write(shot.video))
        except (OSError, ValueError):
            self._failed.add(shot.video)
            return shot


def _writer() -> Callable[[Path], Path] | None:
    """What writes a poster; without the extra, the page shows the first frame of the video."""
    try:
        from seedance_async.media.posters import write_poster
    except ConfigurationError:
        return None
    return write_poster
