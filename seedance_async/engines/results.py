"""Where the videos of tasks go: a folder that all workers see, or a bucket."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedance_async import ConfigurationError, SavedFile
from seedance_async.engines.task import ID, Task
from seedance_async.jobs.downloads.part_file import safe_file_stem

if TYPE_CHECKING:
    from seedance_async.jobs.downloads.video_stream import VideoTarget
    from seedance_async.media import StoreFolder

_PIECE = 1 << 20


class Results:
    """Places for videos, by the names of their tasks.

    Args:
        folder: a folder, which is made; or a `StoreFolder`.

    Raises:
        ConfigurationError: the folder cannot be made.
    """

    def __init__(self, folder: Path | StoreFolder) -> None:
        self._folder = folder
        if isinstance(folder, Path):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"the folder for videos cannot be made: {error}"
                raise ConfigurationError(message) from None

    def __repr__(self) -> str:
        return f"<Results in {self._folder}>"

    @classmethod
    def at(cls, place: Results | Path | str | None) -> Results | None:
        """The results at a folder or a bucket's URL."""
        if place is None or isinstance(place, Results):
            return place
        if isinstance(place, str) and "://" in place:
            from seedance_async.media import StoreFolder

            return cls(StoreFolder(place))
        return cls(Path(place))

    def place(self, task: Task, request_id: str) -> Path | VideoTarget:
        """The place of a task's video, for `Job.download`."""
        name = task.file_name.replace(ID, safe_file_stem(request_id))
        if not isinstance(self._folder, Path):
            return self._folder.file(name)
        place = self._folder / name
        if place.parent != self._folder:
            place.parent.mkdir(parents=True, exist_ok=True)
        return place

    async def has(self, task: Task, request_id: str, saved: SavedFile | None) -> bool:
        """Whether a task's video is there as it is on record.

        Of a bucket, the record is believed: what has its name there was put whole.
        """
        place: Any = self.place(task, request_id)
        if saved is None:
            return False
        if not isinstance(place, Path):
            return bool(saved.url == place.url)
        if saved.place != str(place.absolute()):
            return False
        return await asyncio.to_thread(_digest, place) == saved.sha256


def _digest(path: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()
