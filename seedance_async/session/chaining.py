"""Requests whose media are the videos of other jobs: waited for, then resolved to URLs.

The waiting is done without a slot, before the submit; what a frame needs, a download, a decoder and
an upload, is done in the slot, right before the POST. Called for requests with such media alone.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from seedance_async._utils.urls import broken_url_rule
from seedance_async.api.errors import JournalError, SeedanceError, SourceJobError
from seedance_async.api.job_media import JobMedium
from seedance_async.api.local_media import LocalMedium, local_medium
from seedance_async.api.models import Generation
from seedance_async.api.prepared_request import PreparedRequest
from seedance_async.api.request import Medium
from seedance_async.jobs.job import Job, JobActions
from seedance_async.jobs.registry import JobRecord, SavedFile, TaskRegistry
from seedance_async.jobs.state import JobState

if TYPE_CHECKING:
    from seedance_async.session.uploads import Uploads

#: Frames that are kept, for the next request that begins where the same job ends.
KEPT_FRAMES = 16


class NamedJobs:
    """The jobs of one stream that later requests of it name by their keys.

    Args:
        keys: those that are named.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = frozenset(keys)
        self._jobs: dict[str, asyncio.Future[JobRecord | None]] = {}

    def coming(self, key: object) -> None:
        """The request with this key has been pulled; it will have a job, or none."""
        if isinstance(key, str) and key in self._keys and key not in self._jobs:
            self._jobs[key] = asyncio.get_running_loop().create_future()

    def begun(self, key: object, record: JobRecord | None) -> None:
        """The request with this key has a job, or will never have one."""
        coming = self._jobs.get(key) if isinstance(key, str) else None
        if coming is not None and not coming.done():
            coming.set_result(record)

    async def find(self, key: str) -> JobRecord | None:
        """The job with this key; None unless its request was pulled before."""
        coming = self._jobs.get(key)
        return None if coming is None else await asyncio.shield(coming)


class Chaining:
    """Resolves the media of a session's requests that are videos of other jobs.

    Args:
        registry: the session's.
        uploads: the session's; None where it has none.
        on_record: finds a job in the session's journal, if it has one.
        actions: what the handles of the jobs can do.
        get: makes a status query.
        save: downloads the video of a job.
        allow_local: whether a video may be on this machine.
    """

    def __init__(
        self,
        *,
        registry: TaskRegistry,
        uploads: Uploads | None,
        on_record: Callable[[str], Awaitable[JobRecord | None]],
        actions: JobActions,
        get: Callable[[str], Awaitable[Generation]],
        save: Callable[[Generation, Path], Awaitable[SavedFile]],
        allow_local: bool,
    ) -> None:
        self._registry, self._uploads, self._on_record = registry, uploads, on_record
        self._actions, self._get, self._save = actions, get, save
        self._allow_local = allow_local
        self._frames: OrderedDict[str, _Frame] = OrderedDict()
        self._awaited: dict[Job, Job] = {}  # by the job that waits

    async def ended(
        self, record: JobRecord, prepared: PreparedRequest, named: NamedJobs | None = None
    ) -> None:
        """Wait until the jobs that a request's media come from have ended, however they did.

        Not for one that waits, itself or through others, for the job of this request.

        Args:
            record: the job that waits.
            prepared: its request. It keeps the handles of these jobs.
            named: the jobs of its stream.
        """
        if any(each.frame for each in prepared.sources.values()):
            await asyncio.to_thread(_import_decoder)  # nothing is waited for in vain
        own = Job(record, self._actions)
        for index, medium in prepared.sources.items():
            job = await self._job(medium, named)
            prepared.sources[index] = attrs.evolve(medium, job=job)
            if job is None or job.done or self._waits_for(job, own):
                continue
            self._awaited[own] = job
            try:
                with suppress(SeedanceError, RuntimeError):  # `urls` tells what is wrong
                    await job.wait()
            finally:
                del self._awaited[own]

    def _waits_for(self, job: Job, own: Job) -> bool:
        """Whether a job is this one, or waits for it."""
        found: Job | None = job
        while found is not None and found != own:
            found = self._awaited.get(found)
        return found is not None

    async def urls(self, prepared: PreparedRequest) -> dict[int, str]:
        """The URLs of a request's media that are videos of other jobs, by their place.

        Raises:
            SourceJobError: such a job has not succeeded, or its video cannot be had.
            MediaUploadError: its frame could not be uploaded.
        """
        return {index: await self._url(each) for index, each in prepared.sources.items()}

    def accepted(self, record: JobRecord) -> None:
        """A job was accepted, now or before: drop the handles that its request has of other jobs.

        Each of those jobs has a request that may name others: an endless chain would be kept whole.
        """
        media = () if record.request is None else record.request.media_urls
        kept = [_without_handle(each) for each in media]
        if record.request is not None and not all(map(is_, kept, media)):
            record.request = attrs.evolve(record.request, media_urls=kept)

    async def _url(self, medium: JobMedium) -> str:
        job = await self._job(medium, None)
        if job is None:
            reason = "no job with this key has come before, and none is in the journal"
            raise SourceJobError(str(medium), medium.key, reason)
        if job.state is not JobState.SUCCEEDED or job.generation is None:
            raise _missing(medium, job)
        try:
            saved = None if job.saved is None else await asyncio.to_thread(_path_here, job.saved)
            if medium.frame is not None:
                local = await self._frame(job.generation, saved)
            elif self._uploads is None or saved is None:
                return await self._video_url(medium, job.generation.request_id)
            else:  # the server may have deleted it since, and the next job would fail and be paid
                local = await asyncio.to_thread(local_medium, saved)
        except (SeedanceError, OSError, ValueError) as error:
            if isinstance(error, SourceJobError):
                raise
            raise SourceJobError(str(medium), medium.key, str(error)) from error
        assert self._uploads is not None  # the rules have seen to it
        return await self._uploads.url(local)

    async def _job(self, medium: JobMedium, named: NamedJobs | None) -> Job | None:
        """The job that a medium names: of its stream, of the session, or of the journal."""
        if isinstance(medium.job, Job):
            return medium.job
        record = None if named is None else await named.find(medium.key)
        record = record or self._registry.find(key=medium.key)
        if record is None:
            with suppress(JournalError):  # then it is not known
                record = await self._on_record(medium.key)
        return None if record is None else Job(record, self._actions)

    async def _video_url(self, medium: JobMedium, request_id: str) -> str:
        """Where a video is now: a URL may have expired that an earlier answer had."""
        url = (await self._get(request_id)).output_url
        rule = None if url is None else broken_url_rule(url, allow_local=self._allow_local)
        if url is None or rule is not None:
            reason = "the server gives no URL for it" if url is None else f"its URL {rule}"
            raise SourceJobError(str(medium), medium.key, reason)
        return url

    async def _frame(self, generation: Generation, saved: Path | None) -> LocalMedium:
        """The last frame of a job's video. Many requests may begin where one job ends."""
        kept = self._frames.setdefault(generation.request_id, _Frame())
        self._frames.move_to_end(generation.request_id)
        while len(self._frames) > KEPT_FRAMES:
            self._frames.popitem(last=False)
        async with kept.taking:
            if kept.picture is None:
                kept.picture = await self._take_frame(generation, saved)
            return kept.picture

    async def _take_frame(self, generation: Generation, saved: Path | None) -> LocalMedium:
        if saved is not None:
            return await asyncio.to_thread(_last_frame, saved)
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="seedance-")
        try:
            video = await self._save(generation, Path(folder, "video.mp4"))
            return await asyncio.to_thread(_last_frame, video.path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@attrs.define(eq=False)
class _Frame:
    """The last frame of a job, once somebody has taken it."""

    picture: LocalMedium | None = None
    taking: asyncio.Lock = attrs.field(factory=asyncio.Lock)


def _without_handle(medium: Medium) -> Medium:
    if isinstance(medium, JobMedium) and medium.job is not None:
        return JobMedium(medium.key, medium.frame)
    return medium


def _import_decoder() -> None:
    import seedance_async.media.frames  # noqa: F401


def _last_frame(video: Path) -> LocalMedium:
    from seedance_async.media.frames import last_frame

    return local_medium(last_frame(video))


def _path_here(saved: SavedFile) -> Path | None:
    """The file that a video was saved to, if it is still there as it was."""
    if saved.url is not None:
        return None
    try:
        return saved.path if saved.path.stat().st_size == saved.size else None
    except OSError:
        return None


def _missing(medium: JobMedium, job: Job) -> SourceJobError:
    """That there is no video of a job; it may have waited for another that has none."""
    before = job.error
    first = before if isinstance(before, SourceJobError) else None
    error = SourceJobError(str(medium), medium.key, _why_not(job), first=first)
    error.__cause__ = before if first is None else first.__cause__
    return error


def _why_not(job: Job) -> str:
    """Why there is no video of a job."""
    state = f"it was {job.state}" if job.state is JobState.REJECTED else f"it is {job.state}"
    if job.state is JobState.FAILED:
        state = "it failed"
    elif job.state is JobState.CANCELLED:
        state = "it was cancelled"
    elif job.state is JobState.PENDING:
        state = "it was not submitted"
    return state if job.error is None else f"{state} ({job.error})"
