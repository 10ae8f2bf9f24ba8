"""What the best fixed setting, chosen in hindsight, gets where `benchmarks.throttle` misses.

This client knows the kind of limit, and its value at every moment. It has nothing to find out and
keeps to a setting: a share of the limit that it asks for, and a pause after a refusal. But it sees
no more than any client does: not what another client takes, and the end of a job only by a poll.
Every setting of a grid runs once. Printed are the largest share of the oracle's among the settings
that are refused at most a twentieth of their calls, and the fewest refusals among those that get
nine tenths of the oracle's.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

from benchmarks.report import table
from benchmarks.throttle import LEARNING, SEEDS, SUBMIT, Run, make_videos, regimes
from benchmarks.throttled_server import JOB_SECONDS, AtOnce, Rate, Server
from seedance_async.api.rate_limit import RateBudget
from tests.support.virtual_time import VirtualTimeLoop

#: The settings: the share of the limit that is asked for, and seconds of pause after a refusal.
SHARES = [percent / 100 for percent in range(76, 117, 4)]
PAUSES = (0.5, 2.0, 8.0)


class Told:
    """A client that knows the limit; `others` is what another client takes on average."""

    def __init__(self, server, share, pause):
        self.server, self.share, self.pause = server, share, pause
        self.turn, self.ended = asyncio.Lock(), asyncio.Event()
        self.budget, self.running, self.held_until = RateBudget(1.0), 0, 0.0

    def allowed(self):
        """Submits a second and jobs at once, at this moment."""
        limit, others = self.server.limit, self.server.others
        value = limit.steps.at(self.server.now())
        if isinstance(limit, Rate):
            return self.share * (value - others), float("inf")
        return 1e9, self.share * (value - others * JOB_SECONDS)

    async def submit(self):
        while True:
            async with self.turn:
                await self.wait()
            response = await self.server.send(SUBMIT)
            if response.status == 200:
                return int(json.loads(response.body)["requestId"].removeprefix("req_"))
            asked = float(response.headers.get("retry-after", 0))
            self.held_until = self.server.now() + max(self.pause, asked)
            self.job_ended()

    async def wait(self):
        """As long as the setting says, before the next call is sent."""
        while self.running + 1 > self.allowed()[1]:
            self.ended.clear()
            await self.ended.wait()
        await asyncio.sleep(max(0.0, self.held_until - self.server.now()))
        self.budget.rate = self.allowed()[0]
        await asyncio.sleep(self.budget.wait(self.server.now()))
        self.budget.spend(self.server.now())
        self.running += 1

    def job_ended(self):
        self.running -= 1
        self.ended.set()


async def told(regime, seed, share, pause):
    server = Server(regime.make(seed), seed, regime.retry_after, regime.others)
    client = Told(server, share, pause)
    with suppress(TimeoutError):
        async with asyncio.timeout(regime.seconds):
            await make_videos(server, regime.in_flight, client.submit, client.job_ended)
    return Run(server.accepted, len(server.sent), len(server.refused))


def run_one(number, share, pause):
    """In a process of its own: share of the oracle's and of calls refused; None runs the oracle."""
    logging.disable(logging.CRITICAL)
    regime = regimes()[number]
    if share is None:
        return regime.run("oracle", SEEDS[0])
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(told(regime, SEEDS[0], share, pause))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="regimes whose names contain this")
    only, rows = parser.parse_args().only, []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, regime in enumerate(regimes()):
            is_known = isinstance(regime.make(0), (AtOnce, Rate)) and regime.in_flight > 20
            if not is_known or only not in regime.name:
                continue
            oracle = pool.submit(run_one, number, None, None)
            runs = [
                pool.submit(run_one, number, *each) for each in itertools.product(SHARES, PAUSES)
            ]
            found = [
                (run.result().share(oracle.result(), LEARNING, regime.seconds),
                 run.result().refused_share)
                for run in runs
            ]  # fmt: skip
            most = max((share for share, refused in found if refused <= 0.05), default=0.0)
            fewest = min((refused for share, refused in found if share >= 0.9), default=1.0)
            rows.append([regime.name, most, fewest])
    header = ("why the server refuses", "most, refused 5 %", "fewest refused, at 0.9")
    print(table(header, rows))


if __name__ == "__main__":
    main()
