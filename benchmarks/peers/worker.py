"""One run of one client in this process, measured: what it cost goes out as a line of JSON.

    python -m benchmarks.peers.worker '{"client": "fal", "origin": "http://127.0.0.1:8080", …}'

Imports, the set-up and a few jobs to warm up come before the clock is started.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.peers.clients import CLIENTS, Client, Work

#: Jobs before the clock is started; the stub counts them too.
WARM_UP = 5


async def measured(client: Client, work: Work, jobs: int) -> dict[str, Any]:
    """Seconds, CPU seconds and memory in MiB of that many jobs."""
    importlib.import_module(client.module)
    async with client.opened(work) as run:
        await run(WARM_UP)
        resident = _resident()
        began, before = time.perf_counter(), time.process_time()
        await run(jobs)
        seconds, cpu = time.perf_counter() - began, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "cpu": cpu,
        "peak": peak,
        "growth": peak - resident,
        "version": _version(client.package),
    }


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1024 / 1024


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the SDK, which runs from its checkout
        return str(importlib.import_module(package).__version__)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    chosen, count = CLIENTS[told.pop("client")], told.pop("jobs")
    print(json.dumps(asyncio.run(measured(chosen, Work(**told), count))))
