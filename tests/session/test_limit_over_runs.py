"""The limit on credits over several runs of one journal, whatever became of earlier submits."""

import pytest

from seedance_async import (
    BadRequestError,
    BudgetExceededError,
    GenerationRequest,
    InsufficientCreditsError,
    JobState,
    SubmitUncertainError,
)
from tests.support.fakes import LOST, FakeAPI, accepted, error_reply

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def api():
    return FakeAPI()


@pytest.fixture
def begin(make_session, api, tmp_path):
    def make(**options):
        return make_session(transport=api, journal=tmp_path / "run.db", **options)

    return make


def prompts(count, prefix="prompt"):
    return [GenerationRequest(f"{prefix} {number}", duration=4) for number in range(count)]


async def test_uncertain_submits_of_a_run_without_a_limit_count_once_a_price_is_known(begin, api):
    """They may have been charged 15 each, though no run knew a price then."""
    api.script["create"] += [LOST] * 4
    async with begin(max_connections=1) as session:
        assert (await session.run(prompts(4))).counts == {JobState.UNCERTAIN: 4}
    api.script["create"] += [accepted("req_a", 15), accepted("req_b", 15)]
    api.jobs |= dict.fromkeys(("req_a", "req_b"), 0.0)
    async with begin(max_credits=90) as session:
        await session.submit(GenerationRequest("another", duration=4))
        with pytest.raises(BudgetExceededError, match="90 of 90"):
            for number in range(3):
                await session.submit(GenerationRequest(f"one more {number}", duration=4))
    assert api.count("create") == 4 + 2


async def test_an_uncertain_submit_that_is_sent_again_counts_twice_in_later_runs(begin, api):
    request = prompts(1)[0]
    api.script["create"] += [LOST]
    async with begin() as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(request)
    api.script["create"] += [accepted("req_a", 80)]
    api.jobs["req_a"] = 0.0
    async with begin(resubmit_uncertain=True) as session:
        await session.submit(request)
    async with begin(max_credits=170) as session:
        with pytest.raises(BudgetExceededError, match="160 of 170"):
            await session.submit(GenerationRequest("another", duration=4))


async def test_a_key_used_again_with_another_request_is_priced_as_that(begin, api):
    cheap = GenerationRequest("cheap", duration=4)
    dear = GenerationRequest("dear", duration=15, resolution="1080p")
    api.script["create"] += [error_reply(422)]
    async with begin() as session:
        with pytest.raises(Exception, match="422"):
            await session.submit(cheap, key="mine")
    api.script["create"] += [accepted("req_a", 900)]
    api.jobs["req_a"] = 0.0
    async with begin() as session:
        await session.submit(dear, key="mine")
    async with begin(max_credits=950) as session:
        with pytest.raises(BudgetExceededError, match=r"900 of 950.* need 900"):
            await session.submit(dear, key="theirs")


async def test_a_lost_answer_to_the_first_submit_does_not_lock_later_runs(begin, api):
    """Nothing tells what it cost; the next run finds a price, and counts both."""
    api.script["create"] += [LOST]
    async with begin(max_credits=200) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(prompts(1)[0])
        with pytest.raises(BudgetExceededError):
            await session.submit(prompts(1, "other")[0])
    async with begin(max_credits=200) as session:
        for request in prompts(4, "later"):
            await session.submit(request)
        with pytest.raises(BudgetExceededError, match="200 of 200"):
            await session.submit(prompts(1, "last")[0])


async def test_a_price_that_no_run_learns_is_not_risked_at_every_start(begin, api):
    """Each start may try once more what was broken off, but not one more for each start."""
    api.script["create"] += [LOST] * 10
    for _ in range(5):
        async with begin(max_credits=200) as session:
            await session.run(prompts(3, "lost"))
    assert api.count("create") == 2


async def test_a_refusal_for_lack_of_credits_spends_nothing(begin, api):
    api.script["create"] += [error_reply(402)]
    async with begin(max_credits=40) as session:
        with pytest.raises(InsufficientCreditsError):
            await session.submit(prompts(1)[0])
        assert "<CreditLimit 0 of 40 spent>" in repr(session)


async def test_a_doubt_without_a_price_outlives_a_refusal_of_its_next_submit(begin, api):
    one, two = prompts(2)
    api.script["create"] += [LOST]
    async with begin() as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(one)
        await session.submit(two)
    api.script["create"] += [error_reply(422)]
    async with begin(max_credits=120, resubmit_uncertain=True) as session:
        with pytest.raises(BadRequestError):
            await session.submit(one)
    async with begin(max_credits=120) as session:
        await session.submit(GenerationRequest("a third", duration=4))
        with pytest.raises(BudgetExceededError, match="120 of 120"):
            await session.submit(GenerationRequest("a fourth", duration=4))
