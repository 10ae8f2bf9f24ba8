"""The scheduler: its heap, workers and budget, on virtual time."""

import asyncio
import itertools
import random
import sys
from collections import Counter
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async.jobs.polling import scheduler as module
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


class Named(module.Item):
    __slots__ = ("name",)

    def __repr__(self):
        return f"<{self.name}>"


class Scheduler(module.Scheduler):
    """Serves names: each is an item of its own."""

    def __init__(self, serve, **options):
        self.items = {}

        async def serve_name(item):
            return await serve(item.name)

        super().__init__(serve_name, **options)

    def _named(self, name):
        if name not in self.items:
            self.items[name] = Named()
            self.items[name].name = name
        return self.items[name]

    def put(self, name, delay):
        super().put(name if isinstance(name, Named) else self._named(name), delay)

    def drop(self, name):
        return super().drop(name if isinstance(name, Named) else self._named(name))


def now():
    return asyncio.get_running_loop().time()


class Served:
    """A `serve` that notes when each item came, and serves it `times` times."""

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


async def run(scheduler, seconds):
    scheduler.start()
    await asyncio.sleep(seconds)
    await scheduler.stop()


async def test_items_are_served_when_due_in_the_order_of_their_due_times():
    served = Served()
    scheduler = Scheduler(served, rate=1000, workers=3)
    for item, delay in [("c", 3), ("a", 1), ("b", 2)]:
        scheduler.put(item, delay)
    await run(scheduler, 10)
    assert served.log == [(1, "a"), (2, "b"), (3, "c")]
    assert len(scheduler) == 0


async def test_an_item_is_served_again_after_the_delay_it_asks_for():
    served = Served(times=3, again=10)
    scheduler = Scheduler(served, rate=1000, workers=1)
    scheduler.put("a", 1)
    await run(scheduler, 100)
    assert served.log == [(1, "a"), (11, "a"), (21, "a")]


async def test_an_item_put_with_an_earlier_due_time_is_served_in_time():
    served = Served()
    scheduler = Scheduler(served, rate=1000, workers=2)
    scheduler.put("late", 50)
    scheduler.start()
    await asyncio.sleep(5)
    scheduler.put("soon", 1)
    await asyncio.sleep(100)
    await scheduler.stop()
    assert served.log == [(6, "soon"), (50, "late")]


async def test_an_idle_scheduler_wakes_for_its_first_item():
    served = Served()
    scheduler = Scheduler(served, rate=1000, workers=2)
    scheduler.start()
    await asyncio.sleep(5)
    scheduler.put("a", 0)
    await asyncio.sleep(1)
    await scheduler.stop()
    assert served.log == [(5, "a")]


async def test_putting_an_item_again_moves_it():
    served = Served()
    scheduler = Scheduler(served, rate=1000, workers=1)
    scheduler.put("a", 50)
    scheduler.put("a", 2)
    await run(scheduler, 100)
    assert served.log == [(2, "a")]


async def test_a_dropped_item_is_not_served():
    served = Served()
    scheduler = Scheduler(served, rate=1000, workers=1)
    scheduler.put("a", 1)
    assert scheduler.drop("a")
    assert not scheduler.drop("a")
    await run(scheduler, 10)
    assert served.log == []


async def test_dropped_items_do_not_fill_the_heap():
    scheduler = Scheduler(Served(), rate=1000, workers=1)
    for number in range(10_000):
        scheduler.put("same", 1000 + number)
    assert repr(scheduler).startswith("<Scheduler 1 waiting in ")
    assert int(repr(scheduler).split()[4]) < 200


async def test_never_more_items_are_served_at_once_than_there_are_workers():
    served = Served(takes=5)
    scheduler = Scheduler(served, rate=1000, workers=3)
    for number in range(12):
        scheduler.put(number, 0)
    scheduler.start()
    await asyncio.sleep(1)
    assert repr(scheduler) == "<Scheduler 9 waiting in 9 places, 3 being served>"
    await run(scheduler, 100)
    assert repr(scheduler) == "<Scheduler 0 waiting in 0 places, 0 being served>"
    assert served.most_at_once == 3
    assert len(served.log) == 12


async def test_the_rate_holds_over_all_items_and_none_starves():
    """At 2 a second for 30 items that ask to be served every 5 seconds, all wait equally long."""
    served = Served(times=10**6, again=5)
    scheduler = Scheduler(served, rate=2, workers=8)
    for number in range(30):
        scheduler.put(number, 0)
    await run(scheduler, 300)
    assert 595 <= len(served.log) <= 601
    assert max(served.counts.values()) - min(served.counts.values()) <= 1


async def test_a_rate_that_is_changed_holds_from_then_on():
    served = Served(times=10**6, again=1)
    scheduler = Scheduler(served, rate=20, workers=8)
    for number in range(30):
        scheduler.put(number, 0)
    asyncio.get_running_loop().call_later(100, setattr, scheduler, "rate", 2)
    await run(scheduler, 200)
    assert scheduler.rate == 2
    assert 2150 <= len(served.log) <= 2250
    assert max(served.counts.values()) - min(served.counts.values()) <= 1


@pytest.mark.parametrize("error", [LookupError("a bug"), asyncio.CancelledError("a bug")])
async def test_a_serve_that_raises_is_logged_and_the_item_is_served_again(caplog, error):
    calls = []

    async def serve(item):
        calls.append(now())
        if len(calls) == 1:
            raise error

    scheduler = Scheduler(serve, rate=1000, workers=1)
    scheduler.put("a", 1)
    await run(scheduler, 200)
    assert len(calls) == 2
    assert "a bug" in caplog.text


async def test_an_item_put_while_it_is_being_served_keeps_that_due_time():
    log = []

    async def serve(item):
        log.append(now())
        if len(log) == 1:
            scheduler.put(item, 1)
            return 50.0
        return None

    scheduler = Scheduler(serve, rate=1000, workers=1)
    began = now()
    scheduler.put("a", 1)
    await run(scheduler, 100)
    assert [at - began for at in log] == [1, 2]


async def test_items_are_not_served_in_the_context_of_whoever_put_them():
    seen, whose = [], ContextVar("whose", default="nobody's")

    async def serve(item):
        seen.append(whose.get())

    async def put(item, delay):
        whose.set(item)
        scheduler.put(item, delay)

    scheduler = Scheduler(serve, rate=1000, workers=2)
    scheduler.start()
    for item, delay in [("mine", 0), ("yours", 5)]:
        await asyncio.create_task(put(item, delay))
    await asyncio.sleep(10)
    await scheduler.stop()
    assert seen == ["nobody's"] * 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
async def test_eager_workers_that_end_at_once_make_room_for_others():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    log = []

    async def serve(item):
        log.append(item)

    scheduler = Scheduler(serve, rate=1000, workers=2)
    for number in range(10):
        scheduler.put(number, number)
    await run(scheduler, 20)
    assert log == list(range(10))


@given(
    st.lists(st.tuples(st.floats(0, 50), st.integers(1, 4)), min_size=1, max_size=40),
    st.floats(0.5, 100),
    st.integers(1, 5),
    st.integers(),
)
def test_every_item_is_served_as_often_as_it_asks_and_never_early(items, rate, workers, seed):
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

        scheduler = Scheduler(serve, rate=rate, workers=workers)
        for item, (delay, _) in enumerate(items):
            due[item] = now() + delay
            scheduler.put(item, delay)
        scheduler.start()
        await asyncio.sleep(10_000)
        await scheduler.stop()
        assert counts == {item: times for item, (_, times) in enumerate(items)}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


async def test_items_due_at_about_the_same_time_are_served_in_one_turn_of_the_loop():
    served = Served()
    scheduler = Scheduler(served, rate=1e6, workers=100)
    for number in range(64):
        scheduler.put(f"long {number}", 7 + number / 1024)
        scheduler.put(f"short {number}", 0.5 + number / 1024)
    await run(scheduler, 10)
    times = {kind: {at for at, name in served.log if kind in name} for kind in ("long", "short")}
    assert len(times["long"]) == 5
    assert len(times["short"]) == 64


async def test_a_delay_that_never_ends_delays_no_other_item():
    served = Served()
    scheduler = Scheduler(served, rate=1000, workers=1)
    for never in (1e100, 1e308):
        scheduler.put(never, never)
    scheduler.put("a", 1)
    await run(scheduler, 1000)
    assert served.log == [(1, "a")]
    assert len(scheduler) == 2


@given(st.floats(0, 1000), st.floats(0.001, 100))
def test_no_delay_is_shortened_or_extended_by_more_than_a_64th(before, delay):
    async def main():
        await asyncio.sleep(before)
        put, served = now(), []

        async def serve(_):
            served.append(now() - put)

        scheduler = Scheduler(serve, rate=1e6, workers=1)
        scheduler.put("a", delay)
        await run(scheduler, 2 * delay)
        assert delay - 1e-9 <= served[0] <= delay + min(delay, 1) / 64 + 1e-9

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


# --- while items ask for more than the budget allows ----------------------------------------------


class Intervals:
    """A `serve` that asks for each item's own interval again, and notes when the item came."""

    def __init__(self, intervals):
        self.intervals = intervals
        self.came = {name: [] for name in intervals}

    async def __call__(self, name):
        self.came[name].append(now())
        return self.intervals[name]

    def count(self, since=0.0):
        return sum(at >= since for times in self.came.values() for at in times)


async def started(intervals, *, rate, **options):
    serve = Intervals(intervals)
    scheduler = Scheduler(serve, rate=rate, workers=4, **options)
    for name, interval in intervals.items():
        scheduler.put(name, interval)
    scheduler.start()
    return scheduler, serve


async def test_within_the_budget_every_interval_is_kept():
    scheduler, serve = await started({"a": 2.0, "b": 5.0}, rate=100)
    await asyncio.sleep(100.5)
    await scheduler.stop()
    assert (len(serve.came["a"]), len(serve.came["b"])) == (50, 20)
    assert scheduler.stretch == 1


async def test_intervals_stretch_in_proportion_and_use_the_whole_budget():
    """Items that ask for six times as many services get them, and the whole budget is used."""
    eager = {f"eager {n}": 5.0 for n in range(100)}
    calm = {f"calm {n}": 30.0 for n in range(100)}
    scheduler, serve = await started(eager | calm, rate=2)
    await asyncio.sleep(2000)
    since = now()
    await asyncio.sleep(2000)
    await scheduler.stop()
    assert serve.count(since) == pytest.approx(4000, rel=0.01)
    often = [sum(at >= since for at in serve.came[name]) for name in eager]
    seldom = [sum(at >= since for at in serve.came[name]) for name in calm]
    assert sum(often) / sum(seldom) == pytest.approx(6, rel=0.1)
    assert min(often) >= 0.8 * max(often)
    assert min(seldom) >= 1


async def test_intervals_shrink_again_as_soon_as_fewer_wait():
    """900 of 1,000 are dropped: the others must not wait as long as they did among a thousand."""
    scheduler, serve = await started(dict.fromkeys(range(1000), 5.0), rate=1)
    await asyncio.sleep(1500)
    for number in range(100, 1000):
        scheduler.drop(number)
    since = now()
    await asyncio.sleep(1000)
    await scheduler.stop()
    assert serve.count(since) == pytest.approx(1000, rel=0.02)
    assert max(min(at for at in serve.came[n] if at >= since) for n in range(100)) < since + 250


async def test_an_item_put_without_a_delay_comes_before_all_overdue_ones():
    scheduler, serve = await started(dict.fromkeys(range(500), 1.0), rate=2)
    await asyncio.sleep(100)
    serve.came["now"], serve.intervals["now"] = [], None
    asked_at = now()
    scheduler.put("now", 0)
    await asyncio.sleep(1)
    await scheduler.stop()
    assert serve.came["now"][0] - asked_at <= 0.5


async def test_the_stretch_is_what_items_ask_for_divided_by_the_rate():
    for rate, stretch in [(20, 1), (5, 2), (1, 10)]:
        scheduler, serve = await started(dict.fromkeys(range(100), 10.0), rate=rate)
        await asyncio.sleep(1000)
        since, seen = now(), scheduler.stretch
        await asyncio.sleep(1000)
        await scheduler.stop()
        assert seen == pytest.approx(stretch, rel=0.1)
        assert serve.count(since) == pytest.approx(100 / (10 * stretch) * 1000, rel=0.02)


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.5, 60), min_size=2, max_size=30),
    st.floats(0.2, 5),
    st.integers(1, 4),
)
def test_no_item_starves_however_small_the_budget(intervals, rate, workers):
    """No item waits longer than its interval, stretched by what all items ask for."""

    async def main():
        serve = Intervals(dict(enumerate(intervals)))
        scheduler = Scheduler(serve, rate=rate, workers=workers)
        for name, interval in enumerate(intervals):
            scheduler.put(name, interval)
        scheduler.start()
        began = now()
        await asyncio.sleep(1500)
        await scheduler.stop()
        stretch = max(1.0, sum(1 / interval for interval in intervals) / rate)
        for name, interval in enumerate(intervals):
            times = [began, *serve.came[name], began + 1500]
            longest = max(later - sooner for sooner, later in itertools.pairwise(times))
            assert longest <= interval * stretch * 1.05 + 2 * len(intervals) / rate
        assert serve.count() <= 1500 * rate + 2

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


# --- what it costs --------------------------------------------------------------------------------


class Counting(float):
    """A time that counts how often it is compared, which is what a heap does with it."""

    compared = 0

    def __lt__(self, other):
        Counting.compared += 1
        return float(self) < float(other)

    def __gt__(self, other):
        Counting.compared += 1
        return float(self) > float(other)

    def __add__(self, other):
        return Counting(float(self) + other)

    def __sub__(self, other):
        return Counting(float(self) - other)

    def __mul__(self, other):
        return Counting(float(self) * other)

    __radd__ = __add__


class CountingLoop(VirtualTimeLoop):
    def time(self):
        return Counting(super().time())


def comparisons(waiting):
    """Comparisons for a thousand items put and served while this many others wait."""
    rng = random.Random(1)

    async def main():
        served = Served()
        scheduler = Scheduler(served, rate=1e9, workers=1)
        for number in range(waiting):
            scheduler.put(number, 0.9 + rng.random() / 20)
        scheduler.start()
        Counting.compared = 0
        for number in range(1000):
            scheduler.put(-1 - number, rng.random() / 2)
        await asyncio.sleep(0.6)
        counted = Counting.compared
        await scheduler.stop()
        assert len(served.log) == 1000
        return counted

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        return runner.run(main())


def test_the_cost_of_an_event_does_not_grow_with_what_waits():
    """A hundred times as many cost seven steps of a binary heap more, not a hundred times."""
    few, many = comparisons(300), comparisons(30_000)
    assert few > 1000, "they are counted"
    assert many < few + 2 * 1000 * 7
