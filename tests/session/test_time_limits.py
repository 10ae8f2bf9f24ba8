"""How long a job is waited for: in the server's queue, while it is processed, and given up."""

import asyncio
from contextlib import suppress

import pytest

from seedance_async import (
    Backoff,
    GenerationRequest,
    JobState,
    JobTimeoutError,
    TooManyAbandonedError,
)
from tests.support.fakes import FakeAPI, error_reply, told

pytestmark = pytest.mark.virtual_time

HOUR = 3600.0


def prompts(count):
    return [GenerationRequest(f"river {number}") for number in range(count)]


def now():
    return asyncio.get_running_loop().time()


class OneMachine(FakeAPI):
    """Processes one job after the other; the others are in its queue."""

    def __init__(self, *, seconds):
        super().__init__(seconds=seconds)
        self.ends = {}

    def create(self, request):
        answer = super().create(request)
        begins = max(self.ends.values(), default=now())
        self.ends[f"req_{len(self.ends)}"] = max(begins, now()) + self.seconds
        self.active_peak = max(self.active_peak, self.active)
        return answer

    @property
    def active(self):
        return sum(1 for end in self.ends.values() if end > now())

    def get(self, request):
        request_id = request.path.rsplit("/", 1)[1]
        left = self.ends[request_id] - now()
        queued = "queued" if left > self.seconds else "processing"
        return told(request_id, "succeeded" if left <= 0 else queued)


@pytest.fixture
def stuck(api):
    """The API, whose jobs are processed at once and never end."""
    api.queues, api.seconds = False, 1e9
    return api


# --- queueing and processing ----------------------------------------------------------------------


async def test_jobs_that_wait_for_the_only_machine_of_a_server_are_not_given_up(make_session):
    api = OneMachine(seconds=300.0)
    async with make_session(transport=api) as session:
        batch = await session.run(prompts(25))
    assert batch.counts == {JobState.SUCCEEDED: 25}
    assert api.active_peak == 20


async def test_the_time_in_the_queue_does_not_count_against_the_job_timeout(make_session, api):
    api.seconds = 1000.0
    async with make_session(job_timeout=600) as session:
        assert (await session.generate(prompts(1)[0])).status == "succeeded"


async def test_processing_counts_from_when_it_is_seen(make_session, api, caplog):
    api.seconds = 2000.0
    async with make_session(job_timeout=600) as session:
        began = now()
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
    assert now() - began == pytest.approx(1000 + 600, abs=6)
    assert "did not end within the job timeout of 600 s" in caplog.text


async def test_a_job_that_stays_in_the_queue_is_given_up_after_a_time_of_its_own(
    make_session, api, caplog
):
    api.seconds = 1e9
    async with make_session(queue_timeout=5000, job_timeout=600) as session:
        began = now()
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
    assert now() - began == pytest.approx(5000)
    assert "still queued after the queue timeout of 5000 s" in caplog.text


async def test_a_queue_timeout_below_the_job_timeout_holds(make_session, api):
    api.seconds = 1e9
    async with make_session(queue_timeout=50) as session:
        began = now()
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
    assert now() - began == pytest.approx(50)


async def test_a_job_found_processing_when_its_time_in_the_queue_is_over_is_waited_for(
    make_session, api
):
    api.seconds = 198.0
    poll = Backoff(initial=97, maximum=97, jitter=0)
    async with make_session(queue_timeout=100, poll=poll) as session:
        assert (await session.generate(prompts(1)[0])).status == "succeeded"


# --- jobs that were given up ----------------------------------------------------------------------


async def test_a_job_given_up_keeps_its_place_until_it_has_ended(make_session, api):
    api.queues, api.seconds = False, 500.0
    async with make_session(max_in_flight=2, job_timeout=100) as session:
        batch = await session.run(prompts(6))
        assert session.stats().in_flight == 2, "the last two may still run"
    assert batch.counts == {JobState.ABANDONED: 6}
    assert api.active_peak == 2


async def test_a_submit_finds_the_place_of_a_job_that_ended_after_it_was_given_up(
    make_session, api, caplog
):
    api.queues, api.seconds = False, 500.0
    async with make_session(max_in_flight=1, job_timeout=100) as session:
        began = now()
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
        await session.submit(GenerationRequest("the next"))
        assert 500 <= now() - began <= 560
        assert "job req_0, which was given up, is succeeded" in caplog.text
        api.seconds = 0.0


async def test_a_job_given_up_that_the_server_forgot_keeps_no_place(make_session, stuck):
    async with make_session(max_in_flight=1, job_timeout=100) as session:
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
        stuck.script["get"] += [error_reply(404)]
        began = now()
        job = await session.submit(GenerationRequest("the next"))
        assert now() - began < 20
        stuck.seconds = 0.0
        await job


async def test_a_place_comes_back_after_an_hour_whatever_is_known(make_session, stuck, caplog):
    async with make_session(max_in_flight=1, job_timeout=100) as session:
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
        stuck.script["get"] += [error_reply(500)] * 40
        began = now()
        job = await session.submit(GenerationRequest("the next"))
        assert now() - began == pytest.approx(HOUR)
        assert session.stats().in_flight == 1
        stuck.seconds = 0.0
        await job
    assert "no longer counts as in flight" in caplog.text


async def test_an_attached_job_that_is_given_up_takes_no_place_since_it_had_none(
    make_session, stuck
):
    stuck.jobs["req_old"] = now()
    async with make_session(max_in_flight=1, job_timeout=100) as session:
        job = await session.attach("req_old")
        with pytest.raises(JobTimeoutError):
            await job
        assert session.stats().in_flight == 0
        began = now()
        job = await session.submit(GenerationRequest("a river"))
        assert now() == began
        stuck.seconds = 0.0
        await job


async def test_other_places_are_used_meanwhile(make_session, stuck):
    async with make_session(max_in_flight=3, job_timeout=100) as session:
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
        stuck.seconds = 50.0
        stuck.jobs["req_0"] = 1e9  # still running
        began = now()
        assert (await session.run(prompts(10))).counts == {JobState.SUCCEEDED: 10}
        assert now() - began < 5 * 60
        assert stuck.active_peak <= 3


async def test_a_gate_that_counts_jobs_hears_of_an_end_once_and_only_when_it_is_one(
    make_session, api
):
    api.queues, api.seconds = False, 500.0
    ends = []
    session = make_session(job_timeout=100)
    session.client.submit_gate.job_ended = lambda: ends.append(now())
    async with session:
        began = now()
        with pytest.raises(JobTimeoutError):
            await session.generate(prompts(1)[0])
        assert ends == []
        await asyncio.sleep(600)
        assert len(ends) == 1
        assert 500 <= ends[0] - began <= 560


async def test_a_submit_that_waits_for_such_a_place_ends_with_the_session(make_session, stuck):
    session = make_session(max_in_flight=1, job_timeout=100)
    with pytest.raises(LookupError):
        async with session:
            with pytest.raises(JobTimeoutError):
                await session.generate(prompts(1)[0])
            waiting = asyncio.create_task(session.submit(GenerationRequest("the next")))
            await asyncio.sleep(10)
            raise LookupError
    with pytest.raises(Exception, match="closed"):
        await waiting
    assert stuck.count("create") == 1


# --- many in a row --------------------------------------------------------------------------------


async def test_a_batch_whose_jobs_are_given_up_one_after_the_other_stops_and_says_why(
    make_session, stuck, caplog
):
    async with make_session(max_in_flight=4, job_timeout=100, max_abandoned_in_a_row=4) as session:
        began = now()
        batch = await session.run(prompts(50))
    assert now() - began < 200, "it does not wait for the places of the jobs given up"
    assert batch.counts == {JobState.ABANDONED: 4, JobState.REJECTED: 46}
    assert stuck.count("create") == 4
    assert isinstance(batch[20].error, TooManyAbandonedError)
    assert "4 jobs in a row were given up" in caplog.text


async def test_a_stream_with_places_left_stops_too(make_session, stuck):
    async with make_session(max_in_flight=50, job_timeout=100, max_abandoned_in_a_row=3) as session:

        async def source():
            for request in prompts(50):
                yield request
                await asyncio.sleep(60)

        with pytest.raises(TooManyAbandonedError, match="3 jobs in a row"):
            async for _ in session.as_completed(source()):
                pass
        assert 3 <= stuck.count("create") <= 5
        stuck.seconds = 0.0


async def test_a_job_that_ends_begins_the_count_anew(make_session, api):
    api.queues = False
    async with make_session(job_timeout=100, max_abandoned_in_a_row=3) as session:
        for seconds in [1e9, 1e9, 10.0, 1e9, 1e9]:
            api.seconds = seconds
            job = await session.submit(GenerationRequest("a river"))
            with suppress(JobTimeoutError):
                await job
            api.jobs[job.request_id] = 1e9  # whatever becomes of the next
        assert session.stats().counts[JobState.ABANDONED] == 4


async def test_submits_go_on_once_one_of_the_jobs_given_up_has_ended(make_session, stuck):
    async with make_session(job_timeout=100, max_abandoned_in_a_row=2) as session:
        await session.run(prompts(2))
        with pytest.raises(TooManyAbandonedError):
            await session.submit(GenerationRequest("the next"))
        assert stuck.count("create") == 2
        stuck.seconds = 0.0
        await asyncio.sleep(70)
        await session.generate(GenerationRequest("the next"))
