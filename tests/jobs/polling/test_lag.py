"""How soon a session at its defaults notices the end of a job, and what it says if it cannot."""

import asyncio
import math
import random
import statistics

import pytest

from seedance_async import Backoff, GenerationRequest, SeedanceSession
from seedance_async.session.options import SessionOptions
from tests.conftest import KEY, SEED
from tests.support.fakes import FakeAPI

pytestmark = pytest.mark.virtual_time


class VaryingAPI(FakeAPI):
    """Its jobs take different times, around `seconds`; it knows the end of each."""

    def __init__(self, seconds, seed=1):
        super().__init__(seconds=seconds)
        self.random = random.Random(seed)
        self.taken = {}

    def create(self, request):
        answer = super().create(request)
        name = f"req_{len(self.taken)}"
        self.taken[name] = self.random.lognormvariate(math.log(self.seconds), 0.2)
        # What the fake takes for the age of a job is so much more or less.
        self.jobs[name] += self.taken[name] - self.seconds
        return answer

    def end(self, name):
        return self.jobs[name] + self.seconds


def at_defaults(api, seed=SEED, **options):
    """A session with no option set but what it needs to be one."""
    known = {"api_key": KEY, "base_url": "https://api.example", "rng": random.Random(seed)}
    return SeedanceSession(transport=api, **known, **options)


async def lags_of(session, api, jobs):
    """The lags of some jobs, in the order in which they were noticed."""
    lags = []
    async for job in session.as_completed(GenerationRequest("river") for _ in range(jobs)):
        lags.append(asyncio.get_running_loop().time() - api.end(job.request_id))
    return lags


@pytest.mark.parametrize(("jobs", "sessions"), [(1, 200), (10, 20), (100, 2)])
async def test_the_ends_of_few_jobs_are_noticed_as_soon_as_by_a_person(jobs, sessions):
    lags = []
    for seed in range(sessions):
        api = VaryingAPI(90.0, seed)
        async with at_defaults(api, seed, max_in_flight=jobs) as session:
            lags += await lags_of(session, api, jobs)
    assert statistics.median(lags) <= 2.5
    assert statistics.quantiles(lags, n=20)[-1] <= 5


async def test_what_is_learned_saves_polls_and_notices_ends_no_later():
    api = VaryingAPI(90.0)
    async with at_defaults(api) as session:
        await lags_of(session, api, 40)
        before = session.stats().polls
        lags = await lags_of(session, api, 300)
        polls = (session.stats().polls - before) / 300
    assert polls < 15, "every five seconds it would be eighteen"
    assert statistics.median(lags) <= 2
    assert statistics.quantiles(lags, n=20)[-1] <= 5


@pytest.mark.parametrize(("before", "after"), [(600.0, 60.0), (60.0, 600.0)])
async def test_a_dozen_jobs_after_a_service_has_changed_its_pace_the_lag_is_as_usual(before, after):
    api = VaryingAPI(before)
    async with at_defaults(api, max_in_flight=5) as session:
        await lags_of(session, api, 100)
        api.seconds = after
        lags = await lags_of(session, api, 60)
    assert max(lags[:12]) <= 6 * 5.3 + 0.1
    assert statistics.median(lags[12:]) <= 3, "half of an interval"
    assert statistics.quantiles(lags[12:], n=20)[-1] <= 5.3


async def test_ends_of_many_jobs_at_once_are_noticed_as_soon_as_those_of_few():
    api = VaryingAPI(20.0)
    async with at_defaults(api, max_in_flight=500) as session:
        lags = await lags_of(session, api, 500)
    assert statistics.median(lags) <= 2.5
    assert statistics.quantiles(lags, n=20)[-1] <= 5


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_short_jobs_take_no_more_polls_than_one_every_five_seconds(seed):
    """They leave the queue before the first poll of a plan, which does not see that they queued."""
    api = VaryingAPI(20.0, seed)
    async with at_defaults(api, seed, max_in_flight=1000) as session:
        await lags_of(session, api, 1000)
        polls = session.stats().polls
    assert polls <= sum(math.ceil(seconds / 5.05) for seconds in api.taken.values())


async def test_a_thousand_short_jobs_take_seconds():
    api = FakeAPI(seconds=1.0)
    async with at_defaults(api, max_in_flight=1000) as session:
        began = asyncio.get_running_loop().time()
        await session.run(GenerationRequest("river") for _ in range(1000))
        assert asyncio.get_running_loop().time() - began < 6


@pytest.mark.parametrize(
    ("jobs", "rate"), [(1, 20), (20, 20), (40, 20), (100, 50), (1000, 500), (10**6, 1000)]
)
def test_the_poll_rate_follows_the_jobs_in_flight(jobs, rate):
    assert SessionOptions(max_in_flight=jobs).poll_rate == rate
    assert SessionOptions(max_in_flight=jobs, poll_rate=7.0).poll_rate == 7.0


# --- a rate that does not suffice -----------------------------------------------------------------


async def test_intervals_stretched_more_than_threefold_are_warned_of_once(caplog):
    api = FakeAPI(seconds=1e9)
    poll = Backoff(initial=10, multiplier=1, maximum=10)
    session = at_defaults(api, max_in_flight=100, poll_rate=2, poll=poll)
    with pytest.raises(LookupError):
        async with session:
            running = asyncio.create_task(session.run([GenerationRequest("river")] * 100))
            await asyncio.sleep(500)
            assert session.stats().poll_stretch == pytest.approx(5.5, rel=0.1)
            raise LookupError
    await running
    (warning,) = [each for each in caplog.messages if "poll rate" in each]
    assert "times more rarely" in warning
    assert "2 a second" in warning


async def test_a_rate_that_suffices_stretches_nothing_and_is_not_spoken_of(caplog):
    api = VaryingAPI(90.0)
    async with at_defaults(api, max_in_flight=100) as session:
        running = asyncio.create_task(session.run([GenerationRequest("river")] * 300))
        while not running.done():
            assert session.stats().poll_stretch < 3
            await asyncio.sleep(1)
    assert "poll rate" not in caplog.text
