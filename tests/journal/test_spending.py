"""Spending is a sum over attempts: nothing that happens to a job makes it smaller."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async import BudgetExceededError, JournalError
from seedance_async.journal import JournalEntry
from tests.journal.conftest import claimed, intent
from tests.support.memory_journal import MemoryJournal


async def spend(journal, key, charged=40, **values):
    number = await claimed(journal, key, kind="k", **values)
    await journal.record(number, state="queued", request_id=f"req_{key}", credits_charged=charged)
    return number


async def test_what_was_charged_or_may_have_been_is_spent(journal):
    await spend(journal, "a", 40)
    assert await journal.spent() == 40
    number = await claimed(journal, "b", credits=30)
    assert await journal.spent() == 70, "it is being sent"
    await journal.record(number, state="uncertain")
    assert await journal.spent() == 70
    number = await claimed(journal, "c", credits=20)
    await journal.record(number, state="rejected")
    assert await journal.spent() == 70


async def test_an_accepted_job_without_a_charge_counts_as_what_was_reserved(journal):
    number = await claimed(journal, "a", credits=30)
    await journal.record(number, state="queued", request_id="req_a", credits_charged=None)
    assert await journal.spent() == 30


async def test_forgetting_a_job_or_submitting_it_again_erases_no_spending(journal):
    first = await claimed(journal, "a", credits=40)
    await journal.record(first, state="uncertain")
    second = await journal.claim(intent("a", credits=40), after=first)
    await journal.record(second, state="queued", request_id="req_2", credits_charged=40)
    assert await journal.spent() == 80
    await journal.forget(["a"])
    assert await journal.spent() == 80
    await spend(journal, "a")
    assert await journal.spent() == 120


async def test_an_attempt_without_a_price_counts_once_one_like_it_is_charged(journal):
    first = await claimed(journal, "a", kind="k")
    await journal.record(first, state="uncertain")
    await claimed(journal, "other", kind="another kind")
    assert await journal.unpriced() == {"k": 1, "another kind": 1}
    assert await journal.spent() == 0
    await spend(journal, "b", 25)
    assert await journal.spent() == 50
    assert await journal.prices() == {"k": 25}
    assert await journal.unpriced() == {"another kind": 1}
    await journal.price("another kind", 7)
    assert (await journal.spent(), await journal.unpriced()) == (57, {})


async def test_the_dearest_charge_is_the_price_even_of_jobs_that_are_forgotten(journal):
    for key, charged in [("a", 40), ("b", 55), ("c", 10)]:
        await spend(journal, key, charged)
    await journal.forget(["b"])
    assert await journal.prices() == {"k": 55}


async def test_a_claim_that_does_not_fit_is_refused_and_leaves_no_trace(journal):
    await spend(journal, "a", 40)
    with pytest.raises(BudgetExceededError) as caught:
        await journal.claim(intent("b", credits=30, limits={"": 69}))
    assert (caught.value.spent, caught.value.needed, caught.value.max_credits) == (40, 30, 69)
    assert await journal.find("b") is None
    assert await journal.claim(intent("b", credits=30, limits={"": 70})) is not None
    with pytest.raises(BudgetExceededError):
        await journal.claim(intent("c", credits=None, limits={"": 70}))


async def test_under_a_limit_the_dearest_price_in_the_journal_is_reserved(journal):
    """Another session may have seen a price that this one has not."""
    await spend(journal, "a", 40)
    for credits in (None, 30):
        with pytest.raises(BudgetExceededError, match="would need 40"):
            await journal.claim(intent("b", kind="k", credits=credits, limits={"": 79}))
    await journal.claim(intent("b", kind="k", credits=30, limits={"": 80}))
    assert (await journal.find("b")).credits_reserved == 40


UNKNOWN = {"kind": "k", "limits": {"": 100}}


async def doubts(journal, *keys, **values):
    """Attempts that are in doubt at a price that nobody knows."""
    for key in keys:
        number = await claimed(journal, key, **UNKNOWN | values)
        await journal.record(number, state="uncertain")
    return number


async def test_doubts_at_an_unknown_price_hold_back_only_what_counts_for_the_same_limit(journal):
    limits = {"": 100, "acme": 100}
    await doubts(journal, "a", "b", limits=limits, budget="acme")
    for values in ({"limits": {"acme": 100}, "budget": "acme"}, {"limits": {"": 100}}):
        with pytest.raises(BudgetExceededError):
            await journal.claim(intent("c", **values))
    assert await journal.claim(intent("c", budget="other", limits={"other": 100}))


@pytest.mark.parametrize("way", ["forgotten", "not there", "found"])
async def test_a_doubt_that_a_person_has_settled_holds_nothing_back(journal, way):
    last = await doubts(journal, "a", "b")
    with pytest.raises(BudgetExceededError, match="2 earlier submits"):
        await journal.claim(intent("c", **UNKNOWN))
    if way == "forgotten":
        await journal.forget(["b"])
    else:
        found = {"state": "queued", "request_id": "req_b"}
        assert await journal.settle("b", last, found if way == "found" else None)
    assert await journal.claim(intent("c", **UNKNOWN))


async def test_a_refusal_because_of_doubts_does_not_say_that_the_limit_is_spent(journal):
    await doubts(journal, "a", "b")
    with pytest.raises(BudgetExceededError) as caught:
        await journal.claim(intent("c", **UNKNOWN))
    assert (caught.value.spent, caught.value.unpriced) == (0, 2)
    assert "credits are spent" not in str(caught.value)
    await claimed(journal, "d", credits=100)
    with pytest.raises(BudgetExceededError, match="100 of 100 credits are spent") as caught:
        await journal.claim(intent("c", **UNKNOWN))
    assert caught.value.unpriced == 0


async def test_what_was_accepted_without_a_charge_still_counts_when_it_is_forgotten(journal):
    for key in "ab":
        number = await claimed(journal, key, **UNKNOWN)
        await journal.record(number, state="queued", request_id=f"req_{key}")
    await journal.forget(["a", "b"])
    with pytest.raises(BudgetExceededError):
        await journal.claim(intent("c", **UNKNOWN))


async def test_a_refused_claim_keeps_no_other_operation_from_being_written(journal):
    await spend(journal, "a", 40)
    refused, taken = await asyncio.gather(
        journal.claim(intent("b", credits=30, limits={"": 69})),
        journal.claim(intent("c")),
        return_exceptions=True,
    )
    assert isinstance(refused, BudgetExceededError)
    assert isinstance(taken, int)


async def test_a_named_budget_counts_its_own_attempts_and_everything_counts_all(journal):
    await spend(journal, "a", 40, budget="acme")
    await spend(journal, "b", 30, budget="other")
    await spend(journal, "c", 20)
    assert [await journal.spent(name) for name in ("", "acme", "other", "new")] == [90, 40, 30, 0]
    with pytest.raises(BudgetExceededError):
        await journal.claim(intent("d", credits=11, budget="acme", limits={"acme": 50}))
    assert await journal.claim(intent("d", credits=10, budget="acme", limits={"acme": 50}))


@pytest.mark.parametrize("state", ["rejected", "uncertain", "queued"])
async def test_the_sums_of_an_entry_tell_its_spending(journal, state):
    first = await claimed(journal, "a", credits=30)
    await journal.record(first, state="uncertain")
    second = await journal.claim(intent("a", credits=20), after=first)
    charged = 25 if state == "queued" else None
    await journal.record(second, state=state, credits_charged=charged)
    entry = await journal.find("a")
    assert entry.credits_doubtful == 30
    assert (entry.credits_reserved, entry.credits_charged) == (20, charged)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "again", "record", "forget", "price"]),
        st.sampled_from("abc"),
        st.sampled_from(["rejected", "uncertain", "queued", "succeeded"]),
        st.none() | st.integers(0, 50),
        st.sampled_from([None, "r1", "r2", "r3"]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_sum_that_is_kept_is_the_sum_of_the_attempts_and_no_charge_leaves_it(steps):
    async def main():
        journal = MemoryJournal()
        await journal.open()
        numbers, charges = [0], {}
        for act, key, state, credits, request_id in steps:
            known: JournalEntry | None = await journal.find(key)
            try:
                if act == "claim":
                    numbers.append(await journal.claim(intent(key, credits=credits, kind=key)))
                elif act == "again" and known is not None:
                    again = intent(key, credits=credits, kind=key)
                    numbers.append(await journal.claim(again, after=known.attempt))
                elif act == "record" and numbers[-1] is not None:
                    told = {"request_id": request_id, "credits_charged": credits}
                    await journal.record(numbers[-1], state=state, **told)
                    if state in ("queued", "succeeded") and request_id and credits:
                        charges[request_id] = credits
                elif act == "forget":
                    await journal.forget([key])
                else:
                    await journal.price(key, credits or 0)
            except JournalError:
                pass
            costs = journal.rows("SELECT coalesce(sum(cost), 0) FROM attempts")
            assert await journal.spent() == costs[0][0]
        assert await journal.spent() >= max(charges.values(), default=0)
        assert json.dumps(await journal.prices())
        await journal.aclose()

    asyncio.run(main())
