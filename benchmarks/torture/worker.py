"""The program that is killed: a batch with a journal, its videos saved into a folder.

It does what any bulk script does and does not know that it will be killed. It writes a line of JSON
to standard output for each job that ends. Exit code 0: nothing is left to do; 3: start it again.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from seedance_async import (
    AuthenticationError,
    Backoff,
    BudgetExceededError,
    DownloadError,
    GenerationRequest,
    Job,
    JobState,
    RetryPolicy,
    SeedanceSession,
    SubmitUncertainError,
)

UNFINISHED = 3
_DURATIONS = (4, 5, 8)
_RATIOS = ("16:9", "9:16", "1:1")
_QUICK = Backoff(initial=0.02, multiplier=2.0, maximum=0.2, jitter=1.0)
_FAR_APART = Backoff(initial=0.05, multiplier=1.5, maximum=0.4)


@attrs.frozen(kw_only=True)
class Plan:
    """The work of one batch; the same in every life of its process.

    Attributes:
        url: of the emulator.
        name: the start of every prompt, so that batches share no request.
        count: how many requests.
        folder: for the journal and `videos`.
        max_credits: see `SeedanceSession`.
        max_in_flight, max_downloads: likewise.
        usual: whether the session has its usual options, as for jobs that take their time.
    """

    url: str
    name: str
    count: int
    folder: str
    max_credits: int | None = None
    max_in_flight: int = 20
    max_downloads: int = 4
    usual: bool = False

    @property
    def journal(self) -> Path:
        return Path(self.folder, "journal.db")

    @property
    def input(self) -> Path:
        return Path(self.folder, "input.jsonl")

    @property
    def videos(self) -> Path:
        return Path(self.folder, "videos")

    def video(self, prompt: str) -> Path:
        """The path of a prompt's video."""
        return self.videos / f"{prompt.rpartition(' ')[2]}.mp4"

    def requests(self) -> Iterator[GenerationRequest]:
        for number in range(self.count):
            yield GenerationRequest(
                f"{self.name} {number:05}",
                duration=_DURATIONS[number % 3],
                aspect_ratio=_RATIOS[number // 3 % 3],
                resolution="480p",
            )

    def options(self) -> dict[str, Any]:
        """What the session of this work is made with."""
        usual = {
            "base_url": self.url,
            "max_in_flight": self.max_in_flight,
            "max_downloads": self.max_downloads,
            "max_credits": self.max_credits,
        }
        if self.usual:
            return usual
        return {
            **usual,
            "poll": _FAR_APART,
            "poll_rate": 500.0,
            "job_timeout": 5.0,
            "retry": RetryPolicy(attempts=4, timeout=20.0, backoff=_QUICK),
        }

    def session(self, **options: Any) -> SeedanceSession:
        return SeedanceSession(**{"journal": self.journal, **self.options(), **options})


class Worker:
    """One life of a batch."""

    def __init__(self, plan: Plan, session: SeedanceSession) -> None:
        self._plan, self._session = plan, session
        self._unsaved: asyncio.Queue[Job | None] = asyncio.Queue()
        self.unfinished = False

    async def live(self) -> None:
        """Submit the jobs that were never sent, wait for all, save the missing videos."""
        async with self._session, self._savers():
            stream = self._session.as_completed(self._plan.requests())
            async with aclosing(stream) as jobs:
                try:
                    async for job in jobs:
                        self._ended(job)
                except BudgetExceededError:
                    pass
                except AuthenticationError:
                    self.unfinished = True

    @asynccontextmanager
    async def _savers(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as savers:
            for _ in range(self._plan.max_downloads):
                savers.create_task(self._save_videos())
            yield
            for _ in range(self._plan.max_downloads):
                self._unsaved.put_nowait(None)

    def _ended(self, job: Job) -> None:
        refused = job.state is JobState.REJECTED and not isinstance(job.error, BudgetExceededError)
        error = job.error  # the next life polls the id that an uncertain answer has named
        named = isinstance(error, SubmitUncertainError) and error.request_id is not None
        self.unfinished |= refused or named or job.state is JobState.ABANDONED
        if job.state is JobState.SUCCEEDED:
            self._unsaved.put_nowait(job)
        report(job)

    async def _save_videos(self) -> None:
        while (job := await self._unsaved.get()) is not None:
            assert job.request is not None
            if is_saved(job):
                continue
            try:
                # A file that the journal does not know was saved just before a kill.
                await job.download(self._plan.video(job.request.prompt), overwrite=True)
            except DownloadError as error:
                self.unfinished = True
                report(job, error)


def is_saved(job: Job) -> bool:
    """Whether a job's video exists with the size in the journal."""
    try:
        return job.saved is not None and job.saved.path.stat().st_size == job.saved.size
    except OSError:
        return False


def report(job: Job, error: Exception | None = None) -> None:
    """Write a line of the report."""
    assert job.request is not None
    problem = error or job.error
    line = {
        "prompt": job.request.prompt,
        "state": job.state.value,
        "request_id": job.request_id,
        "problem": None if problem is None else type(problem).__name__,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main(plan: Plan, session: SeedanceSession | None = None) -> int:
    """One life; the exit code."""
    plan.videos.mkdir(exist_ok=True)

    async def live() -> bool:
        worker = Worker(plan, session or plan.session())
        await worker.live()
        return worker.unfinished

    return UNFINISHED if asyncio.run(live()) else 0


if __name__ == "__main__":
    sys.exit(main(Plan(**json.loads(os.environ["TORTURE_PLAN"]))))
