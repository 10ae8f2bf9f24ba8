"""Very many jobs in flight: what a waiting job costs in memory and tasks, and its deadline."""

import asyncio
import gc
import json
import random
import re
import tracemalloc

import pytest

from seedance_async import Backoff, GenerationRequest, JobState
from seedance_async.api.protocol import WireResponse
from tests.support.fakes import accepted, told

#: Bytes that a waiting job may take, including its request and the server's last answer. This is
#: more than with a hundred thousand jobs: each one's share of the tables and the session is larger.
MOST_BYTES = 1536
JOBS = 1000


def prompt(number):
    return f"A river in autumn, number {number}".ljust(200, "x")


def request(number):
    media = f"https://media.example/inputs/photo-{number:06}.jpg"
    return GenerationRequest(prompt(number), media_urls=[media], duration=5, resolution="720p")


class EndlessAPI:
    """Accepts every submit; no job ever ends. It keeps nothing, so as not to count as memory."""

    def __init__(self, status="queued"):
        self.submits = self.polls = 0
        self.status = status  # of a job that is just accepted; it is processed at its first poll

    async def send(self, wire, *, on_sent=None) -> WireResponse:
        if wire.charges:
            self.submits += 1
            return accepted(f"req_{self.submits - 1:016}", status=self.status)
        self.polls += 1
        request_id = wire.path.rpartition("/")[2]
        known = {"model": "seedance-2.0", "prompt": prompt(int(request_id[4:])), "duration": 5}
        return told(request_id, "processing", aspectRatio="16:9", output=None, **known)

    async def aclose(self):
        pass


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def until(condition):
    while not condition():  # noqa: ASYNC110 - on virtual time
        await asyncio.sleep(0.1)


@pytest.mark.virtual_time
async def test_a_waiting_job_takes_less_than_a_kilobyte_and_a_half_and_no_task(
    make_session, traced, caplog
):
    caplog.set_level("ERROR")
    api = EndlessAPI()
    session = make_session(
        transport=api, max_in_flight=JOBS, max_connections=2, poll=Backoff(initial=30, maximum=30)
    )
    async with make_session() as first:  # what is imported, and the caches that urllib fills
        await first.run(request(number) for number in range(JOBS))
    with pytest.raises(LookupError):
        async with session:
            gc.collect()
            before, tasks = tracemalloc.get_traced_memory()[0], len(asyncio.all_tasks())
            running = asyncio.create_task(session.run(request(number) for number in range(JOBS)))
            await until(lambda: api.polls >= 2 * JOBS)
            gc.collect()
            taken = (tracemalloc.get_traced_memory()[0] - before) / JOBS
            assert len(asyncio.all_tasks()) - tasks <= 1 + 2 * 2
            raise LookupError
    await running
    assert api.submits == JOBS
    assert 800 < taken < MOST_BYTES


async def test_leaving_very_many_jobs_names_each_and_does_not_block_the_loop(make_session, caplog):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    session = make_session(transport=EndlessAPI(), max_in_flight=JOBS)
    with pytest.raises(LookupError):
        async with session:
            running = asyncio.create_task(session.run(request(number) for number in range(JOBS)))
            await until(lambda: session.registry.counts[JobState.QUEUED] == JOBS)
            working = asyncio.create_task(others())
            await asyncio.sleep(0)
            turns = 0
            raise LookupError
    working.cancel()
    batch = await running
    assert turns >= 10
    assert batch.counts == {JobState.ABANDONED: JOBS}
    lines = [record.getMessage() for record in caplog.records if "running" in record.getMessage()]
    assert len(lines) == 5
    named = sorted(name for line in lines for name in re.findall(r"req_\d+", line))
    assert named == [f"req_{number:016}" for number in range(JOBS)]


@pytest.mark.virtual_time
async def test_deadlines_hold_even_if_the_poll_rate_allows_each_job_one_poll_in_hours(make_session):
    """A thousand jobs at one poll in ten seconds: most do not even get their final poll."""
    api = EndlessAPI("processing")
    session = make_session(
        transport=api, max_in_flight=JOBS, poll_rate=0.1, job_timeout=600, rng=random.Random(1)
    )
    began = asyncio.get_running_loop().time()
    async with session:
        batch = await session.run(request(number) for number in range(JOBS))
    assert asyncio.get_running_loop().time() - began == pytest.approx(600 + 60, abs=1)
    assert batch.counts == {JobState.ABANDONED: JOBS}
    assert api.polls <= 67


async def test_a_prompt_repeated_in_answers_is_kept_in_memory_once(make_session, api):
    """Every answer has a copy of the prompt; a hundred thousand copies are many megabytes."""
    async with make_session(poll=Backoff(initial=0.01, maximum=0.01)) as session:
        api.seconds = 0.2
        api.get = lambda wire: told(
            "req_0", "succeeded" if api.count("get") > 3 else "processing", prompt=prompt(7)
        )
        job = await session.submit(request(7))
        await job
    assert json.loads(api.sent[0].body)["prompt"] == job.generation.prompt
    assert job.generation.prompt is job.request.prompt
