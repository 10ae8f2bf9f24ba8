"""Plays universes, by their plans or their seeds, and says what became of them."""

import contextlib
import gc
import hashlib
import logging
import secrets
import sys
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
        story: the logs, the ledger and the disk, line by line.
    """

    plan: object
    violations: tuple[str, ...]
    digest: str
    charges: int
    posts: int
    kills: int
    processes: int
    story: tuple[str, ...] = ()

    @property
    def kinds(self):
        """The kinds of its violations."""
        return {text.partition(":")[0] for text in self.violations}


#: Universes between two collections of garbage.
COLLECTED = 50

_logs = Logs()


@contextlib.contextmanager
def multiverse():
    """Within, this interpreter runs universes and nothing else."""
    with _without_warnings(), _logging(), _known_secrets(), _collecting_seldom():
        restore = use_disks()
        try:
            yield
        finally:
            restore()


@contextlib.contextmanager
def _without_warnings():
    """A killed process leaves coroutines that are never awaited."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _logging():
    """The records of the SDK, and no others, go to the universe that is played."""
    log, others = logging.getLogger("seedance_async"), logging.getLogger("asyncio")
    before = log.handlers, log.propagate, log.level, others.level
    log.handlers, log.propagate = [_logs], False
    log.setLevel(logging.INFO)
    others.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
        others.setLevel(before[3])


@contextlib.contextmanager
def _known_secrets():
    """What the SDK takes from `secrets` is drawn from the seed."""
    before = secrets.token_hex, secrets.token_urlsafe

    def token(count=32):
        return _logs.world.rng.randbytes(count).hex()

    secrets.token_hex = secrets.token_urlsafe = token
    try:
        yield
    finally:
        secrets.token_hex, secrets.token_urlsafe = before


@contextlib.contextmanager
def _collecting_seldom():
    """Garbage is collected between universes only, and says nothing of what a kill left behind."""
    before, hook = gc.isenabled(), sys.unraisablehook
    gc.disable()
    sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        while gc.collect():  # a journal that is collected lets go of its writer, and that of more
            pass
        sys.unraisablehook = hook
        if before:
            gc.enable()


def play(plan):
    """Play one plan; call it inside `multiverse`."""
    world = _logs.world = World(plan)
    try:
        try:
            world.play()
            violations = tuple(judge(world))
        except Exception as error:
            violations = (f"the universe itself: {error!r}",)
        story = tuple(_story(world))
        return Result(
            plan,
            violations,
            hashlib.sha256(repr(story).encode()).hexdigest()[:16],
            charges=len(world.server.ledger),
            posts=world.server.posts,
            kills=sum(not process.alive for process in world.processes),
            processes=len(world.processes),
            story=story,
        )
    finally:
        world.close()
        _logs.world = None


def _story(world):
    for line in world.lines:
        yield f"{line.at:9.3f} {line.process}: {logging.getLevelName(line.level)} {line.text}"
    for charge in world.server.ledger:
        yield (
            f"{charge.at:9.3f} {charge.process} was charged {charge.credits} for {charge.prompt!r},"
            f" {charge.request_id}, which it was told at {charge.told_at:.3f}; ends {charge.ends}"
        )
    for row in world.disk.rows() if world.plan.journal else ():
        yield f"on the disk: {row.key} {row.prompt!r} {row.state} {row.request_id} {row.text}"
    for program in world.programs:
        process = program.process
        yield f"{process} asked for {dict(program.asked)}, {process and process.turns} turns"
    yield f"{world.clock:9.3f} the end"


def play_seeds(seeds):
    """The results of these seeds, one after the other."""
    with multiverse():
        for number, seed in enumerate(seeds):
            yield play(make_plan(seed))
            if number % COLLECTED == 0:
                gc.collect()
