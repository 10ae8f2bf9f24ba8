"""`Job`: the awaitable handle of one job. It holds callables, not the session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload
from weakref import WeakKeyDictionary

import attrs

from seedance_async._utils.plural import counted
from seedance_async.api.errors import (
    GenerationCancelledError,
    GenerationFailedError,
    JobTimeoutError,
    NotFoundError,
    SeedanceError,
    frameless,
)
from seedance_async.api.job_media import JobMedium
from seedance_async.api.models import Generation
from seedance_async.api.request import GenerationRequest
from seedance_async.jobs.registry import JobRecord, SavedFile
from seedance_async.jobs.state import JobState
from seedance_async.jobs.updates import JobUpdate

if TYPE_CHECKING:
    from seedance_async.jobs.downloads.video_stream import VideoStream, VideoTarget

#: The wait of each task that was created from a job.
_waits: WeakKeyDictionary[asyncio.Task[Any], Generator[Any, None, Generation]] = WeakKeyDictionary()


@attrs.frozen(eq=False, repr=False)
class JobActions:
    """What a handle can do for its job; one object shared by all jobs of a session.

    `check` raises in another process or event loop than the session's.
    """

    cancel: Callable[[JobRecord], Awaitable[None]]
    download: Callable[[JobRecord, Path | VideoTarget, bool], Awaitable[SavedFile]]
    stream: Callable[[JobRecord, Callable[[], Awaitable[Generation]]], VideoStream]
    updates: Callable[[JobRecord, float], AsyncGenerator[JobUpdate]]
    check: Callable[[], None] = lambda: None


class Job(Coroutine[Any, None, Generation]):
    """One generation job.

    `await job` waits for the end and returns the `Generation`, or raises what went wrong.
    Cancelling that await cancels the waiting, not the video. A job can be awaited any number of
    times, and tasks can be made of it: `asyncio.create_task(job)`, in a `TaskGroup`, for
    `asyncio.wait`. Two handles of one job of a session are equal.
    """

    __slots__ = ("_actions", "_record")

    def __init__(self, record: JobRecord, actions: JobActions | None) -> None:
        self._record = record
        self._actions = actions

    def __eq__(self, other: object) -> bool:
        return self._record is other._record if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._record)

    def __repr__(self) -> str:
        return f"<Job {self.request_id or self.key} {self.state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        known = self._record
        fields = (known.key, known.request, known.state, known.request_id, known.credits_charged)
        return _detached, (*fields, known.generation, known.error, known.saved)

    @property
    def key(self) -> str:
        """The job's name in its session: the caller's, or a random one."""
        return self._record.key

    @property
    def request(self) -> GenerationRequest | None:
        """The request; None for a job attached by its id."""
        return self._record.request

    @property
    def request_id(self) -> str | None:
        """The server's id; None until the submit is accepted."""
        return self._record.request_id

    @property
    def state(self) -> JobState:
        """Where the job is in its life."""
        return self._record.state

    @property
    def generation(self) -> Generation | None:
        """The server's last answer about the job."""
        return self._record.generation

    @property
    def credits_charged(self) -> int | None:
        """What the job cost according to the server; None if that is unknown."""
        return self._record.credits_charged

    @property
    def saved(self) -> SavedFile | None:
        """Where the video was last saved, in this run or, with a journal, an earlier one."""
        return self._record.saved

    @property
    def token(self) -> str:
        """A reference for `SeedanceSession.attach`, in any process: plain JSON without secrets.

        Raises:
            RuntimeError: the job has no request id.
        """
        if self.request_id is None:
            raise RuntimeError(f"job {self.key} is {self.state} and has no request id")
        return JobToken(self.request_id, self.key).dump()

    def frame(self, which: Literal["last"] = "last") -> JobMedium:
        """Its last frame as a medium of another request, which is sent once this job succeeds.

        Raises:
            ValueError: there is no such frame.
        """
        return JobMedium(self.key, which, self)

    def as_medium(self) -> JobMedium:
        """Its whole video as a medium of another request; `media_urls=[job]` means the same."""
        return JobMedium(self.key, None, self)

    @property
    def done(self) -> bool:
        """Whether the session does no more about the job, whatever its outcome."""
        return self.state.is_final

    @property
    def error(self) -> SeedanceError | None:
        """What `await job` raises; None while the job runs and once it has succeeded."""
        cause = self._record.error
        match self.state:
            case JobState.FAILED:
                detail = self.generation.error if self.generation else None
                reason = "the server gives no reason" if detail is None else detail.message
                return GenerationFailedError(f"the generation failed: {reason}", job=self)
            case JobState.CANCELLED:
                return GenerationCancelledError("the generation was cancelled", job=self)
            case JobState.ABANDONED:
                timeout = JobTimeoutError(self._why_abandoned(cause), job=self)
                timeout.__cause__ = cause
                return timeout
        return None if cause is None else frameless(cause)

    def _why_abandoned(self, cause: SeedanceError | None) -> str:
        if isinstance(cause, NotFoundError) and self.generation is None and self.request is None:
            return (
                f"the server does not know this id ({cause}). Check the id, the base URL and the "
                "account of the key; if the job was accepted only now, attach it again"
            )
        reason = "its deadline passed" if cause is None else f"{cause}"
        return f"the session stopped waiting ({reason}); the video may still come"

    def result(self) -> Generation:
        """The finished generation.

        Raises:
            RuntimeError: the job has not ended.
            SeedanceError: what went wrong, see `error`.
        """
        if not self.done:
            raise RuntimeError(f"job {self.request_id or self.key} has not ended: {self.state}")
        error = self.error
        if error is not None:
            raise error
        assert self.generation is not None
        return self.generation

    def __await__(self) -> Generator[Any, None, Generation]:
        return self.wait().__await__()

    def send(self, value: None) -> Any:
        """One step of a task that was created from this job."""
        return self._wait_of_task().send(value)

    def throw(self, *error: Any) -> Any:
        """As `send`: the task is cancelled, say."""
        return self._wait_of_task().throw(*error)

    def close(self) -> None:
        """Nothing: the waiting is each task's own."""

    async def wait(self, timeout: float | None = None) -> Generation:
        """Wait for the end of the job.

        Args:
            timeout: seconds after which the waiting ends; the job goes on, and can be waited for
                again.

        Raises:
            GenerationFailedError, GenerationCancelledError: the end that the server reported.
            JobTimeoutError: `timeout` or the job's own deadline passed, or its state could not
                be read.
            SubmitUncertainError, APIError, TransportError: the outcome of its submit.
        """
        if not self.done:
            self._require_actions()
            await self._final_within(timeout)
        return self.result()

    def updates(self, *, every: float = 10.0) -> AsyncGenerator[JobUpdate]:
        """Follow the job until it ends, for server-sent events, say.

        The first update comes at once, another with each change of the state, and the last one has
        the final state. Leaving the loop ends the following, not the job.

        Args:
            every: seconds after which an update comes although the state is the same: what is left
                changes, and a connection with nothing on it may be closed.

        Raises:
            RuntimeError: the job was unpickled, or belongs to another event loop.
        """
        return self._require_actions().updates(self._record, every)

    async def cancel(self) -> None:
        """Ask the server to cancel the job, and poll it right after.

        `await job` has the outcome: the job may have succeeded meanwhile. A job that has ended is
        left alone. Whether a cancelled job is refunded is not documented.

        Raises:
            APIError, TransportError: the server could not be asked.
        """
        if self.state.is_running:
            await self._require_actions().cancel(self._record)

    @overload
    async def download(self, path: str | Path, *, overwrite: bool = False) -> Path: ...

    @overload
    async def download(self, path: VideoTarget, *, overwrite: bool = False) -> SavedFile: ...

    async def download(
        self, path: str | Path | VideoTarget, *, overwrite: bool = False
    ) -> Path | SavedFile:
        """Save the video, once the job has succeeded; waits for that first.

        Args:
            path: the file to write; or an existing folder, for a file named by the request id; or
                a place of another kind, such as `seedance_async.media.StoredObject`.
            overwrite: replace what is there.

        Returns:
            Where the video is: the file, or what is known of the object.

        Raises:
            DownloadError: fetching or saving failed, or something is there. The job stays
                succeeded and the download can be tried again.
            SeedanceError: as `wait`.
            TypeError: `path` is none of these.
        """
        if not isinstance(path, (str, Path)) and not callable(getattr(path, "save", None)):
            raise TypeError(
                f"path must be text, a Path, or a place with a save method, not {path!r}"
            )
        await self.wait()
        target = Path(path) if isinstance(path, (str, Path)) else path
        saved = await self._require_actions().download(self._record, target, overwrite)
        return saved.path if isinstance(target, Path) else saved

    def stream(self) -> VideoStream:
        """The video in pieces of bytes, as they arrive; the first one waits for the job.

        ```python
        async with job.stream() as video:
            async for piece in video:
                ...
        ```

        A broken connection is resumed and an expired URL is renewed. The loop ends only if the
        video is whole. Nothing is kept: neither here, nor in the journal.

        Raises:
            RuntimeError: the job was unpickled, or belongs to another event loop.

        The loop raises `DownloadError` if the video cannot be fetched, or changes at the server
        meanwhile, and what `wait` raises.
        """
        return self._require_actions().stream(self._record, self.wait)

    async def _final_within(self, timeout: float | None) -> None:
        final = asyncio.get_running_loop().create_future()

        def watcher(_: JobRecord) -> None:
            if not final.done():
                final.set_result(None)

        self._record.on_final(watcher)
        try:
            async with asyncio.timeout(timeout):
                await final
        except TimeoutError:
            if not self.done:
                waited = counted(timeout or 0, "second")
                message = f"still {self.state} after waiting {waited}; it goes on"
                raise JobTimeoutError(message, job=self) from None
        finally:
            self._record.forget(watcher)

    def _wait_of_task(self) -> Generator[Any, None, Generation]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can run a job as a coroutine: await it")
        if task not in _waits:
            _waits[task] = self.__await__()
        return _waits[task]

    def _require_actions(self) -> JobActions:
        if self._actions is None:
            raise RuntimeError("an unpickled job can only be read: attach its token to a session")
        self._actions.check()
        return self._actions


def _detached(*fields: Any) -> Job:
    return Job(JobRecord(*fields), None)


@attrs.frozen
class JobToken:
    """A reference to an accepted job as plain JSON, without secrets: enough to resume it."""

    request_id: str
    key: str | None = None

    def dump(self) -> str:
        """The token as a string of JSON, version 1."""
        return json.dumps({"v": 1, "request_id": self.request_id, "key": self.key})

    @classmethod
    def parse(cls, text: str) -> JobToken:
        """Read a token, or a bare request id; white space around either is dropped.

        Raises:
            ValueError: no text, a blank id, or JSON that is not a token of a known version.
        """
        if not isinstance(text, str) or not text.strip():
            raise ValueError(
                f"a request id or a job token must be text that is not blank: {text!r}"
            )
        text = text.strip()
        if not text.startswith("{"):
            return cls(text)
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("this is neither a request id nor a job token") from None
        if data.get("v") != 1:
            raise ValueError(f"the version of this job token, {data.get('v')!r}, is unknown")
        request_id, key = data.get("request_id"), data.get("key")
        if not isinstance(request_id, str) or not request_id:
            raise ValueError("the job token has no request_id")
        return cls(request_id, key if isinstance(key, str) else None)
