"""Plays universes by their seeds, and makes those that fail smaller."""

import contextlib
import gc
import hashlib
import logging
import os
import secrets
import time
import warnings

import attrs

from tests.universes.judge import judge
from tests.universes.plan import make_plan
from tests.universes.store import use_disks
from tests.universes.world import Logs, World


@attrs.frozen
class Result:
    """What became of one universe.

    Attributes:
        plan: what was played.
        violations: what was wrong; empty if nothing was.
        digest: of everything that happened; equal for every replay.
        charges, posts, kills, processes: how much happened.
    """

    plan: object
    violations: tuple[str, ...]
    digest: str
    charges: int
    posts: int
    kills: int
    processes: int
    lines: tuple[str, ...] = ()

    @property
    def kinds(self):
        """The kinds of its violations."""
        return {text.partition(":")[0] for text in self.violations}


_logs = Logs()


@contextlib.contextmanager
def multiverse():
    """Within, this interpreter runs universes and nothing else."""
    log, token_hex, token_urlsafe = logging.getLogger("seedance_async"), secrets.token_hex, secrets.token_urlsafe
    before = log.handlers, log.propagate, log.level
    restore = use_disks()
    log.handlers, log.propagate = [_logs], False
    log.setLevel(logging.INFO)
    secrets.token_hex = lambda count=32: _random_bytes(count).hex()
    secrets.token_urlsafe = lambda count=32: _random_bytes(count).hex()
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        restore()
        secrets.token_hex, secrets.token_urlsafe = token_hex, token_urlsafe
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
        if collecting:
            gc.enable()


def _random_bytes(count):
    return _logs.world.rng.randbytes(count)


def play(plan):
    """Play one plan; call it inside `multiverse`."""
    world = _logs.world = World(plan)
    try:
        world.play()
        violations = tuple(judge(world))
        lines = tuple(f"{line.at:9.3f} {line.process} {line.text}" for line in world.lines)
        told = repr((lines, [attrs.astuple(row) for row in world.disk.rows()], world.clock))
        return Result(
            plan,
            violations,
            hashlib.sha256(told.encode()).hexdigest()[:16],
            charges=len(world.server.ledger),
            posts=world.server.posts,
            kills=sum(not process.alive for process in world.processes),
            processes=len(world.processes),
            lines=lines,
        )
    finally:
        world.close()
        _logs.world = None


def play_seeds(seeds, most=None):
    """The results of these seeds, one after the other."""
    with multiverse():
        for number, seed in enumerate(seeds):
            yield play(make_plan(seed))
            if number % 50 == 49:
                gc.collect()


def shrink(plan, kinds):
    """A smaller plan that fails in one of these ways, too: whatever can be left out is."""
    with multiverse():
        smaller = True
        while smaller:
            smaller = False
            for candidate in _simpler(plan):
                if play(candidate).kinds & kinds:
                    plan, smaller = candidate, True
                    break
            gc.collect()
    return plan


def _simpler(plan):
    """Plans with one thing less."""
    for number in range(len(plan.lives)):
        if len(plan.lives) > 1:
            yield attrs.evolve(plan, lives=_without(plan.lives, number))
    for number, life in enumerate(plan.lives):
        for simpler in _simpler_lives(life):
            yield attrs.evolve(plan, lives=_with(plan.lives, number, simpler))
    for name in ("submit_faults", "query_faults", "callback_faults"):
        faults = getattr(plan, name)
        if any(faults):
            yield attrs.evolve(plan, **{name: ()})
        for number, fault in enumerate(faults):
            if fault is not None:
                yield attrs.evolve(plan, **{name: _with(faults, number, None)})
    plain = {"limit": None, "prices": (40,), "ratio_costs": False, "webhooks": False,
             "reports_sending": True, "events": False, "max_in_flight": 3, "max_uncertain": 10}  # fmt: skip
    for name, value in plain.items():
        if getattr(plan, name) != value:
            yield attrs.evolve(plan, **{name: value})


def _simpler_lives(life):
    for number in range(len(life.ops)):
        yield attrs.evolve(life, ops=_without(life.ops, number))
    plain = {"second": None, "kill": None, "stop": None, "close": None, "disk_full": None,
             "resubmit": False, "leave": "wait", "together": False, "pause": 0.0}  # fmt: skip
    for name, value in plain.items():
        if getattr(life, name) != value:
            yield attrs.evolve(life, **{name: value})
    for number, op in enumerate(life.ops):
        plain = {"wrap": None, "retries": 0, "again": "request"}
        changes = [{name: value} for name, value in plain.items() if getattr(op, name) != value]
        if len(op.items) > 1:
            changes.append({"items": op.items[:1]})
            changes.append({"items": op.items[:-1]})
        for change in changes:
            yield attrs.evolve(life, ops=_with(life.ops, number, attrs.evolve(op, **change)))


def _without(values, number):
    return values[:number] + values[number + 1 :]


def _with(values, number, value):
    return (*values[:number], value, *values[number + 1 :])


def search(first, count, report):
    """Play seeds, call `report` with each result, and return the time that it took."""
    began = time.perf_counter()
    for result in play_seeds(range(first, first + count)):
        report(result)
    return time.perf_counter() - began


def cpus():
    """How many processes may search at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
