"""Typical use, for the type checkers alone: `mypy --strict` and pyright read it, nothing runs it.

`assert_type` fails the check where a type is not what a user would expect.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, assert_type

from obstore.store import S3Store

from seedance_async import (
    AspectRatio,
    Backoff,
    BatchResult,
    Generation,
    GenerationFailedError,
    GenerationMode,
    GenerationRequest,
    GenerationStatus,
    InvalidRequestError,
    Job,
    JobMedium,
    JobState,
    JobTimeoutError,
    JobUpdate,
    Model,
    ModelInfo,
    RateLimitError,
    Resolution,
    RetryPolicy,
    SavedFile,
    SeedanceClient,
    SeedanceError,
    SeedanceSession,
    Submission,
    SubmitUncertainError,
    Timeouts,
    TransportError,
    Violation,
    dump_request,
    load_request,
)
from seedance_async.engines import Outcome, Queue, Task
from seedance_async.engines.dbos import SeedanceQueue, SeedanceWorker
from seedance_async.media import LocalMedium, StoredObject


def requests() -> Iterator[GenerationRequest]:
    """Enum members and plain text serve alike, lists and tuples too."""
    yield GenerationRequest("A river in autumn")
    yield GenerationRequest(
        "A river in autumn",
        model=Model.SEEDANCE_2_0_FAST,
        media_urls=["https://example.com/photo.jpg"],
        aspect_ratio=AspectRatio.LANDSCAPE,
        duration=8,
        resolution=Resolution.P720,
        webhook_url="https://example.com/hook",
        metadata={"order": 7},
        extra={"seed": 7, "camera": {"fixed": True}},
    )
    base = GenerationRequest("x", model="seedance-1.5-pro", media_urls=("https://e.example/a",))
    yield from base.expand(prompt=["a", "b"], aspect_ratio=["16:9", "1:1"])


async def requests_from_elsewhere() -> AsyncIterator[GenerationRequest]:
    """A pipeline's input."""
    for request in requests():
        yield request


def values(request: GenerationRequest) -> None:
    """What a request takes, and tells of itself."""
    with Path("river.png").open("rb") as file:
        GenerationRequest("x", media_urls=["https://a.example/", Path("a.png"), b"", file])
    assert_type(
        request.media_urls, tuple[PathLike[str] | str | bytes | LocalMedium | JobMedium, ...]
    )
    assert_type(request.mode, GenerationMode)
    assert_type(request.violations(allow_local=True), list[Violation])
    assert_type(request.extra, Mapping[str, Any] | None)
    assert_type(load_request(dump_request(request)), GenerationRequest)
    assert_type(GenerationStatus("queued").is_terminal, bool)


async def one_video() -> Path:
    """One await makes one video."""
    async with SeedanceSession() as session:
        assert_type(session, SeedanceSession)
        generation = await session.generate(GenerationRequest("A river in autumn"))
        assert_type(generation, Generation)
        assert_type(generation.output_url, str | None)

        job = await session.submit(GenerationRequest("A river in winter"), key="winter")
        assert_type(job, Job)
        assert_type(job.token, str)
        assert_type(job.state, JobState)
        assert_type(await job, Generation)
        assert_type(await job.wait(timeout=60), Generation)
        again = await session.attach(job.token)
        await again.cancel()
        return assert_type(await job.download("river.mp4", overwrite=True), Path)


async def to_a_bucket(store: S3Store) -> str | None:
    """A video piece by piece, and one that goes to a store."""
    async with SeedanceSession() as session:
        job = await session.attach("req_1234567890")
        async with job.stream() as video:
            async for piece in video:
                assert_type(piece, bytes)
            assert_type(video.total, int | None)
        saved = await job.download(StoredObject(store, "films/river.mp4"))
        assert_type(saved, SavedFile)
        return saved.url


async def a_film() -> Generation:
    """Shots that follow one another: by their handles, and by their keys."""
    async with SeedanceSession() as session:
        first = await session.submit(GenerationRequest("A boat leaves the shore"))
        assert_type(first.frame("last"), JobMedium)
        second = GenerationRequest("It reaches the island", media_urls=[first.frame("last")])
        third = GenerationRequest("Both", media_urls=[first, await session.submit(second)])
        fourth = GenerationRequest("The end", media_urls=[JobMedium("shot-3", "last"), first])
        await session.run([("shot-3", third), ("shot-4", fourth)])
        return await session.generate(GenerationRequest("x", media_urls=[first]))


async def in_a_server() -> None:
    """A session without a block, its jobs, and what is told of them."""
    session = assert_type(await SeedanceSession(journal="videos.db").open(), SeedanceSession)
    for job in assert_type(await session.resume(), list[Job]):
        async for update in job.updates(every=5.0):
            assert_type(update, JobUpdate)
            assert_type(update.remaining, float | None)
        assert_type(asyncio.create_task(job), asyncio.Task[Generation])
    assert_type(session.jobs(), list[Job])
    await session.aclose(leave=True, within=5.0)


async def many_videos() -> BatchResult:
    """A batch from a plain or an async iterable."""
    async with SeedanceSession(
        api_key="sd2_live_x",
        base_url="https://api.example",
        max_in_flight=100,
        poll=Backoff(initial=1.0, maximum=60.0),
        retry=RetryPolicy(attempts=5),
        timeouts=Timeouts(submit=60.0),
    ) as session:
        async for job in session.as_completed(requests_from_elsewhere()):
            assert_type(job, Job)
        batch = await session.run(requests())
        assert_type(batch, BatchResult)
        assert_type(batch[0], Job)
        assert_type(batch.succeeded, tuple[Job, ...])
        assert_type(batch.counts, Counter[JobState])
        assert_type(session.stats().credits_charged, int)
        return batch


async def the_endpoints() -> None:
    """The client below a session."""
    async with SeedanceClient("sd2_live_x") as client:
        submission = await client.create(GenerationRequest("A river in autumn"))
        assert_type(submission, Submission)
        assert_type(submission.credits_charged, int | None)
        assert_type(await client.get(submission.request_id), Generation)
        assert_type(await client.cancel(submission.request_id), Generation)
        assert_type(await client.models(), list[ModelInfo])


async def what_can_go_wrong(session: SeedanceSession) -> str | float | None:
    """Each error has its data."""
    try:
        await session.generate(GenerationRequest("A river in autumn"))
    except InvalidRequestError as error:
        return assert_type(error.field, str)
    except SubmitUncertainError as error:
        assert_type(error.request, GenerationRequest)
        return assert_type(error.key, str | None)
    except RateLimitError as error:
        return assert_type(error.retry_after, float | None)
    except JobTimeoutError as error:
        assert_type(error.job.token, str)
        return assert_type(error.request_id, str | None)
    except GenerationFailedError as error:
        assert_type(error.generation, Generation | None)
    except TransportError as error:
        return error.delivered
    except SeedanceError as error:
        return str(error)
    return None


async def many_machines(requests: list[GenerationRequest]) -> None:
    async with SeedanceQueue("sqlite:///run.db") as queue:
        assert_type(await queue.enqueue(requests, run="autumn"), list[str])
        await queue.enqueue([("key", requests[0]), Task("other", requests[0])], run="autumn")
        async for outcome in queue.results(run="autumn"):
            assert_type(outcome, Outcome)
        assert_type((await queue.status(run="autumn")).is_complete, bool)
        any_queue: Queue = queue
        assert_type(await any_queue.cancel(run="autumn"), int)
    async with SeedanceWorker("sqlite:///run.db", Path("videos"), max_in_flight=9) as worker:
        await worker.serve()
