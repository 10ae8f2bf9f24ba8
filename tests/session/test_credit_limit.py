"""The spend guard: whatever is charged, the limit holds, and nobody waits for ever."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import BudgetExceededError, GenerationRequest
from seedance_async.session.credit_limit import CreditLimit, PriceTable
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

FOUR, FIVE, EIGHT = (GenerationRequest("a river", duration=seconds) for seconds in (4, 5, 8))
OTHER = GenerationRequest("a river", duration=4, resolution="1080p")


def limit_of(credits, **prices):
    table = PriceTable()
    for request, price in ((FOUR, prices.get("four")), (EIGHT, prices.get("eight"))):
        if price is not None:
            table.learn(request, price)
    return CreditLimit(credits, prices=table)


async def waits(awaitable):
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(1)
    assert not task.done()
    return task


async def test_a_known_price_is_set_aside_and_settled():
    limit = limit_of(100, four=32)
    reservation = await limit.reserve(FOUR)
    assert (reservation.credits, reservation.probes) == (32, False)
    assert repr(limit) == "<CreditLimit 0 spent, 32 reserved of 100>"
    limit.settle(reservation, 32)
    assert repr(limit) == "<CreditLimit 32 spent, 0 reserved of 100>"


async def test_submits_of_a_known_price_go_together_up_to_the_limit():
    limit = limit_of(100, four=32)
    reservations = [await limit.reserve(FOUR) for _ in range(3)]
    fourth = await waits(limit.reserve(FOUR))
    for reservation in reservations:
        limit.settle(reservation, 32)
    with pytest.raises(BudgetExceededError) as caught:
        await fourth
    assert (caught.value.needed, caught.value.spent, caught.value.max_credits) == (32, 96, 100)


async def test_what_another_gives_back_is_used():
    limit = limit_of(40, four=32)
    reservation = await limit.reserve(FOUR)
    second = await waits(limit.reserve(FOUR))
    limit.release(reservation)
    assert (await second).credits == 32


async def test_an_unknown_price_goes_alone_and_then_all_may_go():
    limit = limit_of(1000)
    probe = await limit.reserve(FOUR)
    assert (probe.probes, probe.credits) == (True, 1000)
    others = [await waits(limit.reserve(request)) for request in (FOUR, FOUR)]
    limit.settle(probe, 32)
    assert [(await other).credits for other in others] == [32, 32]


async def test_a_probe_that_is_refused_hands_the_probing_on():
    limit = limit_of(1000)
    probe = await limit.reserve(FOUR)
    others = [await waits(limit.reserve(FOUR)) for _ in range(2)]
    limit.release(probe)
    await asyncio.sleep(0)
    assert sum(other.done() for other in others) == 1
    limit.settle(others[0].result(), 32)
    assert (await others[1]).credits == 32


async def test_an_unknown_charge_counts_as_what_was_reserved():
    limit = limit_of(1000, four=32)
    limit.settle(await limit.reserve(FOUR), None)
    assert limit.spent == 32
    assert (await limit.reserve(FOUR)).credits == 32


async def test_an_uncertain_probe_counts_as_all_that_was_left_where_there_is_nothing_to_go_by():
    limit = limit_of(1000)
    limit.settle(await limit.reserve(FOUR), None)
    with pytest.raises(BudgetExceededError, match="1000 of 1000"):
        await limit.reserve(FOUR)


async def test_an_uncertain_probe_counts_by_its_estimate_where_there_is_one():
    limit = limit_of(1000, four=32)
    probe = await limit.reserve(EIGHT)
    assert (probe.credits, probe.counts) == (1000, 64)
    limit.settle(probe, None)
    assert limit.spent == 64


async def test_a_price_that_changes_is_learned():
    limit = limit_of(1000, four=32)
    limit.settle(await limit.reserve(FOUR), 50)
    assert (await limit.reserve(FOUR)).credits == 50


async def test_an_unknown_price_that_is_estimated_not_to_fit_is_not_tried():
    limit = limit_of(40, four=32)
    with pytest.raises(BudgetExceededError, match="estimated 64"):
        await limit.reserve(EIGHT)


async def test_nothing_is_reserved_once_everything_is_spent():
    limit = CreditLimit(100, spent=100)
    with pytest.raises(BudgetExceededError, match="100 of 100"):
        await limit.reserve(FOUR)


async def test_a_caller_cancelled_while_it_waits_holds_nothing():
    limit = limit_of(40, four=32)
    reservation = await limit.reserve(FOUR)
    waiting = await waits(limit.reserve(FOUR))
    waiting.cancel()
    limit.release(reservation)
    assert repr(limit) == "<CreditLimit 0 spent, 0 reserved of 40>"


def test_estimates_prefer_the_same_model_and_resolution():
    table = PriceTable()
    assert table.estimate(FOUR) is None
    table.learn(FOUR, 32)
    table.learn(OTHER, 100)
    assert table.estimate(EIGHT) == 64
    assert table.estimate(GenerationRequest("x", duration=4, resolution="480p")) == 100
    assert table.estimate(GenerationRequest("x")) is None
    assert table.estimate(FOUR) == 32
    assert len(table) == 2


@given(
    st.lists(st.sampled_from([4, 5, 8]), max_size=40),
    st.integers(1, 400),
    st.lists(st.sampled_from(["charged", "released", "untold"]), min_size=1, max_size=20),
    st.integers(),
)
def test_the_limit_holds_whatever_happens(durations, credits, ends, seed):
    """But for the one submit that finds out the very first price, which nobody can know."""
    rng = random.Random(seed)

    async def main():
        limit, charged, refused, first = CreditLimit(credits), 0, 0, True

        async def submit(duration, end):
            nonlocal charged, refused, first
            request = GenerationRequest("x", duration=duration)
            try:
                reservation = await limit.reserve(request)
            except BudgetExceededError:
                refused += 1
                return
            await asyncio.sleep(rng.random())
            price = 8 * duration
            if end == "released":
                limit.release(reservation)
                return
            charged += price
            assert charged <= credits or first
            first = False
            limit.settle(reservation, price if end == "charged" else None)

        await asyncio.gather(
            *(submit(d, ends[number % len(ends)]) for number, d in enumerate(durations))
        )
        assert charged <= max(credits, 64)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
