"""A few hundred universes, and the safeguards that they guard; `make universes` plays far more."""

import contextlib
import subprocess
import sys

import attrs
import pytest

from seedance_async.journal import owner, owners, sqlite
from tests.support.for_each import for_each
from tests.universes.__main__ import main
from tests.universes.mutants import MUTANTS, Mutant
from tests.universes.plan import make_plan
from tests.universes.run import multiverse, play, play_seeds
from tests.universes.shrink import shrink

#: Mutants that few seeds catch, and in how many ways.
QUICK = {
    "an uncertain job of an earlier run is sent again": 100,
    "an acceptance is not logged": 40,
    "the end of a job is not recorded": 150,
    "the intent is not recorded": 40,
    "an error that reports a charge counts as a refusal": 60,
    "a limit is not looked at": 300,
    "the key is shown in failures": 40,
    "a claim ignores that another session has the key": 60,
    "what another session is submitting is not waited for": 40,
    "an end is overwritten": 60,
    "an acceptance is taken back": 60,
}


def named(name):
    (mutant,) = (each for each in MUTANTS if each.name == name)
    return mutant


def first_violations(most):
    """What was wrong in the first universe in which anything was; empty if nothing was in any."""
    with contextlib.closing(play_seeds(range(most))) as results:
        return next((result.violations for result in results if result.violations), ())


@pytest.mark.parametrize("first", range(0, 300, 100))
def test_whatever_happens_nothing_is_paid_twice_lost_or_left_to_hang(first):
    with contextlib.closing(play_seeds(range(first, first + 100))) as results:
        for result in results:
            assert not result.violations, f"python -m tests.universes --replay {result.plan.seed}"


def test_much_happens_in_the_universes():
    results = list(play_seeds(range(100)))
    assert sum(result.kills for result in results) > 20
    assert sum(result.charges for result in results) > 100
    assert sum(result.posts - result.charges for result in results) > 20
    shared = [result for result in results if result.plan.shared]
    assert sum(len(life.at_once) for result in shared for life in result.plan.lives) > 60
    waited = [result for result in shared if "another session is submitting" in str(result.story)]
    assert len(waited) > 5


@pytest.mark.parametrize("name", QUICK)
def test_a_safeguard_that_is_taken_out_is_missed(name):
    with named(name).applied():
        assert first_violations(QUICK[name])


@for_each("mutant", MUTANTS)
def test_each_mutant_changes_something_and_is_undone(mutant):
    function = mutant.function
    before = function.__code__
    with mutant.applied():
        assert function.__code__.co_code != before.co_code or function.__code__ != before
    assert function.__code__ is before


def test_a_mutant_of_text_that_is_not_there_is_refused():
    mutant = Mutant("none", "api.retry:judge_submit", "no such text", "pass")
    with pytest.raises(LookupError, match="does not have"), mutant.applied():
        pass


def test_there_are_enough_mutants_and_no_two_have_a_name():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 30


def test_a_seed_gives_the_same_universe_again_in_another_process_and_in_another_order():
    seeds = [7, 3, 11]
    script = (
        "from tests.universes.run import play_seeds\n"
        f"for result in play_seeds({sorted(seeds)}): print(result.digest)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": "."},
    )
    digests = {result.plan.seed: result.digest for result in play_seeds(seeds)}
    assert told.stdout.split() == [digests[seed] for seed in sorted(seeds)]


def test_a_universe_that_fails_is_made_smaller():
    with named("an acceptance is not logged").applied():
        with contextlib.closing(play_seeds(range(300))) as results:
            result = next(each for each in results if each.violations and steps(each.plan) > 2)
        small = shrink(result.plan, result.kinds)
        with multiverse():
            assert play(small).kinds & result.kinds
    assert steps(small) < steps(result.plan)
    assert not any(small.query_faults)


def steps(plan):
    return sum(len(life.ops) for life in plan.lives)


def test_what_a_kill_leaves_behind_disturbs_nobody():
    """The SDK's own journal is back, and so is every hook, when no universe is played."""
    before = sqlite.Writer, owner.this_place, owners.os, sys.unraisablehook
    list(play_seeds(range(3)))
    assert (sqlite.Writer, owner.this_place, owners.os, sys.unraisablehook) == before


def test_the_command_plays_shows_and_counts(capsys):
    assert main(["--seeds", "3", "--workers", "1"]) == 0
    assert "universes with violations (must be 0): 0" in capsys.readouterr().out
    assert main(["--replay", "2"]) == 0
    assert "seed 2, digest" in capsys.readouterr().out


def test_the_command_fails_where_something_is_wrong_and_shows_a_smaller_universe(capsys):
    with named("the key is shown in failures").applied():
        (seed, *_) = [result.plan.seed for result in play_seeds(range(40)) if result.violations]
        assert main(["--first", str(seed), "--seeds", "1", "--workers", "1"]) == 1
    assert "VIOLATION key" in capsys.readouterr().out


def test_a_plan_is_plain_data():
    plan = make_plan(5)
    assert attrs.evolve(plan) == make_plan(5)
    assert eval(repr(plan), {**vars(sys.modules[type(plan).__module__])}) == plan
