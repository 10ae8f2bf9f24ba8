"""What the tests of queues share: a queue of their own, which is looked into often."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from seedance_async import GenerationRequest
from seedance_async.cli.queues import place, workers
from seedance_async.engines.dbos import SeedanceQueue

URL = "sqlite:///fleet.db"
JOURNAL = Path("fleet.journal.db")


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """Nobody waits long between two looks."""
    monkeypatch.setattr(place, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(workers, "LOOK_EVERY", 0.05)


@pytest.fixture
def enqueue():
    """Enqueue tasks with these keys, which are their prompts, too."""

    async def do(keys, run):
        async with SeedanceQueue(URL) as queue:
            await queue.enqueue([(key, GenerationRequest(key)) for key in keys], run=run)

    return lambda *keys, run="videos": asyncio.run(do(keys, run))


@pytest.fixture
def signalled(seedance_emulator):
    """Send this process a signal once something holds."""
    threads = []

    def send(number, once):
        def wait():
            until = time.monotonic() + 20
            while not once() and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield send
    for thread in threads:
        thread.join()
