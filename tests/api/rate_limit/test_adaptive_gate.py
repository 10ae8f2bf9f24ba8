"""What the gate learns about a server's limits, on virtual time and with fixed seeds."""

import asyncio
import random

import pytest

from seedance_async import RetryPolicy
from seedance_async.api.rate_limit import Gate
from tests.support.through import through

pytestmark = pytest.mark.virtual_time

SEED = 20260


def now():
    return asyncio.get_running_loop().time()


class Bucket:
    """A server that allows a rate, with a burst."""

    def __init__(self, rate, burst=10):
        self.rate, self.burst = rate, burst
        self.tokens, self.filled_at = burst, now()

    def accepts(self, active):
        self.tokens = min(self.burst, self.tokens + (now() - self.filled_at) * self.rate)
        self.filled_at = now()
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class JobLimit:
    """A server that allows a number of concurrent jobs."""

    def __init__(self, jobs):
        self.jobs = jobs

    def accepts(self, active):
        return active < self.jobs


class Run:
    """Twenty callers that submit through a gate as fast as it admits them."""

    def __init__(self, server, *, retry_after=0.0, job_seconds=30.0, reported_late=0.0, seed=SEED):
        self.server, self.retry_after, self.job_seconds = server, retry_after, job_seconds
        self.reported_late = reported_late
        self.rng = random.Random(seed)
        self.gate = Gate(20, RetryPolicy().backoff, self.rng)
        self.gate.counts_jobs = True
        self.active = self.sent = self.refused = 0

    async def __aenter__(self):
        self.callers = [asyncio.create_task(self.call()) for _ in range(20)]
        return self

    async def __aexit__(self, *_):
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)
        assert repr(self.gate).startswith("<Gate 0/")

    async def call(self):
        while True:
            async with through(self.gate):
                await asyncio.sleep(self.rng.uniform(0.08, 0.12))
                self.sent += 1
                if self.server.accepts(self.active):
                    self.active += 1
                    seconds = self.job_seconds * self.rng.uniform(0.7, 1.3)
                    asyncio.get_running_loop().call_later(seconds, self.end)
                    self.gate.passed()
                else:
                    self.refused += 1
                    self.gate.refused(self.retry_after)

    def end(self):
        self.active -= 1
        if self.reported_late:
            late = self.rng.uniform(0.0, self.reported_late)
            asyncio.get_running_loop().call_later(late, self.gate.job_ended)
        else:
            self.gate.job_ended()

    async def count(self, seconds):
        """How many calls were accepted and how many refused within these seconds."""
        sent, refused = self.sent, self.refused
        await asyncio.sleep(seconds)
        refused = self.refused - refused
        return self.sent - sent - refused, refused


@pytest.mark.parametrize("retry_after", [0.0, 1.0])
async def test_the_rate_that_a_server_allows_is_found_and_used(retry_after):
    async with Run(Bucket(5.0), retry_after=retry_after) as run:
        await run.count(20)
        assert run.gate.state().limit is None
        accepted, refused = await run.count(200)
        assert accepted >= 0.97 * 5.0 * 200
        assert refused <= 0.015 * accepted
        assert run.gate.state().rate == pytest.approx(5.0, rel=0.2)


async def test_a_rate_that_rises_and_falls_is_followed():
    async with Run(Bucket(5.0)) as run:
        await run.count(60)
        run.server.rate = 10.0
        await run.count(60)
        assert (await run.count(60))[0] >= 0.95 * 10.0 * 60
        run.server.rate = 3.0
        _, refused = await run.count(10)
        assert refused <= 20
        accepted, refused = await run.count(100)
        assert accepted >= 0.93 * 3.0 * 100
        assert refused <= 6


async def test_a_job_limit_is_found_and_used_in_full():
    async with Run(JobLimit(40)) as run:
        await run.count(90)
        assert run.gate.state().rate is None
        assert run.gate.state().limit == pytest.approx(40, abs=2)
        accepted, refused = await run.count(300)
        assert accepted >= 0.95 * 40 * 300 / 30
        assert refused <= 0.02 * accepted


@pytest.mark.parametrize("seed", range(24))
async def test_job_ends_reported_late_do_not_make_a_job_limit_look_like_a_rate(seed):
    """The first call after a long wait is accepted before the end that made room is reported."""
    server = JobLimit(100)
    async with Run(server, retry_after=1.0, job_seconds=60.0, reported_late=4.0, seed=seed) as run:
        await run.count(120)
        accepted, _ = await run.count(300)
        assert accepted >= 0.9 * 100 * 300 / 60


async def test_a_job_limit_that_rises_and_falls_is_followed():
    async with Run(JobLimit(40)) as run:
        await run.count(90)
        run.server.jobs = 80
        await run.count(180)
        assert run.active >= 76
        run.server.jobs = 20
        _, refused = await run.count(60)
        assert refused <= 20
        assert run.gate.state().limit == pytest.approx(20, abs=2)
        assert run.active >= 18


async def test_at_a_full_server_only_the_end_of_a_job_or_a_long_time_admits_another():
    async with Run(JobLimit(10), job_seconds=120) as run:
        await run.count(200)
        assert run.gate.state().limit == 10
        run.gate.job_ended = lambda: None  # from now on no end of a job is reported
        sent = run.sent
        await run.count(25)
        few = run.sent - sent
        assert few <= 12
        await run.count(900)
        assert run.sent - sent > few, "it tries again by itself"


async def test_calls_that_start_no_jobs_are_never_counted_as_jobs():
    class Stormy(Bucket):
        def accepts(self, active):
            return now() > 10 + self.began and super().accepts(active)

    server = Stormy(5.0)
    server.began = now()
    run = Run(server)
    run.gate.counts_jobs = False
    for _ in range(100_000):
        run.gate.passed()
    async with run:
        await run.count(600)
        accepted, refused = await run.count(600)
        assert accepted >= 0.95 * 5.0 * 600
        assert refused <= 0.03 * accepted


async def test_a_small_limit_with_long_jobs_is_not_forgotten():
    """That one more job is refused whenever it is tried does not contradict the limit."""
    async with Run(JobLimit(5), job_seconds=600.0, reported_late=30.0) as run:
        await run.count(4 * 3600)
        assert run.gate.state().limit in (5, 6)
        accepted, refused = await run.count(4 * 3600)
        assert accepted >= 0.9 * 5 * 4 * 3600 / 600
        assert refused <= 12 * accepted


async def test_a_single_caller_finds_out_that_the_server_allows_more_now():
    async with Run(Bucket(1.0)) as run:
        await run.count(300)
    gate = run.gate

    async def calls(count):
        began = now()
        for _ in range(count):
            async with through(gate):
                await asyncio.sleep(0.1)
                gate.passed()
        return now() - began

    gate.counts_jobs = False
    await calls(500)
    assert await calls(500) < 60


async def test_calls_that_never_waited_do_not_count_as_held_by_the_gate():
    gate = Gate(20, RetryPolicy().backoff, random.Random(SEED))

    async def call():
        async with through(gate):
            gate.passed()

    async with through(gate):
        gate.refused(0.0)
    await asyncio.gather(*(call() for _ in range(1000)))
    for _ in range(360):
        await asyncio.sleep(10)
        await call()
    async with through(gate):
        gate.refused(0.0)
    await call()
    assert gate.state().rate is None


async def test_jobs_started_elsewhere_count_as_running():
    gate = Gate(5, RetryPolicy().backoff, random.Random(SEED))
    gate.counts_jobs = True
    for _ in range(7):
        gate.job_started()
    for _ in range(6):
        async with through(gate):
            gate.refused(10.0)
    gate.job_ended()
    async with through(gate):
        gate.passed()
    assert gate.state().limit == 7


async def test_a_burst_a_minute_is_not_mistaken_for_a_job_limit_for_good():
    class Minute:
        def __init__(self):
            self.minute, self.left = 0, 0

        def accepts(self, active):
            minute = now() // 60
            if minute != self.minute:
                self.minute, self.left = minute, 40
            self.left -= 1
            return self.left >= 0

    async with Run(Minute(), job_seconds=40) as run:
        await run.count(1200)
        accepted, refused = await run.count(600)
        assert accepted >= 0.8 * 400
        assert refused <= 0.1 * accepted


async def test_a_limit_that_the_server_lifts_is_forgotten():
    async with Run(Bucket(5.0), job_seconds=1.0) as run:
        await run.count(30)
        assert run.gate.state().rate is not None
        run.server.rate = run.server.burst = 1e9
        await run.count(80)
        assert run.gate.state().rate is None
        assert (await run.count(2))[0] > 2 * 20 / 0.12 * 0.8
