"""What the tests of queues share: a queue of their own, which is looked into often."""

import asyncio
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
