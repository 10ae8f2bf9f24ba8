"""The gate and the budget, on virtual time."""

import asyncio
import random

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seedance_async import Backoff, RateLimitError
from seedance_async.api.rate_limit import Gate, RateBudget
from tests.support.through import through
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

STEADY = Backoff(initial=1.0, multiplier=2.0, maximum=8.0, jitter=0.0)


def new_gate(limit=4):
    return Gate(limit, STEADY, random.Random(1))


def now():
    return asyncio.get_running_loop().time()


class Visitors:
    """Coroutines that stay inside a gate for a second, and note when they entered."""

    def __init__(self, gate, *, report=True):
        self.gate, self.report = gate, report
        self.began = now()
        self.entered = []
        self.inside = self.most = 0

    async def visit(self):
        async with through(self.gate):
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.entered.append(now() - self.began)
            await asyncio.sleep(1)
            self.inside -= 1
            if self.report:
                self.gate.passed()

    async def come(self, count):
        await asyncio.gather(*(self.visit() for _ in range(count)))


async def test_an_open_gate_admits_its_limit_at_once():
    visitors = Visitors(new_gate(4))
    await visitors.come(12)
    assert visitors.most == 4
    assert visitors.entered == [0] * 4 + [1] * 4 + [2] * 4


async def test_after_a_refusal_nobody_enters_for_the_delay_the_server_asked_for():
    gate = new_gate()
    visitors = Visitors(gate)
    gate.refused(30.0)
    await visitors.come(3)
    assert visitors.entered[0] == 30


async def test_after_a_refusal_one_goes_first_and_each_accepted_call_makes_room_for_more():
    gate = new_gate(4)
    visitors = Visitors(gate)
    gate.refused(10.0)
    await visitors.come(10)
    assert [visitors.entered.count(10 + second) for second in range(4)] == [1, 2, 4, 3]


async def test_a_call_without_a_reported_outcome_makes_no_room_for_more():
    gate = new_gate(4)
    visitors = Visitors(gate, report=False)
    gate.refused(10.0)
    await visitors.come(3)
    assert visitors.entered == [10, 11, 12]


async def test_refusals_without_a_delay_of_the_server_hold_the_gate_exponentially_longer():
    gate, waits = new_gate(), []
    for _ in range(5):
        began = now()
        gate.refused(0.0)
        async with through(gate):
            waits.append(now() - began)
    assert waits == [1, 2, 4, 8, 8]
    gate.passed()
    began = now()
    gate.refused(0.0)
    async with through(gate):
        assert now() - began == 1


async def test_refusals_of_concurrent_calls_count_once():
    gate = new_gate()
    for _ in range(5):
        gate.refused(0.0)
    began = now()
    async with through(gate):
        assert now() - began == 1
    assert gate.refusals == 5


async def test_one_failure_holds_nobody_and_a_second_in_a_row_holds_everyone():
    gate = new_gate()
    began = now()
    gate.failed()
    async with through(gate):
        assert now() == began
    gate.failed()
    async with through(gate):
        assert now() - began == 2
    gate.passed()
    gate.failed()
    async with through(gate):
        assert now() - began == 2


async def test_a_longer_hold_is_never_shortened_by_a_shorter_one():
    gate = new_gate()
    began = now()
    gate.hold(20)
    gate.hold(5)
    async with through(gate):
        assert now() - began == 20


async def test_a_hold_extended_while_someone_waits_applies_to_them_too():
    gate = new_gate()
    visitors = Visitors(gate)
    gate.hold(5)
    coming = asyncio.ensure_future(visitors.come(1))
    await asyncio.sleep(1)
    gate.hold(20)
    await coming
    assert visitors.entered == [21]


async def test_a_shut_gate_fails_those_who_wait_and_those_who_come():
    gate = new_gate()
    gate.hold(100)
    waiting = [asyncio.ensure_future(gate.wait_and_enter(0.0)) for _ in range(3)]
    await asyncio.sleep(1)
    gate.shut(RateLimitError(429, "enough"), 50)
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [RateLimitError] * 3
    assert len({id(result) for result in results}) == 3, "each raises its own copy"
    with pytest.raises(RateLimitError, match="enough"):
        async with through(gate):
            raise AssertionError
    await asyncio.sleep(100)
    async with through(gate):
        pass


async def test_a_pause_ends_after_its_time_or_once_the_gate_is_shut():
    gate = new_gate()
    began = now()
    await gate.pause(3)
    assert now() - began == 3
    pausing = asyncio.ensure_future(gate.pause(100))
    cancelled = asyncio.ensure_future(gate.pause(100))
    await asyncio.sleep(1)
    cancelled.cancel()
    gate.shut(RateLimitError(429, "enough"), 50)
    with pytest.raises(RateLimitError, match="enough"):
        await pausing
    assert now() - began == 4


async def test_cancelling_waiting_callers_leaves_the_gate_intact():
    gate = new_gate(1)
    async with through(gate):
        waiting = [asyncio.ensure_future(gate.wait_and_enter(0.0)) for _ in range(5)]
        await asyncio.sleep(1)
        for task in waiting[:4]:
            task.cancel()
    await waiting[4]
    assert repr(gate) == "<Gate 1/1 inside, 0 waiting>"


async def test_a_caller_cancelled_at_its_admission_passes_its_place_on():
    gate = new_gate(1)
    await gate.wait_and_enter(0.0)
    first, second = (asyncio.ensure_future(gate.wait_and_enter(0.0)) for _ in range(2))
    await asyncio.sleep(0)
    gate.leave()  # admits the first, which has not run yet
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second


async def test_a_caller_cancelled_as_the_gate_is_shut_leaves_no_unretrieved_error():
    gate = new_gate(1)
    gate.hold(10)
    waiting = asyncio.ensure_future(gate.wait_and_enter(0.0))
    await asyncio.sleep(0)
    gate.shut(RateLimitError(429, "enough"), 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@given(st.lists(st.sampled_from("ercphtfdj"), max_size=60), st.integers(1, 5))
def test_whatever_happens_the_limit_holds_and_nobody_waits_forever(steps, limit):
    """e: one enters, r: is refused, f: fails, p: passes, c: is cancelled, h: hold, t: time;
    d: a job ends, j: one starts elsewhere."""

    async def main():
        gate, inside, most, tasks = new_gate(limit), 0, 0, []

        async def visit():
            nonlocal inside, most
            async with through(gate):
                inside += 1
                most = max(most, inside)
                try:
                    await asyncio.sleep(0.3)
                finally:
                    inside -= 1

        for number, step in enumerate(steps):
            match step:
                case "e":
                    tasks.append(asyncio.ensure_future(visit()))
                case "r":
                    gate.refused(number % 3)
                case "f":
                    gate.failed()
                case "p":
                    gate.passed()
                case "h":
                    gate.hold(0.5)
                case "d":
                    gate.job_ended()
                case "j":
                    gate.job_started()
                case "c" if tasks:
                    tasks[number % len(tasks)].cancel()
                case "t":
                    await asyncio.sleep(0.2)
        with anyio.fail_after(10_000):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert most <= limit
        assert repr(gate).endswith("0 waiting>")
        assert repr(gate).startswith("<Gate 0/")

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


@example([("h", 0.4), ("r", 1.0)])
@given(st.lists(st.tuples(st.sampled_from("rph"), st.floats(0, 3)), max_size=20))
def test_while_the_gate_is_held_nobody_enters_and_then_one_goes_alone(steps):
    async def main():
        gate, inside, held_until = new_gate(4), 0, 0.0

        async def visit():
            nonlocal inside
            async with through(gate):
                assert now() >= held_until - 1e-5
                assert not inside or not alone
                inside += 1
                await asyncio.sleep(0.5)
                inside -= 1

        alone = False
        visits = [asyncio.ensure_future(visit()) for _ in range(12)]
        for step, seconds in steps:
            match step:
                case "r":
                    gate.refused(seconds)
                    alone, held_until = True, max(held_until, now() + seconds)
                case "h":
                    gate.hold(seconds)
                    alone, held_until = True, max(held_until, now() + seconds)
                case "p" if now() > held_until and inside:
                    gate.passed()
                    alone = False
            await asyncio.sleep(0.4)
            for _ in range(3):  # callers admitted at this instant enter before the next step
                await asyncio.sleep(0)
        alone = False
        with anyio.fail_after(10_000):
            await asyncio.gather(*visits)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())


async def test_calls_sent_before_a_hold_do_not_open_the_gate_when_accepted():
    gate = new_gate(4)
    async with through(gate), through(gate), through(gate):
        gate.refused(10.0)
        gate.passed()
        gate.passed()
    visitors = Visitors(gate)
    await visitors.come(3)
    assert visitors.entered == [10, 11, 11]


async def test_entering_an_open_gate_takes_no_turn_of_the_loop():
    gate, turns = new_gate(), []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    async with through(gate):
        assert not turns


@given(
    st.floats(0.1, 1000),
    st.floats(0, 1),
    st.lists(st.floats(0, 5), min_size=1, max_size=100),
)
def test_a_budget_never_allows_more_than_its_rate_and_burst(rate, burst, gaps):
    budget, at, spent = RateBudget(rate, burst_seconds=burst), 0.0, []
    for gap in gaps:
        at += gap
        at += budget.wait(at)
        assert budget.wait(at) < 1e-9
        budget.spend(at)
        spent.append(at)
    for first in range(len(spent)):
        for last in range(first + 1, len(spent)):
            allowed = (spent[last] - spent[first] + max(burst, 1 / rate)) * rate + 1 + 1e-6
            assert last - first <= allowed


def test_an_unused_budget_saves_up_no_more_than_its_burst():
    budget = RateBudget(10.0, burst_seconds=0.5)
    for _ in range(5):
        assert budget.wait(1000.0) < 1e-9
        budget.spend(1000.0)
    assert budget.wait(1000.0) > 0


async def test_only_calls_that_waited_too_long_during_trouble_fail():
    """A wait before the trouble began does not count, however long it was."""
    gate, ends = new_gate(), []

    async def call():
        try:
            await gate.wait_and_enter(began)
            gate.failed()
            gate.fail_overdue(TimeoutError("behind"), 600, gate.trouble.failing_since)
            gate.leave()
        except TimeoutError:
            ends.append(now() - began)

    began = now()
    gate.hold(5000)
    calls = [asyncio.create_task(call()) for _ in range(100)]
    await asyncio.gather(*calls)
    assert ends == sorted(ends)
    assert ends[0] > 5590
    assert len(ends) > 10


async def test_an_answer_of_any_kind_ends_an_outage_and_an_accepted_call_ends_refusals():
    gate = new_gate()
    gate.failed()
    failing = gate.trouble.failing_since
    await asyncio.sleep(10)
    gate.failed()
    assert gate.trouble.failing_since == failing == now() - 10
    gate.answered()
    assert gate.trouble.failing_since > now()
    gate.refused(1.0)
    refusing = gate.trouble.refusing_since
    gate.answered()
    assert gate.trouble.refusing_since == refusing
    gate.passed()
    assert gate.trouble.refusing_since > now()
