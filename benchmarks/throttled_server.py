"""A minimal API on virtual time behind the limits that `benchmarks.throttle` compares.

A limit says of each submit whether it is refused. `oracle` is the same limit as seen by a client
that knows it: nothing is refused by chance, and a call is sent when it will be accepted.
"""

from __future__ import annotations

import asyncio
import json
import random
from bisect import bisect_right
from collections import deque

import attrs

from seedance_async.api.protocol import WireResponse

#: Seconds there and back, and of a job in the median.
LATENCY, JOB_SECONDS = 0.2, 60.0
#: What a refusal that has no reason of its own asks for, in seconds, where it asks for anything.
ASKED = 2.0


class Steps:
    """A value that changes at certain times: `(0, 5), (300, 10)`."""

    def __init__(self, *steps):
        self.times, self.values = zip(*steps, strict=True)

    def at(self, seconds):
        return self.values[bisect_right(self.times, seconds) - 1]


class Free:
    """No limit. A limit's `refusal` is the seconds until a submit is allowed, else None."""

    status = 429

    def refusal(self, now, active):
        return None

    def take(self, now):
        """Another client's submit, which is always accepted."""

    def oracle(self):
        return self


class Rate(Free):
    """A number of submits per second, and a burst: a token bucket."""

    def __init__(self, *steps, burst=10):
        self.steps, self.burst = Steps(*steps), burst
        self.tokens, self.filled_at = float(burst), 0.0

    def refusal(self, now, active):
        self.fill(now)
        if self.tokens < 1:
            return (1 - self.tokens) / self.steps.at(now)
        self.tokens -= 1
        return None

    def take(self, now):
        self.fill(now)
        self.tokens -= 1

    def fill(self, now):
        rate = self.steps.at(now)
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now


class AtOnce(Free):
    """A number of jobs at once."""

    def __init__(self, *steps):
        self.steps = Steps(*steps)

    def refusal(self, now, active):
        return 1.0 if active >= self.steps.at(now) else None


class Both(Free):
    """A rate, and a number of jobs at once."""

    def __init__(self, rate, at_once):
        self.rate, self.at_once = rate, at_once

    def refusal(self, now, active):
        full = self.at_once.refusal(now, active)
        return self.rate.refusal(now, active) if full is None else full


class Window(Free):
    """A number of submits in any 60 seconds."""

    def __init__(self, count):
        self.count, self.recent = count, deque()

    def refusal(self, now, active):
        while self.recent and self.recent[0] <= now - 60.0:
            self.recent.popleft()
        if len(self.recent) >= self.count:
            return self.recent[0] + 60.0 - now
        self.recent.append(now)
        return None


class Noise(Free):
    """A share of the submits is refused at random, whatever anybody does."""

    def __init__(self, *steps, seed):
        self.steps, self.rng = Steps(*steps), random.Random(seed)

    def refusal(self, now, active):
        return ASKED if self.rng.random() < self.steps.at(now) else None

    def oracle(self):
        return Free()


class Down(Free):
    """All submits are refused for some time."""

    def __init__(self, *steps, status=429):
        self.steps, self.status = Steps(*steps), status

    def refusal(self, now, active):
        return 10.0 if self.steps.at(now) else None


@attrs.define(slots=False)
class Server:
    """A `Transport` to the API behind such a limit.

    Args:
        others: submits a second by another client, at random times.
        patient: whether a call waits until it is accepted, as the oracle's.
    """

    limit: object
    seed: int
    retry_after: bool = False
    others: float = 0.0
    patient: bool = False

    def __attrs_post_init__(self):
        self.loop = asyncio.get_running_loop()
        self.rng, self.began = random.Random(self.seed), self.loop.time()
        self.accepted, self.sent, self.refused, self.ends = [], [], [], []
        self.active, self.turn = 0, asyncio.Lock()
        self.other = asyncio.create_task(self.another_client()) if self.others else None

    def now(self):
        return self.loop.time() - self.began

    async def send(self, request, *, on_sent=None):
        if on_sent is not None:
            on_sent()
        await asyncio.sleep(self.one_way())
        response = await self.create()
        await asyncio.sleep(self.one_way())
        return response

    def one_way(self):
        return LATENCY * self.rng.uniform(0.4, 0.6)

    async def create(self):
        if self.patient:
            async with self.turn:
                await self.until_allowed()
        else:
            self.sent.append(self.now())
            delay = self.limit.refusal(self.now(), self.active)
            if delay is not None:
                return self.refuse(delay)
        self.ends.append(self.now() + self.start_job(self.rng))
        self.accepted.append(self.now())
        body = {"success": True, "requestId": f"req_{len(self.ends) - 1}", "status": "queued"}
        return answer(200, body | {"creditsCharged": 40})

    async def until_allowed(self):
        while (delay := self.limit.refusal(self.now(), self.active)) is not None:  # noqa: ASYNC110
            await asyncio.sleep(min(max(delay, 0.001), 0.05))  # at least that, or time stands still

    def refuse(self, delay):
        self.refused.append(self.now())
        headers = {"retry-after": str(int(delay) + 1)} if self.retry_after else {}
        error = {"code": "rate_limited", "message": "too many"}
        return answer(self.limit.status, {"success": False, "error": error}, headers)

    def start_job(self, rng):
        seconds = JOB_SECONDS * rng.lognormvariate(0, 0.25)
        self.active += 1
        self.loop.call_later(seconds, self.end_job)
        return seconds

    def end_job(self):
        self.active -= 1

    async def another_client(self):
        rng = random.Random(self.seed + 1)
        while True:
            await asyncio.sleep(rng.expovariate(self.others))
            self.limit.take(self.now())
            self.start_job(rng)

    async def aclose(self):
        if self.other is not None:
            self.other.cancel()


def answer(status, body, headers=None):
    return WireResponse(status, headers or {}, json.dumps(body).encode())
