"""Refusals that are about no rate and no number of jobs must not slow a session down for long."""

import asyncio
import random

import pytest

from seedance_async import Backoff
from seedance_async.api.rate_limit import Gate
from seedance_async.api.rate_limit.learned import GrantedRate

pytestmark = pytest.mark.virtual_time

BACKOFF = Backoff(initial=0.5, multiplier=2.0, maximum=20.0, jitter=1.0)


class Moody:
    """A server that refuses a share of the calls, whatever their rate."""

    def __init__(self, share, seed=7):
        self.share, self.rng = share, random.Random(seed)
        self.gate = Gate(50, BACKOFF, random.Random(seed + 1))
        self.gate.counts_jobs = True
        self.taken = 0

    async def call(self):
        """One call, sent again until it is taken; the job that it starts ends at some time."""
        while True:
            async with self.gate:
                await asyncio.sleep(0.1)
                if self.rng.random() >= self.share:
                    self.gate.passed()
                    break
                self.gate.refused(0.0)
        self.taken += 1
        asyncio.get_running_loop().call_later(self.rng.uniform(1, 20), self.gate.freed)

    async def burst(self, calls):
        """Seconds that so many calls at once take."""
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(self.call() for _ in range(calls)))
        return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_refusals_cost_their_holds_and_no_more(share, seed):
    server = Moody(share, seed)
    seconds = await server.burst(3000)
    assert server.taken == 3000
    assert seconds < 30 + 1.5 * 3000 * share, "about a second for each refusal"


def test_after_a_rate_is_given_up_the_next_one_is_counted_from_new(monkeypatch):
    monkeypatch.setattr("seedance_async.api.rate_limit.learned.DOUBT_CALLS", 20)
    rate, now, found = GrantedRate(slowest=0.05), 0.0, False
    while not found or rate.pace is not None:  # refused every few calls, whatever the pace
        for _ in range(5 if found else 9):
            now += 0.01
            rate.took(pressed=True)
        rate.refused(now)
        rate.settle(now)
        found = found or rate.pace is not None
    assert rate.pace is None
    for _ in range(30):  # slow calls, in which nothing is refused
        now += 100.0
        rate.took(pressed=True)
    rate.refused(now)
    rate.settle(now)
    assert rate.pace is None, "one refusal alone tells no rate"


async def test_a_service_that_is_used_little_is_not_taken_for_a_slow_one():
    server = Moody(0.0)
    for number in range(200):
        server.share = 1.0 if number % 20 == 19 else 0.0
        calling = asyncio.ensure_future(server.call())
        await asyncio.sleep(0.2)
        server.share = 0.0
        await calling
        await asyncio.sleep(60)
    assert await server.burst(500) < 30
