"""The cost of the journal: the same jobs with and without it, against a transport in memory.

    python -m benchmarks.journal [--jobs 5000] [--rate 1000] [--quick] [--postgres]

The table has jobs per second and the longest time that the event loop was blocked, without a
journal, with one in memory, with one in SQLite, and with one in Postgres if that is asked for, on a
server that the benchmark starts, and which flushes to the disk; first with `rate` requests per
second, then with requests as fast as possible. Each kind runs three times, in turns, and its best
run counts, because the machines are noisy.
"""

import argparse
import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from pathlib import Path

from benchmarks.report import Target, draw_bars, report
from seedance_async import Backoff, GenerationRequest, SeedanceSession, WireResponse
from seedance_async.journal import Intent, PostgresJournal, SQLiteJournal
from tests.support.memory_journal import MemoryJournal
from tests.support.postgres import PostgresServer


class NullTransport:
    """Accepts every submit; every job has succeeded by its first poll."""

    def __init__(self):
        self.accepted = 0

    async def send(self, request, *, on_sent=None):
        if on_sent is not None:
            on_sent()
        await asyncio.sleep(0)
        if request.charges:
            self.accepted += 1
            answer = {"requestId": f"req_{self.accepted}", "status": "queued", "creditsCharged": 40}
        else:
            answer = {"requestId": request.path.rsplit("/", 1)[1], "status": "succeeded"}
        return WireResponse(200, {}, json.dumps(answer).encode())

    def open_media(self, url, headers):
        raise NotImplementedError

    async def aclose(self):
        pass


async def paced(jobs, rate):
    """`rate` requests per second; as fast as they are consumed if it is None."""
    began = time.perf_counter()
    for number in range(jobs):
        if rate is not None:
            ahead = number / rate - (time.perf_counter() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)
        yield GenerationRequest(f"prompt {number}", duration=5)


async def longest_block(stop):
    """The longest delay of a 1 ms sleep, in seconds."""
    worst = 0.0
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - before - 0.001)
    return worst


async def run(journal, jobs, rate):
    """Jobs per second, and the longest time that the loop was blocked, in seconds."""
    stop = asyncio.Event()
    poll = Backoff(initial=0.05, maximum=0.05)
    options = {"transport": NullTransport(), "api_key": "k", "base_url": "https://api.example"}
    async with SeedanceSession(
        max_in_flight=500, poll=poll, poll_rate=1e6, journal=journal, **options
    ) as session:
        probe = asyncio.create_task(longest_block(stop))
        began = time.perf_counter()
        count = 0
        async for _ in session.as_completed(paced(jobs, rate)):
            count += 1
        seconds = time.perf_counter() - began
        stop.set()
        blocked = await probe
    assert count == jobs
    return count / seconds, blocked


@contextlib.contextmanager
def databases():
    """Gives the URL of an empty database, again and again."""
    with PostgresServer(durable=True, settings={"autovacuum": "on"}) as server:
        yield lambda: server.dsn(server.new_database())


async def operate(journal, jobs, at_once):
    """Claim, record three times and look up; operations per second, and CPU seconds of each."""
    await journal.open()
    turns = asyncio.Semaphore(at_once)

    async def work(number):
        key = f"{number}"
        intent = Intent(key, "f" * 32, "x" * 300, kind="k", credits=40)
        async with turns:
            attempt = await journal.claim(intent)
            await journal.record(attempt, state="queued", request_id=key, credits_charged=40)
            await journal.record(attempt, state="succeeded", output_url="https://media.example/1")
            await journal.record_file(key, path=f"{key}.mp4", size=1, sha256="a" * 64)
            assert (await journal.find(key)).state == "succeeded"

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*map(work, range(jobs)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    await journal.aclose()
    return 5 * jobs / seconds, cpu / (5 * jobs)


def show_operations(jobs, new_database):
    """How many operations alone SQLite and Postgres do, one after the other and many at once."""
    for at_once in (1, 200):
        count = jobs if at_once > 1 else jobs // 10
        with tempfile.TemporaryDirectory() as folder:
            for journal in (
                SQLiteJournal(Path(folder) / "run.db", shared=True),
                PostgresJournal(new_database()),
            ):
                speed, cpu = asyncio.run(operate(journal, count, at_once))
                name = type(journal).__name__
                done = f"{speed:,.0f} operations/s, {cpu * 1e6:.0f} us of CPU each"
                print(f"{name}, {at_once} at once: {done}")


def measure(jobs, rate, new_database=None, rounds=3):
    kinds = {
        "no journal": lambda folder: None,
        "in memory": lambda folder: MemoryJournal(),
        "SQLite": lambda folder: SQLiteJournal(folder / "run.db"),
    }
    if new_database is not None:
        kinds["Postgres"] = lambda folder: PostgresJournal(new_database())
    best = dict.fromkeys(kinds, (0.0, float("inf")))
    for _ in range(rounds):
        for kind, make in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                speed, blocked = asyncio.run(run(make(Path(folder)), jobs, rate))
            best[kind] = (max(best[kind][0], speed), min(best[kind][1], blocked))
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--quick", action="store_true", help="fewer jobs")
    parser.add_argument("--postgres", action="store_true", help="also with a journal in Postgres")
    chosen = parser.parse_args()
    jobs = 1000 if chosen.quick else chosen.jobs
    with databases() if chosen.postgres else contextlib.nullcontext() as new_database:
        if new_database is not None:
            show_operations(jobs, new_database)
        compare(jobs, chosen.rate, new_database)


def compare(jobs, paced_rate, new_database):
    rows, paced_shares = [], {}
    for rate in (paced_rate, None):
        best = measure(jobs, rate, new_database)
        for kind, (speed, blocked) in best.items():
            share = speed / best["no journal"][0]
            pace = f"{rate:,.0f} requests/s" if rate else "as fast as possible"
            rows.append([f"{pace}, {kind}", speed, share, blocked * 1000])
            if rate is not None:
                paced_shares[kind] = share, blocked * 1000
    share, blocked = paced_shares["SQLite"]
    report(
        "journal",
        header=[f"{jobs:,} jobs", "jobs/s", "vs no journal", "loop blocked, max ms"],
        rows=rows,
        targets=[
            Target(f"SQLite at {paced_rate:,.0f} requests/s, vs no journal", share, at_least=0.9),
            Target("loop blocked at that rate, max ms", blocked, at_most=20),
        ],
        details={"sqlite": sqlite3.sqlite_version},
    )
    draw_bars(
        "journal",
        {
            "jobs per second": {name: [speed] for name, speed, _, _ in rows},
            "loop blocked, max ms": {name: [blocked] for name, _, _, blocked in rows},
        },
    )


if __name__ == "__main__":
    main()
