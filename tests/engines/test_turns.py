"""Turns of a rate that several workers share: none hoards them, and long waits are told."""

import asyncio

import pytest

from seedance_async.engines.turns import Turns
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def store():
    store = memory_store()
    yield store
    store.close()


async def run_worker(store, seconds, *, rate, submits, sent):
    """Have a worker with so many submits for some seconds; note when each was sent."""
    loop = asyncio.get_running_loop()
    journal = MemoryJournal(store, shared=True, clock=loop.time)
    await journal.open()
    turns = Turns(journal.turn, rate)

    async def submit():
        await turns.wait()
        sent.append(loop.time())

    tasks = [asyncio.create_task(submit()) for _ in range(submits)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await journal.aclose()


async def test_a_worker_that_dies_again_and_again_loses_few_turns(store):
    sent = []
    for _ in range(10):
        await run_worker(store, 12, rate=0.2, submits=8, sent=sent)
    assert len(sent) >= 10
    later = []
    await run_worker(store, 11, rate=0.2, submits=1, sent=later)
    assert later, "the turns of the dead are not waited for"


async def test_a_worker_with_a_lower_rate_slows_the_others_for_one_turn_once_it_has_gone(
    store, caplog
):
    await run_worker(store, 1, rate=0.05, submits=8, sent=[])
    sent, began = [], asyncio.get_running_loop().time()
    await run_worker(store, 100, rate=10, submits=40, sent=sent)
    assert len(sent) == 40
    assert sent[0] - began <= 40
    assert caplog.text.count("the next turn of the shared rate comes in") == 1


async def test_a_high_rate_is_reached_though_the_database_is_far_away():
    loop, next_at = asyncio.get_running_loop(), 0.0

    async def take(spacing):
        nonlocal next_at
        await asyncio.sleep(0.02)
        at, next_at = max(loop.time(), next_at), max(loop.time(), next_at) + spacing
        return at - loop.time()

    turns, began = Turns(take, 40), loop.time()
    await asyncio.gather(*(turns.wait() for _ in range(200)))
    assert loop.time() - began == pytest.approx(200 / 40, rel=0.1)
