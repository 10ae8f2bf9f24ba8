"""The heap, its workers and its budget, on virtual time."""

import asyncio
import itertools
import random
import sys
from collections import Counter
from contextvars import ContextVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async.jobs.polling import scheduler
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


class Named(scheduler.Item):
    __slots__ = ("name",)

    def __repr__(self):
        return f"<{self.name}>"


class Schedule(scheduler.Schedule):
    """A schedule of names: each is an item of its own."""

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
    assert len(schedule) == 1


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


@pytest.mark.parametrize("error", [LookupError("a bug"), asyncio.CancelledError("a bug")])
async def test_a_serve_that_raises_is_logged_and_the_item_is_tried_again(caplog, error):
    calls = []

    async def serve(item):
        calls.append(now())
        if len(calls) == 1:
            raise error

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


async def test_items_are_served_in_nobodys_context():
    seen, whose = [], ContextVar("whose", default="nobody's")

    async def serve(item):
        seen.append(whose.get())

    async def put(item, delay):
        whose.set(item)
        schedule.put(item, delay)

    schedule = Schedule(serve, rate=1000, workers=2)
    schedule.start()
    for item, delay in [("mine", 0), ("yours", 5)]:
        await asyncio.create_task(put(item, delay))
    await asyncio.sleep(10)
    await schedule.stop()
    assert seen == ["nobody's"] * 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
async def test_workers_that_end_at_once_make_room_for_others():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    log = []

    async def serve(item):
        log.append(item)

    schedule = Schedule(serve, rate=1000, workers=2)
    for number in range(10):
        schedule.put(number, number)
    await run(schedule, 20)
    assert log == list(range(10))


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


async def test_items_that_are_due_at_about_the_same_time_share_a_wake():
    served = Served()
    schedule = Schedule(served, rate=1e6, workers=100)
    for number in range(64):
        schedule.put(f"long {number}", 7 + number / 1024)
        schedule.put(f"short {number}", 0.5 + number / 1024)
    await run(schedule, 10)
    times = {kind: {at for at, name in served.log if kind in name} for kind in ("long", "short")}
    assert len(times["long"]) == 5
    assert len(times["short"]) == 64


@pytest.mark.parametrize("never", [1e100, 1e308])
async def test_a_delay_that_never_ends_is_in_nobodys_way(never):
    served = Served()
    schedule = Schedule(served, rate=1000, workers=1)
    schedule.put("never", never)
    schedule.put("a", 1)
    await run(schedule, 1000)
    assert served.log == [(1, "a")]
    assert len(schedule) == 1


@given(st.floats(0, 1000), st.floats(0.001, 100))
def test_no_delay_is_cut_short_or_made_longer_by_more_than_a_64th(before, delay):
    async def main():
        await asyncio.sleep(before)
        put, served = now(), []

        async def serve(_):
            served.append(now() - put)

        schedule = Schedule(serve, rate=1e6, workers=1)
        schedule.put("a", delay)
        await run(schedule, 2 * delay)
        assert delay - 1e-9 <= served[0] <= delay + min(delay, 1) / 64 + 1e-9

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


# --- when more is asked for than the budget allows ------------------------------------------------


class Intervals:
    """A `serve` that asks for each item's own interval again, and notes when it came."""

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
    schedule = Schedule(serve, rate=rate, workers=4, **options)
    for name, interval in intervals.items():
        schedule.put(name, interval)
    schedule.start()
    return schedule, serve


async def test_within_the_budget_every_interval_is_kept_to():
    schedule, serve = await started({"a": 2.0, "b": 5.0}, rate=100)
    await asyncio.sleep(100.5)
    await schedule.stop()
    assert (len(serve.came["a"]), len(serve.came["b"])) == (50, 20)
    assert schedule.stretch == 1


async def test_intervals_stretch_in_proportion_and_use_the_whole_budget():
    """Jobs that ask to be seen six times as often are, and no part of the budget is left."""
    eager = {f"eager {n}": 5.0 for n in range(100)}
    calm = {f"calm {n}": 30.0 for n in range(100)}
    schedule, serve = await started(eager | calm, rate=2)
    await asyncio.sleep(2000)
    since = now()
    await asyncio.sleep(2000)
    await schedule.stop()
    assert serve.count(since) == pytest.approx(4000, rel=0.01)
    often = [sum(at >= since for at in serve.came[name]) for name in eager]
    seldom = [sum(at >= since for at in serve.came[name]) for name in calm]
    assert sum(often) / sum(seldom) == pytest.approx(6, rel=0.1)
    assert min(often) >= 0.8 * max(often)
    assert min(seldom) >= 1


async def test_intervals_shrink_again_as_soon_as_fewer_wait():
    """900 of 1,000 are done: the others must not wait out what was right for a thousand."""
    schedule, serve = await started(dict.fromkeys(range(1000), 5.0), rate=1)
    await asyncio.sleep(1500)
    for number in range(100, 1000):
        schedule.drop(number)
    since = now()
    await asyncio.sleep(1000)
    await schedule.stop()
    assert serve.count(since) == pytest.approx(1000, rel=0.02)
    assert max(min(at for at in serve.came[n] if at >= since) for n in range(100)) < since + 250


async def test_what_is_put_without_a_delay_comes_before_all_that_are_overdue():
    schedule, serve = await started(dict.fromkeys(range(500), 1.0), rate=2)
    await asyncio.sleep(100)
    serve.came["now"], serve.intervals["now"] = [], None
    asked_at = now()
    schedule.put("now", 0)
    await asyncio.sleep(1)
    await schedule.stop()
    assert serve.came["now"][0] - asked_at <= 0.5


async def test_a_rate_that_is_lowered_stretches_further():
    schedule, serve = await started(dict.fromkeys(range(100), 10.0), rate=5)
    await asyncio.sleep(500)
    schedule._budget.rate = 1
    since = now()
    await asyncio.sleep(500)
    await schedule.stop()
    assert serve.count(since) <= 502


@settings(max_examples=20)
@given(
    st.lists(st.floats(0.5, 60), min_size=2, max_size=30),
    st.floats(0.2, 5),
    st.integers(1, 4),
)
def test_none_starves_however_short_the_budget(intervals, rate, workers):
    """Nobody waits longer than its share: its interval, stretched by what all ask for."""

    async def main():
        serve = Intervals(dict(enumerate(intervals)))
        schedule = Schedule(serve, rate=rate, workers=workers)
        for name, interval in enumerate(intervals):
            schedule.put(name, interval)
        schedule.start()
        began = now()
        await asyncio.sleep(1500)
        await schedule.stop()
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
    """A due time that counts how often it is compared: what a heap does with it."""

    compared = 0

    def __lt__(self, other):
        Counting.compared += 1
        return float(self) < float(other)


def comparisons(monkeypatch, waiting):
    """Comparisons for a thousand items put and served while so many others wait."""
    monkeypatch.setattr(scheduler._Clock, "move_on", lambda *_: Counting(0.0))
    monkeypatch.setattr(Counting, "__add__", lambda a, b: Counting(float(a) + b), raising=False)
    rng = random.Random(1)

    async def main():
        table = Schedule(None, rate=1e9, workers=1)
        for number in range(waiting):
            table.put(number, 1000 + rng.random())
        Counting.compared = 0
        for number in range(1000):
            table.put(-1 - number, rng.random())
        for _ in range(1000):
            table._take(now())
        return Counting.compared

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


def test_the_cost_of_an_event_does_not_grow_with_what_waits(monkeypatch):
    """A hundred times as many cost seven steps of a binary heap more, not a hundred times."""
    few, many = comparisons(monkeypatch, 300), comparisons(monkeypatch, 30_000)
    assert few > 1000, "they are counted"
    assert many < few + 2 * 1000 * 7
