"""Where the videos of tasks go: a folder that all workers see, or a bucket."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from seedance_async import ConfigurationError, Job, SavedFile
from seedance_async.engines.task import ID, Task
from seedance_async.jobs.downloads.part_file import safe_file_stem

if TYPE_CHECKING:
    from seedance_async.jobs.downloads.video_stream import VideoTarget
    from seedance_async.media import StoreFolder

_log = logging.getLogger(__name__)

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

    async def save(self, task: Task, job: Job) -> None:
        """Save a task's video under its name; beside it, if another job's video has that.

        Raises:
            DownloadError: see `Job.download`.
        """
        request_id = job.request_id or ""
        place, beside = self._places(task, request_id)
        is_own = _is_at(place, job.saved)
        if not is_own and await _is_taken(place, request_id):
            await job.download(beside, overwrite=True)
            if not await _is_same(place, job.saved):
                _log.warning(
                    "another video has the name %s: that of %s is saved as %s",
                    *(task.file_name, task.key, job.saved and job.saved.path.name),
                )
                return
            is_own = True  # it was saved by a worker that could not record it any more
            if isinstance(beside, Path):
                await asyncio.to_thread(beside.unlink, missing_ok=True)
        await job.download(place, overwrite=is_own)

    async def has(self, task: Task, request_id: str, saved: SavedFile | None) -> bool:
        """Whether a task's video is there as it is on record.

        Of a bucket, the record is believed: what has its name there was put whole.
        """
        for place in self._places(task, request_id):
            if saved is not None and _is_at(place, saved):
                return not isinstance(place, Path) or await _is_same(place, saved)
        return False

    def _places(self, task: Task, request_id: str) -> tuple[Path | VideoTarget, Path | VideoTarget]:
        """The place of a task's video, and the one that it has if that is another's."""
        stem, dot, suffix = task.file_name.rpartition(".")
        beside = f"{stem}.{ID}.{suffix}" if dot and "/" not in suffix else f"{task.file_name}.{ID}"
        return self.place(task, request_id), self.place(attrs.evolve(task, file=beside), request_id)

    def place(self, task: Task, request_id: str) -> Path | VideoTarget:
        """The place of a task's video."""
        name = task.file_name.replace(ID, safe_file_stem(request_id))
        if not isinstance(self._folder, Path):
            return self._folder.file(name)
        place = self._folder / name
        if place.parent != self._folder:
            place.parent.mkdir(parents=True, exist_ok=True)
        return place


def _is_at(place: Path | VideoTarget, saved: SavedFile | None) -> bool:
    """Whether a video is on record as saved there."""
    there: Any = place
    url = str(there.absolute()) if isinstance(place, Path) else there.url
    return saved is not None and saved.place == url


async def _is_taken(place: Path | VideoTarget, request_id: str) -> bool:
    """Whether something is there that is not marked as a job's video."""
    if isinstance(place, Path):
        return await asyncio.to_thread(place.exists)
    there: Any = place
    return bool(await there.is_of_another(request_id))


async def _is_same(place: object, saved: SavedFile | None) -> bool:
    """Whether a file is the video that was saved elsewhere."""
    if saved is None or not isinstance(place, Path):
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
