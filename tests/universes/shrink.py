"""Makes a plan that fails smaller: whatever can be left out is."""

import gc

import attrs

from tests.universes.run import multiverse, play

#: The values with which a part of a plan, a life or a step means nothing special.
_PLAIN_PLAN = {
    "limit": None,
    "prices": (40,),
    "ratio_costs": False,
    "webhooks": False,
    "reports_sending": True,
    "events": False,
    "max_in_flight": 3,
    "max_uncertain": 10,
}
_PLAIN_LIFE = {
    "second": None,
    "kill": None,
    "stop": None,
    "close": None,
    "disk_full": None,
    "resubmit": False,
    "leave": "wait",
    "together": False,
    "loose": False,
    "pause": 0.0,
}
_PLAIN_OP = {"wrap": None, "retries": 0, "again": "request"}


def shrink(plan, kinds):
    """A smaller plan that fails in one of these ways, too."""
    with multiverse():
        smaller = None
        while smaller != plan:
            smaller, plan = plan, _one_pass(plan, kinds)
            gc.collect()
    return plan


def _one_pass(plan, kinds):
    """Leave out one thing after the other, each of those that are left."""
    number = 0
    while number < len(candidates := list(_simpler(plan))):
        if play(candidates[number]).kinds & kinds:
            plan = candidates[number]
        else:
            number += 1
    return plan


def _simpler(plan):
    """Plans with one thing less."""
    if len(plan.lives) > 1:
        for number in range(len(plan.lives)):
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
    yield from _plainer(plan, _PLAIN_PLAN)


def _simpler_lives(life):
    for number in range(len(life.ops)):
        yield attrs.evolve(life, ops=_without(life.ops, number))
    yield from _plainer(life, _PLAIN_LIFE)
    for number, op in enumerate(life.ops):
        for simpler in _simpler_ops(op):
            yield attrs.evolve(life, ops=_with(life.ops, number, simpler))


def _simpler_ops(op):
    if len(op.items) > 1:
        yield attrs.evolve(op, items=op.items[:1])
        yield attrs.evolve(op, items=op.items[:-1])
    yield from _plainer(op, _PLAIN_OP)


def _plainer(part, plain):
    for name, value in plain.items():
        if getattr(part, name) != value:
            yield attrs.evolve(part, **{name: value})


def _without(values, number):
    return values[:number] + values[number + 1 :]


def _with(values, number, value):
    return (*values[:number], value, *values[number + 1 :])
