"""What a run writes beside each video that it saves: its sidecar and its poster; and its tags.

The video comes first: whatever goes wrong here is told once, at the end, and harms neither the run
nor the video. What an earlier run could not write any more, the next one does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seedance_async import ConfigurationError, Job, JournalError, SeedanceSession, dump_request
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.media.extra import media_required
from seedance_async.media.sidecar import (
    Sidecar,
    files_of,
    poster_path,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)
from seedance_async.media.tags import read_tags, write_tags


class Beside:
    """Writes what belongs beside the videos of a run.

    Args:
        session: the run's.
        tags: whether the sidecar is written into the video, too, which rewrites its file.
        numbered: whether the lines of the run have the numbers of an input.

    Raises:
        ConfigurationError: tags are asked for, and the extra `media` is not installed.
    """

    def __init__(
        self, session: SeedanceSession, *, tags: bool = False, numbered: bool = True
    ) -> None:
        self._session, self._tags, self._numbered = session, tags, numbered
        self._failures: list[str] = []
        if tags:
            with media_required():
                import av  # noqa: F401

    async def write(self, line: Line, job: Job, video: Path) -> None:
        """Write what is missing beside a video. Raises nothing but a cancellation."""
        try:
            sidecar = await self._sidecar(line, job)
        except (JournalError, ValueError, OSError) as error:
            self._failures.append(f"{sidecar_path(video)}: {error}")
            return
        await asyncio.to_thread(self._write, video, sidecar)

    def show(self, screen: Screen) -> None:
        """Say what could not be written."""
        if self._failures:
            files = counted(len(self._failures), "file")
            screen.say(
                f"{files} beside the videos could not be written; the first: {self._failures[0]}",
                style="yellow",
            )

    async def _sidecar(self, line: Line, job: Job) -> Sidecar:
        entry = await self._session.recorded(job.key)
        known: dict[str, Any] = {
            "files": files_of(line.request),
            "request_id": job.request_id,
            "credits_charged": job.credits_charged,
            "saved_at": time.time(),
        }
        if job.saved is not None:
            known |= {"size": job.saved.size, "sha256": job.saved.sha256}
        if self._numbered:
            known |= {"line": line.number, "take": line.take, "columns": line.columns}
        if entry is None:
            return Sidecar(request=dump_request(line.request), **known)
        request = json.loads(entry.request)
        return Sidecar(request=request, key=job.key, submitted_at=entry.created_at, **known)

    def _write(self, video: Path, sidecar: Sidecar) -> None:
        known = _found(read_sidecar, video)
        is_known = _is_of(known, sidecar)
        sidecar = known if is_known and known is not None else sidecar
        if self._tags and not _is_of(_found(read_tags, video), sidecar):
            self._try(lambda: write_tags(video, sidecar))
        write_poster = _poster_writer()
        if write_poster is not None and not (is_known and poster_path(video).exists()):
            self._try(lambda: write_poster(video))
        if not is_known:
            self._try(lambda: write_sidecar(video, sidecar))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:  # the video is saved, and that is what counts
            self._failures.append(str(error))


def _poster_writer() -> Callable[[Path], Path] | None:
    """What writes posters; None if the extra is not installed. Imported with the first video."""
    try:
        from seedance_async.media.posters import write_poster
    except ConfigurationError:
        return None
    return write_poster


def _found(read: Callable[[Path], Sidecar | None], video: Path) -> Sidecar | None:
    try:
        return read(video)
    except (OSError, ValueError):
        return None


def _is_of(found: Sidecar | None, sidecar: Sidecar) -> bool:
    return found is not None and found.request_id == sidecar.request_id
