"""Named limits on credits: of tenants of a web application, for example."""

import asyncio

import pytest

from seedance_async import BudgetExceededError, GenerationRequest
from seedance_async.session.credit_limit import Budget
from tests.support.memory_journal import MemoryJournal, memory_store

pytestmark = pytest.mark.virtual_time


def prompt(number):
    return GenerationRequest(f"prompt {number}", duration=5)


async def spend(session, budget, count, name="a"):
    """How many of so many submits a budget allows; the fake charges 40 credits each."""
    taken = 0
    for number in range(count):
        try:
            await session.submit(prompt(f"{name} {budget} {number}"), budget=budget)
            taken += 1
        except BudgetExceededError:
            pass
    return taken


async def test_each_budget_holds_for_itself_and_nothing_else(make_session, api):
    async with make_session(transport=api, budgets={"acme": 100, "other": 40}) as session:
        assert [await spend(session, name, 4) for name in ("acme", "other", None)] == [2, 1, 4]
        assert session.budgets == {"acme": Budget(100, 80), "other": Budget(40, 40)}


async def test_a_budget_counts_for_the_limit_on_everything(make_session, api):
    options = {"budgets": {"acme": 100, "other": 100}, "max_credits": 120}
    async with make_session(transport=api, **options) as session:
        assert [await spend(session, name, 4) for name in ("acme", "other", None)] == [2, 1, 0]


async def test_budgets_hold_over_the_runs_of_a_journal(make_session, api):
    store = memory_store()
    for spent, name in [(0, "first"), (80, "second")]:
        options = {"journal": MemoryJournal(store), "budgets": {"acme": 130}}
        async with make_session(transport=api, **options) as session:
            assert session.budgets == {"acme": Budget(130, spent)}
            for number in range(2):
                request = prompt(f"{name} {number}")
                await asyncio.gather(session.submit(request, budget="acme"), return_exceptions=True)
    store.close()
    assert api.count("create") == 3


async def test_sessions_that_share_a_journal_share_its_budgets(make_session, api):
    store = memory_store()

    def begin():
        journal = MemoryJournal(store, shared=True)
        return make_session(transport=api, journal=journal, budgets={"acme": 130, "b": 1000})

    async with begin() as one, begin() as other:
        taken = await asyncio.gather(spend(one, "acme", 3), spend(other, "acme", 3, "b"))
        assert await spend(other, "b", 2) == 2
    store.close()
    assert sum(taken) == 3
    assert api.count("create") == 3 + 2


async def test_submits_of_different_budgets_do_not_wait_for_each_other(make_session, api):
    api.answer_after = 10.0
    async with make_session(transport=api, budgets={"acme": 100, "other": 100}) as session:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(
            session.submit(prompt(1), budget="acme"),
            session.submit(prompt(2), budget="other"),
            session.submit(prompt(3)),
        )
        assert asyncio.get_running_loop().time() - began == 20  # with the list of models


async def test_a_budget_that_the_session_does_not_have_is_refused_by_name(make_session, api):
    async with make_session(transport=api, budgets={"acme": 100}) as session:
        with pytest.raises(ValueError, match=r"'acme', not 'acmee'"):
            await session.generate(prompt(1), budget="acmee")
    async with make_session(transport=api) as session:
        with pytest.raises(ValueError, match="none, not 'acme'"):
            await session.submit(prompt(1), budget="acme")
    assert api.count("create") == 0


async def test_the_job_of_a_tenant_that_gave_up_is_not_handed_to_another(make_session, api):
    """Though both ask for the same: who orders it pays for it."""

    async def slow(request):
        answer = api.create(request)
        await asyncio.sleep(30)
        return answer

    async with make_session(transport=api, budgets={"acme": 100, "other": 100}) as session:
        api.script["create"] += [slow]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await session.submit(prompt(1), budget="acme")
        others = await session.submit(prompt(1), budget="other")
        again = await session.submit(prompt(1), budget="acme")
    assert [again.request_id, others.request_id] == list(api.jobs)


async def test_equal_requests_of_two_budgets_are_two_jobs_after_a_restart(make_session, api):
    store, options = memory_store(), {"budgets": {"acme": 100, "other": 100}}
    request, spent = prompt("of both"), {}
    for names in [("acme",), ("other", "acme"), ("other", "acme", None)]:
        async with make_session(transport=api, journal=MemoryJournal(store), **options) as session:
            for name in names:
                job = await session.submit(request, budget=name)
                assert spent.setdefault(name, job.request_id) == job.request_id
            await session.aclose(leave=True)
    store.close()
    assert len(set(spent.values())) == api.count("create") == 3
