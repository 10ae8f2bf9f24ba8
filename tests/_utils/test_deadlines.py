"""Deadlines of many items with one timer, on virtual time."""

import asyncio
from contextvars import ContextVar
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async._utils.deadlines import Deadlines
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


def now():
    return asyncio.get_running_loop().time()


class Thing:
    def __init__(self, seconds=0.0):
        self.deadline = now() + seconds
        self.counts = True
        self.passed_at = []

    def __lt__(self, other):
        return self.deadline < other.deadline

    def passed(self):
        self.passed_at.append(now())


def watching(*things, passed=Thing.passed, **options):
    deadlines = Deadlines(passed, lambda thing: thing.counts, **options)
    for thing in things:
        deadlines.add(thing)
    return deadlines


@given(
    st.lists(
        st.tuples(
            st.floats(0, 20),  # seconds after the one before
            st.floats(-5, 60),  # seconds from then to the deadline
            st.none() | st.floats(0, 60),  # seconds from then until it no longer counts
        ),
        max_size=30,
    )
)
def test_each_item_is_called_back_with_once_at_its_deadline_unless_it_no_longer_counts(plan):
    async def run():
        deadlines, things, expected = watching(), [], []
        for pause, seconds, counted in plan:
            await asyncio.sleep(pause)
            things.append(thing := Thing(seconds))
            deadlines.add(thing)
            if counted is not None and abs(counted - max(0.0, seconds)) < 1e-6:
                counted = None  # which comes first is open
            if counted is not None:
                asyncio.get_running_loop().call_later(counted, setattr, thing, "counts", False)
            dropped = counted is not None and counted <= seconds
            expected.append([] if dropped else [max(now(), thing.deadline)])
        await asyncio.sleep(100)
        for thing, at in zip(things, expected, strict=True):
            assert thing.passed_at == pytest.approx(at)
        assert repr(deadlines) == "<Deadlines 0 in the heap>"

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


async def test_an_item_may_be_added_again_with_another_deadline():
    def passed(thing):
        thing.passed()
        thing.deadline += 5
        deadlines.add(thing)

    deadlines = watching(passed=passed)
    things = [Thing(seconds) for seconds in (1, 3)]
    for thing in things:
        deadlines.add(thing)
    began = now()
    await asyncio.sleep(10)
    assert [[at - began for at in thing.passed_at] for thing in things] == [[1, 6], [3, 8]]


async def test_thousands_of_items_need_one_timer(monkeypatch):
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda *a, **k: timers.append(call_at(*a, **k)))
    watching(*(Thing(10 + number) for number in range(1000)))
    assert len(timers) == 1


async def test_others_have_a_turn_when_very_many_deadlines_pass_at_once():
    turns, things = [0], [Thing(1) for _ in range(1000)]
    watching(*things, at_once=100)

    def take_a_turn():
        turns.append(sum(bool(thing.passed_at) for thing in things))
        if turns[-1] < len(things) and len(turns) < 1000:
            asyncio.get_running_loop().call_soon(take_a_turn)

    asyncio.get_running_loop().call_later(1, take_a_turn)
    await asyncio.sleep(2)
    assert turns[-1] == 1000
    assert max(later - sooner for sooner, later in pairwise(turns)) <= 100


async def test_items_that_no_longer_count_do_not_fill_the_heap():
    kept = [Thing(50) for _ in range(10)]
    deadlines = watching(*kept)
    for _ in range(10_000):
        deadlines.add(thing := Thing(100))
        thing.counts = False
        deadlines.tidy(len(kept))
    assert int(repr(deadlines).split()[1]) < 100
    await asyncio.sleep(60)
    assert all(len(thing.passed_at) == 1 for thing in kept)


async def test_a_callback_that_raises_keeps_no_other_item_waiting():
    def passed(thing):
        thing.passed()
        if thing is things[0]:
            raise LookupError

    logged = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    things = [Thing(1), Thing(1), Thing(2)]
    watching(*things, passed=passed)
    await asyncio.sleep(3)
    assert [len(thing.passed_at) for thing in things] == [1, 1, 1]
    assert [type(context["exception"]) for context in logged] == [LookupError]


async def test_after_a_stop_nothing_is_called_back():
    thing, later = Thing(1), Thing(2)
    deadlines = watching(thing)
    deadlines.stop()
    deadlines.add(later)
    await asyncio.sleep(5)
    assert not thing.passed_at
    assert not later.passed_at


async def test_callbacks_run_in_the_context_of_whoever_made_the_queue():
    adder, seen = ContextVar("adder", default="nobody"), []
    deadlines = watching(passed=lambda _: seen.append(adder.get()))
    adder.set("a web request")
    deadlines.add(Thing(1))
    await asyncio.sleep(2)
    assert seen == ["nobody"]
