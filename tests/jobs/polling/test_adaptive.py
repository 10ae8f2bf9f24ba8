"""Learned poll times: bounds for any events, the plan against brute force, and the gain."""

import heapq
import itertools
import math
import operator
import random
import statistics
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async import Backoff
from seedance_async.jobs.polling.adaptive import LearnedPolls, PlainPolls, poll_times
from seedance_async.jobs.polling.adaptive.end_times import MEMORY, Bins, EndTimes, smoothed
from seedance_async.jobs.polling.adaptive.planner import ENOUGH, QUEUED, PollPlanner
from seedance_async.jobs.polling.adaptive.plans import Bounds, best_plan, thinned

ages = st.floats(0, 600) | st.sampled_from([0.0, 1e-9, 30.0, 1e300, math.inf])
events = st.lists(st.tuples(st.integers(0, 3), st.booleans(), ages, ages), max_size=40)


@st.composite
def backoffs(draw):
    floor = draw(st.floats(1e-9, 10))
    initial = draw(st.floats(floor, 1e3))
    return Backoff(
        floor=floor,
        initial=initial,
        maximum=draw(st.floats(initial, 1e9)),
        multiplier=draw(st.floats(1, 100)),
        jitter=draw(st.floats(0, 1)),
    )


@st.composite
def survivals(draw):
    """Rising ages and the falling share of jobs that outlast each."""
    steps = draw(st.lists(st.floats(0.01, 100), min_size=2, max_size=25))
    masses = draw(st.lists(st.floats(0, 1), min_size=len(steps), max_size=len(steps)))
    total = sum(masses) + draw(st.floats(0.001, 1))
    ages, survival = [0.0], [1.0]
    for step, mass in zip(steps, masses, strict=True):
        ages.append(ages[-1] + step)
        survival.append(max(0.0, survival[-1] - mass / total))
    return ages, survival


def show(planner, kind, ended, after, by):
    (planner.finished if ended else planner.running)(kind, after, by)


def taught(draw, *, jobs=60, backoff=None, seed=1):
    """A planner that has seen jobs one after the other; `draw` gives the seconds of each."""
    planner = PollPlanner(backoff or Backoff())
    rng = random.Random(seed)
    for _ in range(jobs):
        alone(planner, draw(rng), rng)
    return planner


def alone(planner, seconds, rng):
    """Poll one job until it ends; returns the number of polls and the lag of the last."""
    age, last, polls = 0.0, 0.0, 0
    while True:
        age += planner.delay("kind", age, polls, rng)
        polls += 1
        if age >= seconds:
            planner.finished("kind", last, age)
            return polls, age - seconds
        planner.running("kind", last, age)
        last = age


class Plain:
    """What the planner is compared with."""

    def delay(self, kind, age, polls, rng):
        return Backoff().delay(polls, rng)

    def running(self, kind, after, by):
        pass

    finished = running


def together(planner, draw, *, jobs, in_flight=20, seed=1):
    """Poll jobs, this many at once; returns the (number, polls, lag) of each."""
    rng, results, heap = random.Random(seed), [], []
    numbers = iter(range(jobs))

    def submit(now):
        number = next(numbers, None)
        if number is not None:
            due = now + planner.delay("kind", 0.0, 0, rng)
            heapq.heappush(heap, (due, number, now, draw(rng, number), 0, 0.0))

    for _ in range(in_flight):
        submit(0.0)
    while heap:
        now, number, since, seconds, polls, last = heapq.heappop(heap)
        age = now - since
        if age >= seconds:
            planner.finished("kind", last, age)
            results.append((number, polls + 1, age - seconds))
            submit(now)
        else:
            planner.running("kind", last, age)
            due = now + planner.delay("kind", age, polls + 1, rng)
            heapq.heappush(heap, (due, number, since, seconds, polls + 1, age))
    return sorted(results)


def means(results, since):
    counted = [row for row in results if row[0] >= since]
    return (
        statistics.fmean(polls for _, polls, _ in counted),
        statistics.fmean(lag for _, _, lag in counted),
    )


def log_normal(median, sigma=0.4):
    return lambda rng, number=0: rng.lognormvariate(math.log(median), sigma)


@settings(max_examples=25, deadline=None)
@given(backoffs(), events, ages, st.integers(0, 10**30), st.randoms(use_true_random=False))
def test_every_delay_is_within_its_bounds_whatever_polls_have_shown(backoff, seen, age, polls, rng):
    planner = PollPlanner(backoff, kinds=3)
    for kind, ended, after, by in seen:
        show(planner, kind, ended, after, by)
        show(planner, 0, True, after, by)
        delay = planner.delay(kind, by, polls, rng)
        assert backoff.floor <= delay <= backoff.maximum * 4
    assert backoff.floor <= planner.delay(0, age, polls, rng) <= backoff.maximum * 4
    assert len(planner) <= 3


@settings(max_examples=25, deadline=None)
@given(events)
def test_the_survival_falls_from_one_whatever_polls_have_shown(seen):
    times = EndTimes(Bins(2.0))
    for _, ended, after, by in seen:
        (times.finished if ended else times.running)(after, by)
    survival = times.survival()
    assert survival[0] == 1
    assert all(0 <= later <= sooner + 1e-9 for sooner, later in pairwise(survival))


@settings(max_examples=25, deadline=None)
@given(survivals(), st.floats(0.001, 1000))
def test_the_best_plan_costs_as_little_as_brute_force_finds(distribution, price):
    ages, survival = distribution
    last = len(ages) - 1

    def cost(k, poll):
        lag = sum(
            (survival[x] - survival[x + 1]) * (ages[poll] - (ages[x] + ages[x + 1]) / 2)
            for x in range(k, poll)
        )
        return lag + price * survival[k]

    least = [0.0] * (last + 1)
    for k in range(last - 1, -1, -1):
        least[k] = min(cost(k, poll) + least[poll] for poll in range(k + 1, last + 1))
    plan, spent, k = best_plan(ages, survival, price), 0.0, 0
    while k < last:
        poll = ages.index(plan.following[k])
        spent, k = spent + cost(k, poll), poll
    assert spent == pytest.approx(least[0], rel=1e-6, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(survivals(), st.floats(0.001, 100), st.floats(1.1, 100))
def test_a_higher_price_never_makes_more_polls(distribution, price, dearer):
    cheap, dear = best_plan(*distribution, price), best_plan(*distribution, price * dearer)
    assert dear.polls <= cheap.polls + 1e-6


@settings(max_examples=25, deadline=None)
@given(survivals(), st.floats(0.001, 1000), st.floats(0, 1), st.floats(0, 1))
def test_the_next_poll_is_never_earlier_from_a_later_age(distribution, price, one, other):
    plan = best_plan(*distribution, price)
    sooner, later = sorted(share * plan.ages[-2] for share in (one, other))
    assert sooner <= plan.next_poll(sooner) <= plan.next_poll(later) * (1 + 1e-9)


@settings(max_examples=25, deadline=None)
@given(survivals())
def test_smoothing_spreads_the_jobs_and_loses_none(distribution):
    _, survival = distribution
    padded = [1.0] * 70 + survival + [survival[-1]] * 70
    result = smoothed(padded)
    assert result[-1] == pytest.approx(padded[-1], abs=1e-9)
    assert result[0] == 1


def test_a_plan_has_more_ages_where_more_jobs_end():
    survival = [1.0] * 100 + [1 - k / 100 for k in range(101)]
    ages = [100.0 + k for k in range(len(survival))]
    chosen = thinned([0.0, *ages[1:]], survival)
    assert len([k for k in chosen if k < 100]) < 20 < len([k for k in chosen if k >= 100])


@settings(max_examples=25, deadline=None)
@given(survivals(), st.floats(0.001, 100), st.floats(0, 1), st.integers(0, 50))
def test_polls_that_a_plan_did_not_have_are_made_up_for(distribution, price, share, more):
    plan = best_plan(*distribution, price)
    age, own, now = 0.0, 0, share * plan.ages[-2]
    while (age := plan.next_poll(age)) <= now:
        own += 1
    assert plan.excess(now, own) == 1
    assert 1 <= plan.excess(now, own + more) <= plan.excess(now, own + more + 1)


@settings(max_examples=25, deadline=None)
@given(survivals(), st.floats(0.001, 1000), st.floats(0, 100), st.floats(1, 50))
def test_a_plan_counts_the_polls_that_are_made_within_its_bounds(distribution, price, early, most):
    plan = best_plan(*distribution, price, Bounds(early=early, longest=most))
    asked = [0.0, *plan.path]
    for age, then in pairwise(asked):
        assert then <= max(age, early) + most + 1e-9
    left = [share_of(distribution, age) for age in asked[:-1]]
    gaps = [then - age for age, then in pairwise(asked)]
    assert plan.polls == pytest.approx(sum(left))
    assert plan.noticed == pytest.approx(sum(map(operator.mul, left, gaps)))


def share_of(distribution, age):
    """The share of jobs that outlast an age, between those of the distribution."""
    for (start, before), (end, after) in pairwise(zip(*distribution, strict=True)):
        if start <= age < end:
            return before + (after - before) * (age - start) / (end - start)
    return 0.0


def test_ages_at_which_no_job_was_seen_are_polled_no_more_often_than_by_plain_backoff():
    """Of 500 jobs that began at once a few have ended; the others are as old."""
    backoff = LearnedPolls().backoff
    planner, rng = PollPlanner(backoff), random.Random(0)
    for number in range(500):
        planner.running("kind", 0.0, 11.0)
        show(planner, "kind", number % 25 == 0, 11.0, 16.0)
    delays = [planner.delay("kind", 16.0, 2, rng) for _ in range(100)]
    assert min(delays) >= backoff.maximum * (1 - backoff.jitter)


def test_one_of_many_jobs_that_began_before_the_plan_gets_no_more_polls_than_others():
    """It was polled by plain backoff until the first of the others ended."""
    planner, rng = taught(lambda rng: rng.gauss(90, 5)), random.Random(0)
    age, before = 80.0, 16
    late = [planner.delay("kind", age, before, rng) for _ in range(50)]
    usual = [planner.delay("kind", age, 1, rng) for _ in range(50)]
    assert statistics.mean(late) > 2 * statistics.mean(usual)
    assert max(late) <= Backoff().maximum


@pytest.mark.parametrize("age", [0.0, 60.0, 85.0, 120.0])
def test_a_queued_job_is_polled_no_more_often_than_by_plain_backoff(age):
    planner, backoff = taught(log_normal(90)), Backoff()
    for polls, seed in itertools.product((0, 5), range(20)):
        queued = planner.delay("kind", age, polls, random.Random(seed), queued=True)
        plain = backoff.delay(polls, random.Random(seed))
        assert queued >= min(plain, backoff.maximum * (1 - backoff.jitter))
        unknown = planner.delay("other", age, polls, random.Random(seed), queued=True)
        assert unknown == QUEUED * plain


def test_an_unknown_kind_gets_plain_backoff():
    planner, backoff = PollPlanner(Backoff()), Backoff()
    for ends in range(int(ENOUGH)):
        planned = [planner.delay("kind", 3.0 * n, n, random.Random(n)) for n in range(20)]
        assert planned == [backoff.delay(n, random.Random(n)) for n in range(20)], ends
        planner.finished("kind", 60.0, 61.0)
    assert planner.delay("other", 0.0, 0, random.Random(0)) == backoff.delay(0, random.Random(0))


def test_the_first_poll_comes_late_then_polls_are_dense_and_then_ever_rarer():
    planner = taught(lambda rng: rng.gauss(90, 5), backoff=Backoff(jitter=0))
    polls, age, rng = [], 0.0, random.Random(0)
    while age < 400:
        age += planner.delay("kind", age, len(polls), rng)
        polls.append(age)
    early = [age for age in polls if age < 70]
    around = [age for age in polls if 75 <= age <= 105]
    assert len(early) <= 2
    assert len(around) >= 5
    assert polls[-1] - polls[-2] > 4 * (around[-1] - around[0]) / len(around)


def test_jobs_of_the_same_age_are_not_all_polled_at_once():
    planner = taught(log_normal(90))
    rng = random.Random(0)
    assert len({planner.delay("kind", 60.0, 2, rng) for _ in range(20)}) == 20


def test_the_first_jobs_of_a_burst_to_end_do_not_stand_for_all_of_it():
    """Of 200 jobs the fifty fastest have ended: three quarters still run."""
    times = EndTimes(bins := Bins(2.0))
    for n in range(200):
        times.running(0.0, 60.0)
        if n % 4 == 0:
            times.finished(60.0, 70.0)
        else:
            times.running(60.0, 70.0)
    survival = times.survival()
    assert survival[bins.of(70.0)] == pytest.approx(0.75, abs=0.1)


def test_when_jobs_become_faster_their_ends_are_noticed_soon_again_after_a_few():
    planner, rng = taught(log_normal(90), backoff=Backoff(jitter=0)), random.Random(0)
    lags = [alone(planner, 20.0, rng)[1] for _ in range(45)]
    assert lags[0] > 10
    assert max(lags[-10:]) < 7


def test_a_job_that_never_ends_gets_at_most_twice_the_polls_of_plain_backoff():
    """An adversary chooses when all the others end, and so where polls are dense."""
    backoff = Backoff(jitter=0)
    for ends in (5.0, 30.0, 100.0, 290.0):
        planner = taught(lambda rng, ends=ends: ends * rng.uniform(0.99, 1.01), backoff=backoff)
        rng, age, plain_age, polls, plain = random.Random(0), 0.0, 0.0, 0, 0
        while age < 3600:
            age += planner.delay("kind", age, polls, rng)
            polls += 1
            while plain_age + backoff.full_delay(plain) <= age:
                plain_age += backoff.full_delay(plain)
                plain += 1
            assert polls <= 2 * (plain + 1) + 5


@pytest.mark.parametrize("seconds", [20.0, 90.0, 600.0])
def test_once_jobs_may_end_no_delay_is_longer_than_the_longest_of_plain_backoff(seconds):
    backoff = LearnedPolls().backoff
    planner = taught(log_normal(seconds, 0.2), backoff=backoff)
    rng = random.Random(0)
    delays = [planner.delay("kind", seconds * share / 10, 3, rng) for share in range(8, 100)]
    assert max(delays) <= backoff.maximum
    first = planner.delay("kind", 0.0, 0, rng)
    assert first > min(backoff.maximum, seconds / 3), "before that they are longer"


def test_an_end_long_before_any_other_leads_to_another_plan_at_once():
    planner = taught(lambda rng: rng.gauss(600, 60), backoff=LearnedPolls().backoff)
    rng = random.Random(0)
    before = planner.delay("kind", 100.0, 3, rng)
    for _ in range(3):
        planner.finished("kind", 0.0, 70.0)
    assert planner.delay("kind", 100.0, 3, rng) <= 5.3 < before


def test_a_backoff_of_tiny_delays_causes_no_overflow():
    backoff = Backoff(initial=1e-300, maximum=1e-300, floor=1e-300, jitter=0)
    planner = PollPlanner(backoff)
    for _ in range(20):
        planner.finished("kind", 0.0, 90.0)
    assert planner.delay("kind", 0.0, 0, random.Random(0)) >= 0


def test_the_kinds_remembered_are_bounded_and_the_least_recent_one_is_forgotten():
    planner = PollPlanner(Backoff(), kinds=2)
    for kind in ("old", "new", "newer"):
        for _ in range(20):
            planner.finished(kind, 50.0, 60.0)
    plain = Backoff().delay(0, random.Random(0))
    assert len(planner) == 2
    assert planner.delay("old", 0.0, 0, random.Random(0)) == plain
    assert planner.delay("new", 0.0, 0, random.Random(0)) != plain


def test_the_memory_of_a_kind_does_not_grow_with_its_jobs():
    """It takes some 80 kB; with all these ends it would be ten times as much."""
    tracemalloc.start()
    times = EndTimes(Bins(2.0))
    for _ in range(30 * MEMORY):
        times.finished(50.0, 60.0)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 200_000


def test_weights_stay_finite_over_months_of_jobs():
    times = EndTimes(bins := Bins(2.0))
    for _ in range(5000):
        times.running(0.0, 50.0)
        times.finished(50.0, 60.0)
    survival = times.survival()
    assert times.count < 2 * MEMORY
    assert survival[bins.of(40.0)] > 0.95
    assert survival[bins.of(80.0)] < 0.05


@pytest.mark.parametrize(
    ("draw", "gain"),
    [
        (log_normal(90), 0.45),
        (lambda rng, _: rng.gauss(*((60, 5) if rng.random() < 0.7 else (240, 20))), 0.5),
        (lambda rng, _: 40 * rng.paretovariate(1.5) - 20, 0.75),
        (lambda rng, _: rng.expovariate(1 / 120), 0.95),
        (lambda rng, _: rng.uniform(1, 600), 0.95),
    ],
    ids=["log-normal", "queueing", "heavy tail", "exponential", "uniform"],
)
def test_ends_are_noticed_sooner_than_by_plain_backoff_and_with_no_more_polls(draw, gain):
    polls, lag = means(together(PollPlanner(Backoff()), draw, jobs=300), 80)
    plain_polls, plain_lag = means(together(Plain(), draw, jobs=300), 80)
    assert polls <= plain_polls * 1.1
    assert lag <= plain_lag * gain


@pytest.mark.parametrize("draw", [log_normal(180), log_normal(270)], ids=["180", "270"])
def test_polls_that_are_saved_are_spent_where_ends_would_be_noticed_later(draw):
    backoff, ours, plain = LearnedPolls().backoff, [], []
    for seed in range(3):
        ours += together(PollPlanner(backoff), draw, jobs=400, seed=seed)[80:]
        plain += together(PlainPolls(backoff), draw, jobs=400, seed=seed)[80:]
    polls, lag = means(ours, 0)
    plain_polls, plain_lag = means(plain, 0)
    assert polls <= plain_polls
    assert lag <= plain_lag


@pytest.mark.parametrize("median", [30, 45, 180, 270])
def test_a_service_that_changes_its_pace_is_followed_within_fifty_jobs(median):
    def draw(rng, number):
        return log_normal(90 if number < 150 else median)(rng)

    polls, lag = means(together(PollPlanner(Backoff()), draw, jobs=350), 220)
    plain_polls, plain_lag = means(together(Plain(), draw, jobs=350), 220)
    assert polls <= plain_polls * 1.1
    assert lag <= plain_lag * 0.75


# --- the policies that a session is given ---------------------------------------------------------


def test_a_backoff_alone_learns_nothing():
    backoff = Backoff(initial=3, multiplier=2, maximum=30, jitter=0)
    times = poll_times(backoff)
    assert isinstance(times, PlainPolls)
    for _ in range(100):
        times.running("kind", 0, 9)
        times.finished("kind", 9, 10)
    rng = random.Random(1)
    assert [times.delay("kind", 5, polls, rng) for polls in range(5)] == [3, 6, 12, 24, 30]


def test_a_learned_policy_uses_its_backoff_until_enough_jobs_have_ended():
    backoff = Backoff(jitter=0)
    times = poll_times(LearnedPolls(backoff=backoff))
    rng = random.Random(1)
    plain = [backoff.full_delay(polls) for polls in range(5)]
    assert [times.delay("kind", 0, polls, rng) for polls in range(5)] == plain
    for _ in range(30):
        times.finished("kind", 99, 100)
    assert times.delay("kind", 0, 0, rng) > 2 * plain[0]
    assert times.delay("another", 0, 0, rng) == plain[0]


def test_a_stretch_that_is_not_a_number_or_out_of_bounds_is_named_in_the_error():
    for stretch in (0.99, 0, -1, math.nan, math.inf, True, "4", None):
        with pytest.raises(ValueError, match=r"LearnedPolls\.stretch"):
            LearnedPolls(stretch=stretch)
