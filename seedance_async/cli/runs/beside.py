"""What a run writes beside each video that it saves: its sidecar and its poster; and its tags.

The video comes first: whatever goes wrong here is told once, at the end, and harms neither the run
nor the video. What an earlier run could not write any more, the next one does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from seedance_async import (
    ConfigurationError,
    GenerationRequest,
    Job,
    SeedanceSession,
    dump_request,
)
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.destinations import Bucket
from seedance_async.media.extra import media_required
from seedance_async.media.sidecar import (
    Sidecar,
    files_of,
    poster_path,
    read_sidecar,
    write_sidecar,
)
from seedance_async.media.tags import read_tags, write_tags


class Beside:
    """Writes what belongs beside the videos of a run.

    Args:
        session: the run's.
        tags: whether the sidecar is written into the video, too, which rewrites its file.
        numbered: whether the lines of the run have the numbers of an input.
        bucket: where the videos go, if not to a folder; only sidecars are put there.

    Raises:
        ConfigurationError: tags are asked for, and the extra `media` is not installed.
    """

    def __init__(
        self,
        session: SeedanceSession,
        *,
        tags: bool = False,
        numbered: bool = True,
        bucket: Bucket | None = None,
    ) -> None:
        self._session, self._tags, self._numbered = session, tags, numbered
        self._bucket = bucket
        self._failures: list[str] = []
        if tags:
            with media_required():
                import av  # noqa: F401

    async def write(self, line: Line, job: Job, video: Path | str) -> None:
        """Write what is missing beside a video. Raises nothing but a cancellation.

        Args:
            line: the job's.
            job: it has succeeded.
            video: a file, or the URL of an object in the bucket.
        """
        try:
            if isinstance(video, Path):
                if not await asyncio.to_thread(self._is_complete, video, job.request_id):
                    await asyncio.to_thread(self._write, video, await self._sidecar(line, job))
            elif self._bucket is not None:
                await self._put(self._bucket, self._bucket.name_of(video), line, job)
        except Exception as error:  # the video is saved, and that is what counts
            self._failures.append(f"{video}: {error}")

    async def _put(self, bucket: Bucket, video: str, line: Line, job: Job) -> None:
        name = str(PurePosixPath(video).with_suffix(".json"))
        if bucket.is_taken(name):
            if bucket.is_taken(video):  # both were there when the run began
                return
            if _is_of(Sidecar.from_text(await bucket.store.read(name)), job.request_id):
                return
        sidecar = await self._sidecar(line, job)
        await bucket.store.put(name, sidecar.as_text().encode("utf-8", "backslashreplace"))

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
            "files": _files_of(line.request),
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

    def _is_complete(self, video: Path, request_id: str | None) -> bool:
        """Whether an earlier run has written all of it. The journal need not be asked for that."""
        return (
            _is_of(_found(read_sidecar, video), request_id)
            and (_poster_writer() is None or poster_path(video).exists())
            and (not self._tags or _is_of(_found(read_tags, video), request_id))
        )

    def _write(self, video: Path, sidecar: Sidecar) -> None:
        known = _found(read_sidecar, video)
        is_known = _is_of(known, sidecar.request_id)
        sidecar = known if is_known and known is not None else sidecar
        if self._tags and not _is_of(_found(read_tags, video), sidecar.request_id):
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


def _files_of(request: GenerationRequest) -> dict[str, str]:
    """Its files, as far as they are still there."""
    try:
        return files_of(request)
    except ValueError:
        return {}


def _found(read: Callable[[Path], Sidecar | None], video: Path) -> Sidecar | None:
    try:
        return read(video)
    except (OSError, ValueError):
        return None


def _is_of(found: Sidecar | None, request_id: str | None) -> bool:
    return found is not None and found.request_id == request_id
