"""Refusals that are not about a rate or a job limit must not slow a session down for long."""

import asyncio
import random

import pytest

from seedance_async import Backoff
from seedance_async.api.rate_limit import Gate
from seedance_async.api.rate_limit.learned import Learned
from seedance_async.api.rate_limit.noise import Noise
from tests.support.through import through

pytestmark = pytest.mark.virtual_time

BACKOFF = Backoff(initial=0.5, multiplier=2.0, maximum=20.0, jitter=1.0)


class Moody:
    """A server that refuses a share of the calls, whatever their rate."""

    def __init__(self, share, seed=7):
        self.share, self.rng = share, random.Random(seed)
        self.gate = Gate(50, BACKOFF, random.Random(seed + 1))
        self.gate.counts_jobs = True
        self.accepted = 0

    async def call(self):
        """One call, sent again until it is accepted; the job that it starts ends later."""
        while True:
            async with through(self.gate):
                await asyncio.sleep(0.1)
                if self.rng.random() >= self.share:
                    self.gate.passed()
                    break
                self.gate.refused(0.0)
        self.accepted += 1
        asyncio.get_running_loop().call_later(self.rng.uniform(1, 20), self.gate.job_ended)

    async def burst(self, calls):
        """Seconds that this many concurrent calls take."""
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(self.call() for _ in range(calls)))
        return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.3, 0.6])
async def test_random_refusals_cost_only_the_time_of_their_holds(share, seed):
    server = Moody(share, seed)
    seconds = await server.burst(3000)
    assert server.accepted == 3000
    assert seconds < 30 + 1.5 * 3000 * share, "about a second for each refusal"


async def test_without_a_limit_a_refusal_concerns_its_own_call_alone():
    """Once less pressure has not brought fewer refusals, nobody else waits for a Retry-After."""
    server = Moody(0.3)
    await server.burst(1500)
    gate, held = server.gate, 0
    assert gate.state().noise == pytest.approx(0.3, abs=0.2)
    for _ in range(20):
        async with through(gate):
            held += gate.refused(60.0)
        async with through(gate):
            gate.passed()
    assert held == 0


async def test_a_rarely_used_service_is_not_mistaken_for_a_slow_one():
    server = Moody(0.0)
    for number in range(200):
        server.share = 1.0 if number % 20 == 19 else 0.0
        calling = asyncio.ensure_future(server.call())
        await asyncio.sleep(0.2)
        server.share = 0.0
        await calling
        await asyncio.sleep(60)
    assert await server.burst(500) < 30


@pytest.mark.parametrize("seed", range(8))
async def test_a_full_server_is_not_mistaken_for_chance(seed):
    """Though answers overtake each other, so that accepted ones come between the refused."""
    rng, running = random.Random(seed), 0
    gate = Gate(50, BACKOFF, random.Random(seed))
    gate.counts_jobs = True

    async def call():
        nonlocal running
        async with through(gate):
            await asyncio.sleep(rng.uniform(0.08, 0.12))
            accepted = running < 20
            running += accepted
            await asyncio.sleep(rng.uniform(0.08, 0.12))
            if accepted:
                gate.passed()
            else:
                gate.refused(0.0)

    await asyncio.gather(*(call() for _ in range(60)))
    assert gate.state().noise == 0
    state, now = gate.state(), asyncio.get_running_loop().time()
    assert gate.trouble.is_on(now) or state.limit or state.rate


async def test_chance_is_found_though_few_calls_are_in_flight():
    """Where far fewer calls than usual are refused as often, pressure is not the cause."""
    server = Moody(0.0)

    async def calls(seconds):
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends:
            await server.call()

    await asyncio.gather(*(calls(300) for _ in range(2)))
    server.share, usual = 0.5, server.accepted / 300
    await asyncio.gather(*(calls(600) for _ in range(2)))
    before = server.accepted
    await asyncio.gather(*(calls(60) for _ in range(2)))
    assert server.gate.state().rate is None
    assert server.accepted - before > 0.3 * usual * 60


class FewJobs:
    """A session's default of jobs in flight, at a server that refuses a share of the submits."""

    def __init__(self, share, seed, limit=100):
        self.share, self.rng, self.limit = share, random.Random(seed), limit
        self.gate = Gate(50, BACKOFF, random.Random(seed + 1), at_first=8)
        self.gate.counts_jobs = True
        self.accepted = self.refused = self.running = 0

    async def one_after_another(self):
        while True:
            refusals = 0
            while not await self.submit():
                refusals += 1
                if not self.gate.trouble.is_on(asyncio.get_running_loop().time()):
                    await asyncio.sleep(BACKOFF.delay(refusals - 1, self.rng))
            await asyncio.sleep(self.rng.uniform(30, 90))
            self.running -= 1
            self.gate.job_ended()

    async def submit(self):
        async with through(self.gate):
            await asyncio.sleep(0.2)
            if self.rng.random() < self.share or self.running >= self.limit:
                self.refused += 1
                self.gate.refused(0.0)
                return False
            self.accepted += 1
            self.running += 1
            self.gate.passed()
            return True

    async def run(self, seconds):
        callers = [asyncio.create_task(self.one_after_another()) for _ in range(20)]
        await asyncio.sleep(seconds)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("share", "used"), [(0.1, 0.9), (0.3, 0.9), (0.6, 0.8)])
async def test_chance_is_found_with_the_default_of_jobs_in_flight(share, used, seed):
    server = FewJobs(share, seed)
    await server.run(1800)
    assert server.accepted > used * 20 * 1800 / 60


@pytest.mark.parametrize("seed", range(4))
async def test_a_limit_of_few_jobs_is_not_mistaken_for_chance(seed):
    server = FewJobs(0.0, seed, limit=8)
    await server.run(1800)
    assert server.gate.state().noise == 0
    assert server.refused < 0.4 * server.accepted


async def test_two_refusals_of_a_caller_with_few_jobs_are_no_reason_to_try():
    """So little is usual there, and a Retry-After still holds everybody."""
    gate, held = Gate(50, BACKOFF, random.Random(1), at_first=8), []
    gate.counts_jobs = True

    async def call(refused):
        async with through(gate):
            await asyncio.sleep(0.2)
            if refused:
                held.append(gate.refused(40.0))
            else:
                gate.passed()

    for refusals in (0, 1, 0, 1):
        for refused in (True,) * refusals + (False, False, False):
            await call(refused)
        await asyncio.sleep(90)
        for _ in range(3):
            gate.job_ended()
    assert held == [True, True]


async def test_chance_is_doubted_once_less_pressure_brings_fewer_refusals():
    """A rate little below what all callers ask for refuses few of the calls in flight."""
    gate, rng, tokens, at = Gate(50, BACKOFF, random.Random(1)), random.Random(2), 40.0, 0.0
    sent = refused = 0

    async def calls():
        nonlocal tokens, at, sent, refused
        for _ in range(400):
            async with through(gate):
                await asyncio.sleep(rng.uniform(0.16, 0.24))
                now = asyncio.get_running_loop().time()
                tokens, at = min(40.0, tokens + 180 * (now - at)), now
                sent += 1
                if tokens >= 1:
                    tokens -= 1
                    gate.passed()
                else:
                    refused += 1
                    gate.refused(0.0)

    await asyncio.gather(*(calls() for _ in range(50)))
    assert refused < 0.12 * sent


def test_where_no_job_runs_a_number_of_jobs_is_not_what_refuses():
    learned, now = Learned(slowest=0.05), 0.0
    learned.jobs.refused(1, now)
    answers = {"late": False, "eased": True}
    for _ in range(6):  # of two calls one is refused, with no job running
        now += 60
        learned.refused(0, 0, now, **answers)
        learned.accepted(1, 0, now + 3, **answers)
    assert learned.noise.is_found
    assert learned.is_nothing


def test_a_limit_that_falls_again_and_again_is_chance():
    """Where a limit has fallen once, refusals are certain until enough jobs have ended."""
    learned, now, running = Learned(slowest=0.05), 0.0, 100
    learned.jobs.refused(running, now)
    answers = {"late": False, "eased": True}
    for _ in range(8):
        for _ in range(3):
            now += 5
            learned.refused(running, 0, now, **answers)
            running = running * 4 // 5
        learned.accepted(running, 0, now + 1, **answers)
    assert learned.noise.is_found


def test_a_limit_that_has_fallen_far_is_no_chance():
    learned, now = Learned(slowest=0.05), 0.0
    learned.jobs.refused(200, now)
    for running in range(200, 19, -6):
        now += 5
        learned.refused(running, 0, now, late=False, eased=True)
    learned.accepted(20, 0, now + 5, late=False, eased=True)
    assert not learned.noise.is_found
    assert learned.jobs.found == 20


async def test_that_refusals_by_chance_are_over_is_told():
    server, told = Moody(0.3), []
    server.gate.on_change = told.append
    await server.burst(1500)
    server.share = 0.0
    await server.burst(1500)
    assert [state.noise > 0.02 for state in told][-2:] == [True, False]


async def test_chance_that_explains_too_little_is_not_believed_again_at_once():
    """It is disbelieved by the refusals; the next call accepted is no new evidence."""
    noise, share = Noise(), 0.3
    for number in range(1000):
        noise.count(0.03, refused=number % 10 < share * 10)
        noise.is_believed()
    assert noise.is_found
    while noise.is_found:
        noise.count(0.03, refused=True)
    noise.count(0.03, refused=False)
    assert not noise.is_believed()
