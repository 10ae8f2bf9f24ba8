"""The heap, its workers and its budget, on virtual time."""

import asyncio
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async.schedule import Schedule
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


def now():
    return asyncio.get_running_loop().time()


class Served:
    """A `serve` that notes what came when, and serves each item `times` times."""

    def __init__(self, *, times=1, again=10.0, takes=0.0):
        self.times, self.again, self.takes = times, again, takes
        self.began = now()
        self.log = []
        self.counts = Counter()
        self.at_once = self.most_at_once = 0

    async def __call__(self, item):
        self.log.append((round(now() - self.began, 6), item))
        self.counts[item] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.takes)
        self.at_once -= 1
        return self.again if self.counts[item] < self.times else None


async def run(schedule, seconds):
    schedule.start()
    await asyncio.sleep(seconds)
    await schedule.stop()


async def test_items_are_served_when_due_in_order_of_being_due():
    served = Served()
    schedule = Schedule(served, rate=1000, workers=3)
    for item, delay in [("c", 3), ("a", 1), ("b", 2)]:
        schedule.put(item, delay)
    await run(schedule, 10)
    assert served.log == [(1, "a"), (2, "b"), (3, "c")]
    assert len(schedule) == 0


async def test_an_item_is_served_again_after_the_delay_it_asks_for():
    served = Served(times=3, again=10)
    schedule = Schedule(served, rate=1000, workers=1)
    schedule.put("a", 1)
    await run(schedule, 100)
    assert served.log == [(1, "a"), (11, "a"), (21, "a")]


async def test_an_item_put_while_all_sleep_wakes_them_in_time():
    served = Served()
    schedule = Schedule(served, rate=1000, workers=2)
    schedule.put("late", 50)
    schedule.start()
    await asyncio.sleep(5)
    schedule.put("soon", 1)
    await asyncio.sleep(100)
    await schedule.stop()
    assert served.log == [(6, "soon"), (50, "late")]


async def test_an_empty_schedule_wakes_for_its_first_item():
    served = Served()
    schedule = Schedule(served, rate=1000, workers=2)
    schedule.start()
    await asyncio.sleep(5)
    schedule.put("a", 0)
    await asyncio.sleep(1)
    await schedule.stop()
    assert served.log == [(5, "a")]


async def test_putting_an_item_again_moves_it():
    served = Served()
    schedule = Schedule(served, rate=1000, workers=1)
    schedule.put("a", 50)
    schedule.put("a", 2)
    await run(schedule, 100)
    assert served.log == [(2, "a")]


async def test_a_dropped_item_is_not_served():
    served = Served()
    schedule = Schedule(served, rate=1000, workers=1)
    schedule.put("a", 1)
    assert schedule.drop("a")
    assert not schedule.drop("a")
    await run(schedule, 10)
    assert served.log == []


async def test_dropped_items_do_not_fill_the_heap():
    schedule = Schedule(Served(), rate=1000, workers=1)
    for number in range(10_000):
        schedule.put("same", 1000 + number)
    assert len(schedule._heap) < 200


async def test_never_more_than_the_workers_serve_at_once():
    served = Served(takes=5)
    schedule = Schedule(served, rate=1000, workers=3)
    for number in range(12):
        schedule.put(number, 0)
    await run(schedule, 100)
    assert served.most_at_once == 3
    assert len(served.log) == 12


async def test_the_rate_holds_over_all_items_and_none_starves():
    """At 2 a second for 30 items that ask to be served every 5 seconds, all wait alike."""
    served = Served(times=10**6, again=5)
    schedule = Schedule(served, rate=2, workers=8)
    for number in range(30):
        schedule.put(number, 0)
    await run(schedule, 300)
    assert 595 <= len(served.log) <= 601
    assert max(served.counts.values()) - min(served.counts.values()) <= 1


async def test_a_serve_that_raises_is_logged_and_the_item_is_tried_again(caplog):
    calls = []

    async def serve(item):
        calls.append(now())
        if len(calls) == 1:
            raise LookupError("a bug")

    schedule = Schedule(serve, rate=1000, workers=1)
    schedule.put("a", 1)
    await run(schedule, 200)
    assert len(calls) == 2
    assert "a bug" in caplog.text


async def test_an_item_put_while_it_is_served_keeps_the_time_it_was_put_for():
    log = []

    async def serve(item):
        log.append(now())
        if len(log) == 1:
            schedule.put(item, 1)
            return 50.0
        return None

    schedule = Schedule(serve, rate=1000, workers=1)
    began = now()
    schedule.put("a", 1)
    await run(schedule, 100)
    assert [at - began for at in log] == [1, 2]


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(1, 4)), min_size=1, max_size=40),
    st.floats(0.5, 100),
    st.integers(1, 5),
    st.integers(),
)
def test_every_item_is_served_as_often_as_it_asks_and_never_too_early(items, rate, workers, seed):
    rng = random.Random(seed)

    async def main():
        due, counts = {}, Counter()

        async def serve(item):
            assert now() >= due[item] - 1e-9
            counts[item] += 1
            await asyncio.sleep(rng.random())
            if counts[item] == items[item][1]:
                return None
            delay = rng.random() * 20
            due[item] = now() + delay
            return delay

        schedule = Schedule(serve, rate=rate, workers=workers)
        for item, (delay, _) in enumerate(items):
            due[item] = now() + delay
            schedule.put(item, delay)
        schedule.start()
        await asyncio.sleep(10_000)
        await schedule.stop()
        assert counts == {item: times for item, (_, times) in enumerate(items)}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
