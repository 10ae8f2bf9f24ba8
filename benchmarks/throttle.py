"""How much of a rate limit is used, and how many submits the server refuses meanwhile.

The server limits submits per second (a token bucket), jobs at once, or submits in any 60 seconds,
and changes the limit midway. The SDK's session runs against it on virtual time, beside what is
usually written by hand: a backoff in every coroutine, and a semaphore tuned to the first limit.
Finally the session runs against the emulator over real HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import random
import sys
from bisect import bisect_right
from collections import deque
from contextlib import suppress

import attrs

from benchmarks.report import Target, plot_path, pyplot, report
from seedance_async import Backoff, GenerationRequest, SeedanceSession
from seedance_async.api.protocol import WireResponse
from tests.support.emulator_process import emulator_process
from tests.support.virtual_time import VirtualTimeLoop

#: Seconds after which refusals count: an unknown limit must first be discovered.
LEARNING = 10.0
#: Seconds per point of the plot.
BIN = 10.0
#: The session runs once with each, and the worst run counts; its rivals run with the first only.
SEEDS = (20260, 1, 2, 3)
#: Jobs at once of the hand-written code without a semaphore, and the session's limit.
IN_FLIGHT = 1000
#: The session's default of `max_connections`, for all rivals.
CONNECTIONS = 50


# --- servers --------------------------------------------------------------------------------------


class Steps:
    """A value that changes at certain times: `[(0, 5), (300, 10)]`."""

    def __init__(self, steps):
        self.times, self.values = zip(*steps, strict=True)

    def at(self, seconds):
        return self.values[bisect_right(self.times, seconds) - 1]

    def integral(self, until):
        ends = (*self.times[1:], until)
        spans = zip(self.times, ends, self.values, strict=True)
        return sum(max(0.0, min(end, until) - begin) * value for begin, end, value in spans)


class TokenBucket:
    """A number of submits per second, and a burst."""

    unit = "submits/s"

    def __init__(self, steps, burst):
        self.steps, self.burst = Steps(steps), burst
        self.tokens, self.filled_at = float(burst), 0.0

    def refusal(self, now, active):
        """Seconds until a submit is allowed; None if it is allowed now, and then it is counted."""
        rate = self.steps.at(now)
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1:
            return (1 - self.tokens) / rate
        self.tokens -= 1
        return None

    def used(self, server, seconds):
        return len(server.accepted) / (self.steps.integral(seconds) + self.burst)

    def drawn(self, server, begin, end):
        return sum(begin <= at < end for at in server.accepted) / (end - begin)


class AtOnce:
    """A number of jobs at once."""

    unit = "jobs at once"

    def __init__(self, steps):
        self.steps = Steps(steps)

    def refusal(self, now, active):
        return 1.0 if active >= self.steps.at(now) else None

    def used(self, server, seconds):
        """The share of the allowed jobs that were running, second by second."""
        filled = sum(
            min(server.active_at(second), self.steps.at(second)) for second in range(int(seconds))
        )
        return filled / self.steps.integral(seconds)

    def drawn(self, server, begin, end):
        return server.active_at((begin + end) / 2)


class Window:
    """A number of submits in any `span` seconds."""

    unit = "submits/s"

    def __init__(self, count, span=60.0):
        self.count, self.span = count, span
        self.steps = Steps([(0, count / span)])
        self.recent = deque()

    def refusal(self, now, active):
        while self.recent and self.recent[0] <= now - self.span:
            self.recent.popleft()
        if len(self.recent) >= self.count:
            return self.recent[0] + self.span - now
        self.recent.append(now)
        return None

    def used(self, server, seconds):
        return len(server.accepted) / (self.steps.integral(seconds) + self.count)

    drawn = TokenBucket.drawn


class Server:
    """A `Transport` to a minimal API behind such a limit."""

    def __init__(self, limit, *, retry_after, latency, job_seconds, seed):
        self.limit, self.retry_after = limit, retry_after
        self.latency, self.job_seconds = latency, job_seconds
        self.seed, self.rng = seed, random.Random(seed)
        self.began = asyncio.get_running_loop().time()
        self.accepted, self.ends, self.sent, self.refused = [], [], [], []
        self.active, self.sorted_ends = 0, []

    def now(self):
        return asyncio.get_running_loop().time() - self.began

    async def send(self, request, *, on_sent=None):
        if on_sent is not None:
            on_sent()
        await asyncio.sleep(self.one_way())
        answer = self.create() if request.charges else self.get(request)
        await asyncio.sleep(self.one_way())
        return answer

    def one_way(self):
        return self.latency * self.rng.uniform(0.4, 0.6)

    def create(self):
        now = self.now()
        self.sent.append(now)
        delay = self.limit.refusal(now, self.active)
        if delay is not None:
            self.refused.append(now)
            headers = {"retry-after": str(int(delay) + 1)} if self.retry_after else {}
            error = {"code": "rate_limited", "message": "too many"}
            return answer(429, {"success": False, "error": error}, headers)
        name = f"req_{len(self.accepted)}"
        seconds = self.job_seconds * self.rng.lognormvariate(0, 0.25)
        self.accepted.append(now)
        self.ends.append(now + seconds)
        self.active += 1
        asyncio.get_running_loop().call_later(seconds, self.end)
        body = {"success": True, "requestId": name, "status": "queued", "creditsCharged": 40}
        return answer(200, body)

    def end(self):
        self.active -= 1

    def has_ended(self, number):
        return self.now() >= self.ends[number]

    def get(self, request):
        name = request.path.rsplit("/", 1)[1]
        body = {"success": True, "requestId": name, "status": "processing", "error": None}
        if self.has_ended(int(name.removeprefix("req_"))):
            output = {"type": "video", "url": f"https://media.example/{name}.mp4"}
            body |= {"status": "succeeded", "output": output}
        return answer(200, body)

    def active_at(self, seconds):
        if len(self.ends) != len(self.sorted_ends):
            self.sorted_ends = sorted(self.ends)
        began = bisect_right(self.accepted, seconds)
        return began - bisect_right(self.sorted_ends, seconds)

    async def aclose(self):
        pass

    def refused_share(self):
        sent = sum(at >= LEARNING for at in self.sent)
        return sum(at >= LEARNING for at in self.refused) / max(1, sent)


def answer(status, body, headers=None):
    return WireResponse(status, headers or {}, json.dumps(body).encode())


# --- rivals ---------------------------------------------------------------------------------------


async def session(server, scenario):
    """The SDK. It is not told the limit."""
    async with SeedanceSession(
        api_key="key",
        base_url="https://api.example",
        transport=server,
        max_in_flight=IN_FLIGHT,
        max_connections=CONNECTIONS,
        poll=scenario.poll,
        poll_rate=10_000.0,
        rng=random.Random(server.seed),
    ) as made:
        requests = (GenerationRequest(f"river {number}") for number in itertools.count())
        async for _ in made.as_completed(requests):
            pass


async def backoff(server, scenario, in_flight=IN_FLIGHT):
    """One coroutine per job, each with its own full-jitter backoff that respects Retry-After."""
    connections, rng = asyncio.Semaphore(CONNECTIONS), random.Random(server.seed)

    async def make_videos():
        while True:
            name = await submit()
            for attempt in itertools.count():
                await asyncio.sleep(scenario.poll.delay(attempt, rng))
                if server.has_ended(name):
                    break

    async def submit():
        for attempt in itertools.count():
            async with connections:
                response = await server.send(SUBMIT)
            if response.status == 200:
                return int(json.loads(response.body)["requestId"].removeprefix("req_"))
            own = rng.uniform(0, min(20.0, 0.5 * 2.0 ** min(attempt, 10)))
            await asyncio.sleep(max(own, float(response.headers.get("retry-after", 0))))

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(make_videos())


async def semaphore(server, scenario):
    """The same under a semaphore on jobs, tuned to the first limit."""
    await backoff(server, scenario, scenario.tuned)


@attrs.frozen
class Submit:
    charges: bool = True


SUBMIT = Submit()
RIVALS = {"session": session, "backoff": backoff, "semaphore": semaphore}


# --- scenarios ------------------------------------------------------------------------------------


@attrs.frozen
class Scenario:
    name: str
    make_limit: object
    seconds: float
    tuned: int
    retry_after: bool = False
    latency: float = 0.2
    job_seconds: float = 60.0
    poll: Backoff = Backoff()

    def run(self, rival, seed):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(self._run(RIVALS[rival], seed))

    async def _run(self, rival, seed):
        server = Server(
            self.make_limit(),
            retry_after=self.retry_after,
            latency=self.latency,
            job_seconds=self.job_seconds,
            seed=seed,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await rival(server, self)
        return server


def scenarios(third):
    """All scenarios; the limit changes after `third` seconds, and again after as many."""
    rate = [(0, 5.0), (third, 10.0), (2 * third, 4.0)]
    jobs = [(0, 100), (third, 200), (2 * third, 60)]
    often = Backoff(initial=2.0, multiplier=1.0, maximum=2.0)
    found = []
    for retry_after in (False, True):
        header = "Retry-After" if retry_after else "no Retry-After"
        found += [
            Scenario(
                f"5, 10, 4 submits/s, burst 10, {header}",
                lambda: TokenBucket(rate, 10), 3 * third, 300, retry_after,
            ),
            Scenario(
                f"100, 200, 60 jobs at once, {header}",
                lambda: AtOnce(jobs), 3 * third, 100, retry_after, poll=often,
            ),
            Scenario(
                f"60 submits in any 60 s, {header}",
                lambda: Window(60), 3 * third, 60, retry_after,
            ),
        ]  # fmt: skip
    return found


# --- over real HTTP -------------------------------------------------------------------------------


async def over_http(seconds):
    """The session against the emulator, on real time: the shares used and refused."""
    rows = []
    for name, limits, granted in (
        ("emulator, 20 submits/s, burst 10", {"submit_rate": 20.0, "submit_burst": 10}, 20.0),
        ("emulator, 50 jobs of 10 s at once", {"max_active": 50}, 50),
    ):
        options = {"gpus": 10_000, "median_seconds": 10.0, "sigma": 0.1, "media": "shared"}
        async with emulator_process(**options, **limits) as emulator:
            accepted, refused, running = await _press(emulator, seconds)
        sent = accepted + refused
        used = accepted / (granted * seconds + 10) if "submit_rate" in limits else running / granted
        rows.append([name, "session", used, refused / max(1, sent), sent])
    return rows


async def _press(emulator, seconds):
    """Submits accepted and refused after LEARNING seconds, and the average of running jobs."""
    async with SeedanceSession(
        api_key=emulator.api_key,
        base_url=emulator.url,
        max_in_flight=1000,
        max_connections=CONNECTIONS,
        poll=Backoff(initial=0.5, multiplier=1.0, maximum=0.5),
        poll_rate=400.0,
    ) as made:
        requests = (GenerationRequest(f"river {number}") for number in itertools.count())

        async def consume():
            async for _ in made.as_completed(requests):
                pass

        consumer = asyncio.create_task(consume())
        await asyncio.sleep(LEARNING)
        before, samples = await emulator.stats(), []
        for _ in range(int(seconds * 4)):
            await asyncio.sleep(0.25)
            samples.append((await emulator.stats())["active"])
        after = await emulator.stats()
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
    accepted, refused = (after_of - before_of for after_of, before_of in
                         zip(_submits(after), _submits(before), strict=True))  # fmt: skip
    return accepted, refused, sum(samples) / len(samples)


def _submits(stats):
    by_status = stats["requests"]["submit"]
    refused = by_status.get("429", 0)
    return sum(by_status.values()) - refused, refused


# --- the output -----------------------------------------------------------------------------------


def draw(runs):
    """The limit and its use, one panel per scenario."""
    plt = pyplot()
    figure, panels = plt.subplots(len(runs), 1, figsize=(9, 2.6 * len(runs)), squeeze=False)
    for (scenario, servers), panel in zip(runs, panels[:, 0], strict=True):
        ats = [index * BIN for index in range(int(scenario.seconds / BIN))]
        for rival, server in servers.items():
            used = [server.limit.drawn(server, at, at + BIN) for at in ats]
            panel.plot(ats, used, label=rival, linewidth=1.6 if rival == "session" else 0.9)
        steps = next(iter(servers.values())).limit.steps
        panel.step(ats, [steps.at(at) for at in ats], "k--", where="post", label="limit")
        panel.set(title=scenario.name, ylabel=servers["session"].limit.unit)
        panel.set_ylim(0, max(steps.values) * 1.4)
    panels[0, 0].legend(ncols=4, fontsize=8)
    panels[-1, 0].set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(plot_path("throttle"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="thirds of 200 s, 10 s over HTTP; too short to meet the targets",
    )
    parser.add_argument("--third", type=float, help="seconds between two changes (default 600)")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    third = chosen.third or (200.0 if chosen.quick else 600.0)
    rows, targets, runs = [], [], []
    for scenario in scenarios(third):
        print(f"running: {scenario.name}", file=sys.stderr)
        servers = {rival: scenario.run(rival, SEEDS[0]) for rival in RIVALS}
        runs.append((scenario, servers))
        again = [scenario.run("session", seed) for seed in SEEDS[1:]]
        for rival, server in servers.items():
            seen = [server, *again] if rival == "session" else [server]
            used = [each.limit.used(each, scenario.seconds) for each in seen]
            refused = [each.refused_share() for each in seen]
            rows.append([scenario.name, rival, min(used), max(refused), len(server.sent)])
            if rival == "session":
                targets.append(Target(f"used, {scenario.name}", min(used), at_least=0.95))
                targets.append(Target(f"refused, {scenario.name}", max(refused), at_most=0.02))
    rows += asyncio.run(over_http(10.0 if chosen.quick else 60.0))
    draw(runs)
    report(
        "throttle",
        header=["limit", "rival", "used", f"refused after {LEARNING:g} s", "sent"],
        rows=rows,
        targets=targets,
        packages=("aiohttp", "matplotlib"),
        details={
            "seeds of the session's runs, of which the worst is shown": SEEDS,
            "seconds between changes": third,
            "virtual time": "all but the emulator's rows",
        },
    )


if __name__ == "__main__":
    main()
