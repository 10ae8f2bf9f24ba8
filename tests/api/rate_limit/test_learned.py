"""What is concluded from refusals: a number of jobs, a rate, or chance. Times are passed in."""

import math

import pytest

from seedance_async.api.rate_limit.learned import Learned

EASED = {"late": False, "eased": True}
WIDE = {"late": False, "eased": False}


@pytest.fixture
def learned():
    return Learned(slowest=0.05)


def find_chance(learned):
    """Of the calls that go first after a hold, half are refused, though nothing runs."""
    learned.jobs.refused(1, 0.0)
    for number in range(1, 9):
        learned.refused(0, 0, 60.0 * number, **EASED)
        learned.accepted(1, 0, 60.0 * number + 3, **EASED)
    assert learned.noise.is_found


@pytest.mark.parametrize("limit", [2, 3, 5, 8])
def test_refusals_below_a_small_number_of_jobs_are_chance(learned, limit):
    learned.jobs.refused(limit, 0.0)
    for number in range(1, 9):
        learned.refused(limit - 1, 0, 60.0 * number, **EASED)
        learned.accepted(limit, 0, 60.0 * number + 3, **EASED)
    assert learned.noise.is_found


@pytest.mark.parametrize("running", [1, 2, 3])
def test_the_end_of_one_of_few_jobs_does_not_go_unseen(learned, running):
    """With one more running than at the refusals, it was time that helped."""
    for seconds in (0, 3, 6, 9):
        learned.refused(running, 0, float(seconds), **EASED)
    learned.accepted(running + 1, 0, 12.0, **EASED)
    assert learned.jobs.found == math.inf


def test_how_long_a_hold_was_does_not_say_that_time_did_not_help(learned):
    """Refusals for four seconds are no job limit, however long the last hold was."""
    for seconds in (0, 1, 2, 4):
        learned.refused(33, 0, float(seconds), **EASED)
    learned.accepted(34, 0, 24.0, **EASED)
    assert learned.jobs.found == math.inf


def test_time_that_did_not_help_says_that_the_end_of_a_job_did(learned):
    for seconds in (0, 1, 2, 4, 8, 16):
        learned.refused(33, 0, float(seconds), **EASED)
    learned.accepted(33, 0, 24.0, **EASED)
    assert 32 <= learned.jobs.found <= 33


def test_refusals_of_all_calls_are_chance_no_longer(learned):
    """A limit refuses whatever is sent once it is reached, and that is soon seen."""
    find_chance(learned)
    for number in range(100):
        learned.accepted(number, 3, 600.0 + number, **WIDE)
    refusals = 0
    while not learned.refused(100, 3, 700.0 + refusals, **WIDE):
        refusals += 1
    assert refusals <= 5


def test_a_run_of_refusals_is_still_chance_where_most_are_refused(learned):
    find_chance(learned)
    for number in range(100):
        now = 600.0 + number
        if number % 5 < 3:
            assert not learned.refused(100, 3, now, **WIDE)
        else:
            learned.accepted(100, 3, now, **WIDE)
    assert not any(learned.refused(100, 3, 700.0 + number, **WIDE) for number in range(6))


def test_refusals_with_as_many_jobs_as_before_may_be_for_their_number(learned):
    """Though a rate is known, and the pace is below it: both may be limited."""
    for now in range(20):
        learned.rate.accepted(float(now), pressed=True)
    learned.refused(20, 0, 20.0, **EASED)
    learned.accepted(21, 0, 21.0, **EASED)
    for now in range(22, 40):
        learned.rate.accepted(float(now), pressed=True)
        learned.accepted(22 + now, 0, float(now), **EASED)
    assert learned.rate.found < math.inf
    for number in range(12):  # 60 jobs are the limit: one more is accepted once one has ended
        now = 41.0 + 2 * number
        learned.refused(60, 0, now, **EASED)
        learned.accepted(60, 0, now + 1, **EASED)
    assert not learned.noise.is_found
