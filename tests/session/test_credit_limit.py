"""The limit on credits: it holds whatever is charged, and nobody waits endlessly."""

import asyncio
import math
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import BudgetExceededError, GenerationRequest, ModelInfo, SeedanceError
from seedance_async.api.capabilities import ASK_SECONDS, PAUSE_SECONDS, Capabilities
from seedance_async.session.credit_limit import CreditLimit, PriceTable, Spending
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

FOUR, FIVE, EIGHT = (GenerationRequest("a river", duration=seconds) for seconds in (4, 5, 8))
OTHER = GenerationRequest("a river", duration=4, resolution="1080p")


def limit_of(credits, **prices):
    table = PriceTable()
    for request, price in ((FOUR, prices.get("four")), (EIGHT, prices.get("eight"))):
        if price is not None:
            table.learn(request.kind, price)
    return CreditLimit({"": credits}, Spending(prices=table))


async def waits(awaitable):
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(1)
    assert not task.done()
    return task


def test_extra_fields_are_priced_apart_and_a_guess_goes_by_the_same_ones_first():
    table, best = PriceTable(), {"quality": "max"}
    rich = [attrs.evolve(request, extra=best) for request in (FOUR, FIVE)]
    table.learn(FOUR.kind, 32)
    assert table.price(rich[0].kind) is None
    assert table.estimate(rich[0].kind) == 32
    table.learn(rich[0].kind, 400)
    assert [table.estimate(request.kind) for request in (FOUR, FIVE, EIGHT)] == [32, 40, 64]
    assert [table.estimate(request.kind) for request in rich] == [400, 500]
    unseen = attrs.evolve(FOUR, extra={"quality": "unheard of"})
    assert table.estimate(unseen.kind) == 400


def test_a_length_that_the_server_chooses_has_no_guess():
    table = PriceTable()
    table.learn(FOUR.kind, 32)
    table.learn(attrs.evolve(FOUR, duration=-1).kind, 80)
    assert table.estimate(attrs.evolve(FOUR, duration=-1).kind) == 80
    assert table.estimate(attrs.evolve(FOUR, duration=0).kind) is None
    assert table.estimate(EIGHT.kind) == 64


async def test_a_known_price_is_reserved_and_settled():
    limit = limit_of(100, four=32)
    reservation = await limit.reserve(FOUR)
    assert reservation.credits == 32
    assert repr(limit) == "<CreditLimit 0 of 100 spent, a submit in progress>"
    limit.settle(reservation, 32)
    assert repr(limit) == "<CreditLimit 32 of 100 spent>"


async def test_submits_are_sent_one_at_a_time_up_to_the_limit():
    limit = limit_of(100, four=32)
    for _ in range(3):
        reservation = await limit.reserve(FOUR)
        next_one = await waits(limit.reserve(FOUR))
        next_one.cancel()
        limit.settle(reservation, 32)
        await asyncio.sleep(0)
    with pytest.raises(BudgetExceededError) as caught:
        await limit.reserve(FOUR)
    assert (caught.value.needed, caught.value.spent, caught.value.max_credits) == (32, 96, 100)


async def test_what_another_gives_back_is_used():
    limit = limit_of(40, four=32)
    reservation = await limit.reserve(FOUR)
    second = await waits(limit.reserve(FOUR))
    limit.release(reservation)
    assert (await second).credits == 32


async def test_a_price_that_was_raised_costs_one_job_at_most(caplog):
    limit, charged = limit_of(1000, four=20), 0
    with pytest.raises(BudgetExceededError):
        for number in range(100):
            reservation = await limit.reserve(FOUR)
            price = 20 if number < 40 else 300
            limit.settle(reservation, price)
            charged += price
    assert charged == 1100
    assert "a submit was charged 300 credits where 200 of 1000 were left" in caplog.text


async def test_a_first_job_that_is_free_tells_nothing_of_the_next():
    limit, charged = limit_of(100), 0
    with pytest.raises(BudgetExceededError):
        for number in range(50):
            limit.settle(await limit.reserve(FOUR), 100 if number else 0)
            charged += 100 if number else 0
    assert charged == 100


async def test_the_dearest_price_seen_is_reserved():
    limit = limit_of(100)
    limit.settle(await limit.reserve(FOUR), 40)
    limit.settle(await limit.reserve(FOUR), 25)
    with pytest.raises(BudgetExceededError, match="would need 40"):
        await limit.reserve(FOUR)


async def test_an_unknown_charge_counts_as_what_was_reserved():
    limit = limit_of(1000, four=32)
    limit.settle(await limit.reserve(FOUR), None)
    assert limit.budgets[""].spent == 32


async def test_an_unknown_charge_with_nothing_to_go_by_counts_as_all_that_was_left():
    limit = limit_of(1000)
    reservation = await limit.reserve(FOUR)
    assert reservation.credits is None
    limit.settle(reservation, None)
    with pytest.raises(BudgetExceededError, match="1000 of 1000"):
        await limit.reserve(FOUR)


async def test_an_unknown_charge_counts_by_its_estimate_if_there_is_one():
    limit = limit_of(1000, four=32)
    reservation = await limit.reserve(EIGHT)
    assert reservation.credits == 64
    limit.settle(reservation, None)
    assert limit.budgets[""].spent == 64


async def test_what_an_earlier_run_may_have_paid_counts_once_a_price_is_known():
    limit = CreditLimit({"": 300}, Spending(unpriced=[FOUR.kind] * 5 + [EIGHT.kind]))
    assert limit.budgets[""].spent == 0
    limit.settle(await limit.reserve(FOUR), 20)
    assert limit.budgets[""].spent == 20 + 5 * 20 + 40


def listed(**pricing):
    return ModelInfo("seedance-2.0", (), (), (), pricing, {})


def asked(*answers):
    """Answers one list of models after the other."""
    left = list(answers)

    async def ask():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [answer]

    return ask


HD = GenerationRequest("a river", duration=8, resolution="720p")
PER_SECOND = listed(unit="credits_per_second", **{"720p": 7.5, "480p": "cheap"})


async def test_the_list_of_models_is_asked_once_and_bounds_a_price_never_seen():
    limit = CreditLimit({"": 60}, list_models=asked(PER_SECOND))
    reservation = await limit.reserve(HD)
    assert reservation.credits == 60
    limit.settle(reservation, 40)
    with pytest.raises(BudgetExceededError, match="would need 40"):
        await limit.reserve(HD)
    tight = CreditLimit({"": 59}, list_models=asked(PER_SECOND))
    with pytest.raises(BudgetExceededError, match="estimated 60"):
        await tight.reserve(HD)


@pytest.mark.parametrize(
    "pricing",
    [{}, {"720p": 9}, {"unit": "usd_per_second", "720p": 9}]
    + [{"unit": "credits_per_second", "720p": bad} for bad in (None, "9", -1, True, math.nan)],
)
async def test_a_pricing_that_cannot_be_read_is_ignored(pricing):
    limit = CreditLimit({"": 60}, list_models=asked(listed(**pricing)))
    assert (await limit.reserve(HD)).credits is None


async def test_a_list_of_models_that_names_no_price_like_it_is_no_obstacle():
    for request in (FOUR, GenerationRequest("x", model="other", resolution="720p", duration=4)):
        limit = CreditLimit({"": 60}, list_models=asked(PER_SECOND))
        assert (await limit.reserve(request)).credits is None


class Server:
    """Tells its list of models after so many seconds each time, or fails."""

    def __init__(self, after=5.0):
        self.capabilities = Capabilities(self.list_models)
        self.after, self.fails, self.asked = after, False, 0

    async def list_models(self):
        self.asked += 1
        await asyncio.sleep(self.after)
        if self.fails:
            raise SeedanceError("no answer")
        self.capabilities.learn([PER_SECOND])

    def limit(self, *names):
        return CreditLimit(dict.fromkeys(names or [""], 60), list_models=self.capabilities.read)


async def test_a_caller_cancelled_while_the_models_are_listed_holds_nothing_and_loses_no_list():
    limit = Server().limit()
    waiting = await waits(limit.reserve(HD))
    waiting.cancel()
    await asyncio.sleep(0)
    assert (await limit.reserve(HD)).credits == 60


async def test_all_limits_wait_for_one_list_of_models_and_none_is_passed_meanwhile():
    server, names = Server(), [*"abcdef"]
    limit = server.limit(*names)
    got = await asyncio.gather(*(limit.reserve(HD, name) for name in names))
    assert ([each.credits for each in got], server.asked) == ([60] * 6, 1)


async def test_those_who_wait_ask_themselves_if_the_one_who_asked_is_cancelled():
    server = Server()
    limit = server.limit("a", "b")
    first = await waits(limit.reserve(HD, "a"))
    second = await waits(limit.reserve(HD, "b"))
    first.cancel()
    assert (await second).credits == 60
    assert server.asked == 2


async def test_a_list_of_models_that_fails_is_no_obstacle_and_is_asked_for_again_after_a_pause():
    server = Server()
    server.fails, limit = True, server.limit()
    for _ in range(2):
        reservation = await limit.reserve(HD)
        assert reservation.credits is None
        limit.release(reservation)
    assert server.asked == 1
    await asyncio.sleep(PAUSE_SECONDS)
    server.fails = False
    assert (await limit.reserve(HD)).credits == 60


async def test_a_server_that_is_silent_about_its_models_holds_submits_up_only_once():
    limit = Server(after=math.inf).limit("a", "b", "c")
    async with asyncio.timeout(ASK_SECONDS + 1):
        await asyncio.gather(*(limit.reserve(HD, name) for name in "abc"))


async def test_a_price_that_is_estimated_not_to_fit_is_not_tried():
    limit = limit_of(40, four=32)
    with pytest.raises(BudgetExceededError, match="estimated 64"):
        await limit.reserve(EIGHT)


async def test_nothing_is_reserved_once_everything_is_spent():
    limit = CreditLimit({"": 100}, Spending(spent={"": 100}))
    with pytest.raises(BudgetExceededError, match="100 of 100"):
        await limit.reserve(FOUR)


async def test_a_caller_cancelled_while_it_waits_holds_nothing():
    limit = limit_of(40, four=32)
    reservation = await limit.reserve(FOUR)
    waiting = await waits(limit.reserve(FOUR))
    waiting.cancel()
    await asyncio.sleep(0)
    limit.release(reservation)
    assert repr(limit) == "<CreditLimit 0 of 40 spent>"


def test_estimates_prefer_the_same_model_and_resolution():
    table = PriceTable()
    assert table.estimate(FOUR.kind) is None
    table.learn(FOUR.kind, 32)
    table.learn(OTHER.kind, 100)
    assert table.estimate(EIGHT.kind) == 64
    assert table.estimate(GenerationRequest("x", duration=4, resolution="480p").kind) == 100
    assert table.estimate(GenerationRequest("x").kind) is None
    assert table.estimate(FOUR.kind) == 32
    assert len(table) == 2


@given(
    st.lists(st.tuples(st.sampled_from([4, 5, 8]), st.integers(0, 500)), max_size=40),
    st.integers(1, 400),
    st.lists(st.sampled_from(["charged", "released", "unknown"]), min_size=1, max_size=20),
    st.integers(),
)
def test_whatever_prices_do_only_the_last_job_goes_over_the_limit(jobs, credits, ends, seed):
    rng = random.Random(seed)

    async def main():
        limit, charged = CreditLimit({"": credits}), []

        async def submit(duration, price, end):
            try:
                reservation = await limit.reserve(GenerationRequest("x", duration=duration))
            except BudgetExceededError:
                return
            await asyncio.sleep(rng.random())
            if end == "released":
                limit.release(reservation)
                return
            if end == "charged":
                charged.append(price)
            limit.settle(reservation, price if end == "charged" else None)

        await asyncio.gather(
            *(submit(*job, ends[number % len(ends)]) for number, job in enumerate(jobs))
        )
        assert sum(charged[:-1]) <= credits

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
