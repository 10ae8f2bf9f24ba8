"""Plays many universes in several processes, and prints what was found."""

import concurrent.futures
import gc
import itertools
import multiprocessing
import sys
import time

import attrs

from tests.universes.mutants import MUTANTS
from tests.universes.plan import make_plan
from tests.universes.run import multiverse, play, play_seeds
from tests.universes.shrink import shrink

#: Seeds that one worker plays before it reports.
SHARE = 250

#: Failures that are made smaller and shown.
SHOWN = 5

# --- many ---------------------------------------------------------------------------------------


def search(first, count, workers):
    """Play universes, and show those in which something was wrong."""
    began, totals, failed = time.perf_counter(), Totals(), []
    shares = [
        range(at, min(at + SHARE, first + count)) for at in range(first, first + count, SHARE)
    ]
    for part, violations in _in_processes(_play_share, shares, workers):
        totals = totals.plus(part)
        failed += violations
        _progress(f"{totals.universes} universes, {len(failed)} with violations")
    seconds = time.perf_counter() - began
    print(
        f"\rseeds {first} to {first + count - 1}: {totals.universes} universes in {seconds:.0f} s,"
    )
    print(f"{totals.universes / seconds:.0f} a second in {workers} processes")
    print(
        f"{totals.processes} lives of programs, {totals.kills} killed; {totals.posts} submits,"
        f" {totals.charges} charged"
    )
    print(f"universes with violations (must be 0): {len(failed)}")
    for seed, violations in sorted(failed)[:SHOWN]:
        print(f"\nseed {seed}: {violations[0]}")
        replay(seed, smaller=True)
    return 1 if failed else 0


@attrs.frozen
class Totals:
    """How much happened in some universes."""

    universes: int = 0
    processes: int = 0
    kills: int = 0
    posts: int = 0
    charges: int = 0

    def plus(self, other):
        """Both together."""
        return Totals(*map(sum, zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


def _play_share(seeds):
    gc.freeze()  # what is loaded by now is no garbage: it need not be looked at again
    totals, failed = Totals(), []
    for result in play_seeds(seeds):
        totals = totals.plus(
            Totals(1, result.processes, result.kills, result.posts, result.charges)
        )
        if result.violations:
            failed.append((result.plan.seed, result.violations))
    return totals, failed


def _in_processes(work, shares, workers):
    """The results of the shares, as they come."""
    if workers == 1:
        yield from map(work, shares)
        return
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(work, share) for share in shares]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def _progress(text):
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


# --- one ----------------------------------------------------------------------------------------


def replay(seed, *, smaller):
    """Play one universe, and print its plan, its log and what was wrong."""
    plan = make_plan(seed)
    with multiverse():
        result = play(plan)
    if smaller and result.violations:
        plan = shrink(plan, result.kinds)
        with multiverse():
            result = play(plan)
    print(f"seed {seed}{', made smaller' if smaller else ''}, digest {result.digest}")
    for field in attrs.fields(type(plan)):
        if field.name not in ("seed", "lives"):
            print(f"  {field.name}: {getattr(plan, field.name)}")
    for life in plan.lives:
        print(f"  {life}")
    for line in (*result.story, *(f"VIOLATION {text}" for text in result.violations)):
        print(f"  {line}")
    return 1 if result.violations else 0


# --- mutants ------------------------------------------------------------------------------------


def hunt_mutants(first, most, workers):
    """Print for each mutant how many seeds it takes to catch it."""
    began, survivors = time.perf_counter(), 0
    print(f"{'seeds':>6}  {'safeguard taken out':<76}  what was noticed")
    shares = [(number, first, most) for number in range(len(MUTANTS))]
    for number, seeds, violation in _in_processes(_hunt, shares, workers):
        survivors += seeds is None
        print(
            f"{seeds or 'NONE':>6}  {MUTANTS[number].name:<76}  {(violation or '')[:60]}",
            flush=True,
        )
    seconds = time.perf_counter() - began
    print(f"{len(MUTANTS)} mutants, {survivors} not caught by {most} seeds, in {seconds:.0f} s")
    return 1 if survivors else 0


def _hunt(share):
    number, first, most = share
    gc.freeze()
    with MUTANTS[number].applied():
        for count, result in enumerate(play_seeds(itertools.count(first)), 1):
            if result.violations:
                return number, count, result.violations[0]
            if count == most:
                return number, None, None
    raise AssertionError("seeds never end")
