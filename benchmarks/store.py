"""Videos into a bucket, compared with bare obstore: the same source, the same puts.

    python -m benchmarks.store [--quick] [--files 150] [--megabytes 20] [--rounds 3] [--at-once 4]

`python -m benchmarks.store --files 1000` is the full size; the default has the same ratio and ends
sooner. Both rivals fetch each video by HTTP and put it as an object, the same number at once, each
in a process of its own whose clock starts once it has imported its packages. Bare obstore streams
what it gets from its `HTTPStore` right into `put_async`, with the defaults of both. The SDK is
`Downloader` with `StoredObject`, as `job.download` and `seedance batch -o s3://…` use them: it asks
whether the object is there, resumes, checks that the video is whole, hashes it, and asks for the
object again.

The server, `benchmarks.store_server`, is a process of its own, keeps nothing and computes one MD5,
so it is faster than an S3 server with disks or a network: what is slower in the SDK shows here, and
mostly would not against those. "vs bare obstore" is the median of the rounds' ratios. Memory is the
peak of the process (VmHWM), with few files (but more than run at once) and with all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import obstore
from obstore.store import HTTPStore, S3Store

from benchmarks.report import Target, draw_bars, report
from seedance_async import Generation, GenerationStatus, RetryPolicy, Timeouts
from seedance_async.api.long_waits import Waits
from seedance_async.api.options import Endpoint
from seedance_async.api.transport import AiohttpTransport
from seedance_async.jobs.downloads.downloader import Downloader
from seedance_async.media import StoredObject

_KEYS = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}


@attrs.frozen
class Task:
    """What one process does."""

    rival: str
    url: str
    sha256: str
    files: int
    megabytes: int
    at_once: int


@attrs.frozen
class Run:
    """The cost of a run over all files."""

    seconds: float
    cpu: float
    megabytes: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Megabytes per second."""
        return self.megabytes / self.seconds


# --- in a process of its own ---------------------------------------------------------------------


async def by_obstore(task: Task) -> None:
    """Bare obstore."""
    source = HTTPStore.from_url(task.url, client_options={"allow_http": True})
    bucket = _bucket(task)

    async def put(number: int) -> None:
        video = await obstore.get_async(source, f"video/{number}.mp4")
        await obstore.put_async(bucket, f"{number}.mp4", video)

    await _at_once(task, put)


async def by_sdk(task: Task) -> None:
    """The SDK."""
    timeouts, bucket = Timeouts(), _bucket(task)
    transport = AiohttpTransport(Endpoint(task.url, "key"), timeouts=timeouts)
    downloader = Downloader(
        transport,
        _no_refresh,
        limit=task.at_once,
        retry=RetryPolicy(),
        timeouts=timeouts,
        rng=random.Random(1),
        waits=Waits("the host"),
    )

    async def put(number: int) -> None:
        url = f"{task.url}/video/{number}.mp4"
        job = Generation(f"req_{number}", GenerationStatus.SUCCEEDED, output_url=url)
        saved = await downloader.save(job, StoredObject(bucket, f"{number}.mp4"))
        assert saved.sha256 == task.sha256

    try:
        await _at_once(task, put)
    finally:
        await transport.aclose()


RIVALS = {"bare obstore": by_obstore, "seedance_async": by_sdk}


def measure(task: Task) -> Run:
    """The cost of one rival's run."""
    cpu, began = time.process_time(), time.perf_counter()
    asyncio.run(RIVALS[task.rival](task))
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    return Run(seconds, used, task.files * task.megabytes, _peak_mb())


async def _at_once(task: Task, put: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(task.files))

    async def work() -> None:
        for number in numbers:
            await put(number)

    await asyncio.gather(*(work() for _ in range(task.at_once)))


def _bucket(task: Task) -> S3Store:
    return S3Store("bucket", endpoint=task.url, client_options={"allow_http": True}, **_KEYS)


async def _no_refresh(request_id: str) -> Generation:
    raise AssertionError(f"the URL of {request_id} is still valid")


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


# --- the comparison ------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(megabytes: int) -> Iterator[tuple[str, str]]:
    """The server's URL, and the hash of each of its videos."""
    command = [sys.executable, "-m", "benchmarks.store_server", "--megabytes", str(megabytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port, sha256 = server.stdout.readline().strip(), server.stdout.readline().strip()
            yield f"http://127.0.0.1:{port}", sha256
        finally:
            server.terminate()


def run(rival: str, files: int, megabytes: int, at_once: int) -> Run:
    """One rival's run, against a server of its own."""
    with serving(megabytes) as (url, sha256):
        task = Task(rival, url, sha256, files, megabytes, at_once)
        command = [
            sys.executable,
            "-m",
            "benchmarks.store",
            "--one",
            json.dumps(attrs.asdict(task)),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Run(**json.loads(done.stdout))


def _median(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def _row(name: str, run: Run, relative: float | str) -> list[Any]:
    megabytes, rate = round(run.megabytes), round(run.rate)
    return [name, megabytes, run.seconds, rate, relative, run.cpu, round(run.peak_mb)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="40 files and one round")
    parser.add_argument("--files", type=int, default=150)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(attrs.asdict(measure(Task(**json.loads(chosen.one))))))
        time.sleep(0.2)  # threads of obstore that have not ended yet would abort the process
        return
    files, rounds = (40, 1) if chosen.quick else (chosen.files, chosen.rounds)
    size, at_once = chosen.megabytes, chosen.at_once
    several = max(files // 10, 2 * at_once)
    few = run("seedance_async", several, size, at_once)
    runs: dict[str, list[Run]] = {name: [] for name in RIVALS}
    for number in range(rounds):
        for name in sorted(RIVALS, reverse=number % 2 == 1):
            runs[name].append(run(name, files, size, at_once))
    bare, sdk = runs["bare obstore"], runs["seedance_async"]
    ratio = statistics.median(b.rate / a.rate for a, b in zip(bare, sdk, strict=True))
    growth = max(each.peak_mb for each in sdk) - few.peak_mb
    report(
        "store",
        header=["", "MB", "seconds", "MB/s", "vs bare obstore", "CPU s", "peak MB"],
        rows=[
            _row("bare obstore", _median(bare), 1.0),
            _row("seedance_async", _median(sdk), round(ratio, 2)),
            _row(f"seedance_async, {several} files", few, ""),
        ],
        packages=("aiohttp", "obstore"),
        details={
            "at once": at_once,
            "load average": os.getloadavg(),
            "runs": {name: [attrs.asdict(each) for each in of] for name, of in runs.items()},
        },
        targets=[
            Target("throughput relative to bare obstore", ratio, at_least=0.9),
            Target(
                f"growth of peak memory from {several} to {files} files, MB", growth, at_most=10
            ),
        ],
    )
    draw_bars(
        "store",
        {
            "MB/s": {name: [each.rate for each in of] for name, of in runs.items()},
            "CPU seconds": {name: [each.cpu for each in of] for name, of in runs.items()},
        },
    )


if __name__ == "__main__":
    main()
