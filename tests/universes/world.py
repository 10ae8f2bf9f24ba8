"""One universe: its clock, what is going to happen, its processes, and what their logs say."""

import heapq
import itertools
import logging
import math
import random

import attrs

from tests.universes.process import Process
from tests.universes.program import Program
from tests.universes.server import Server
from tests.universes.store import Disk

#: Seconds that a process may take, and turns of its loop: beyond, it hangs or spins.
MOST_SECONDS = 12 * 3600.0
MOST_TURNS = 60_000


@attrs.frozen
class Line:
    """One record of a log."""

    process: Process | None
    level: int
    text: str
    at: float


class World:
    """Plays a plan. What happened is in `ledger`, `lines`, `processes` and `disk` afterwards."""

    def __init__(self, plan):
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.clock = 1_000.0
        self.current = None  # the process that runs now
        self.processes, self.programs = [], []
        self.lines = []
        self.problems = []
        self._events, self._numbers = [], itertools.count()
        self.disk = Disk(self)
        self.server = Server(self)

    def at(self, time, callback):
        """Have something happen at a time of the universe's clock."""
        heapq.heappush(self._events, (time, next(self._numbers), callback))

    def log(self, record):
        """A line in the log of the process that runs now."""
        process = self.current
        if process is not None and process.alive:
            text = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                text += f" | {record.exc_info[1]!r}"
            self.lines.append(Line(process, record.levelno, text, self.clock))
            process.effect()

    def play(self):
        """Run all lives, one after the other."""
        for life in self.plan.lives:
            running = [self._process(life, self.clock)]
            if life.second is not None:
                running.append(self._process(life.second, self.clock + life.second.starts))
            self._run(running)
            self.clock += life.pause
            self._pass_events()
        self.clock += 1000.0
        self._pass_events()

    def _process(self, life, starts):
        program = Program(self, life)
        process = Process(self, life, starts, program.main)
        self.processes.append(process)
        self.programs.append(program)
        return process

    def _run(self, running):
        began, first = self.clock, len(self.problems)
        while running and len(self.problems) == first:
            self._pass_events()
            now = [process for process in running if process.ready_at() <= self.clock]
            for process in now:
                process.step()
                if process.turns > MOST_TURNS:
                    self.problems.append(f"{process} spins")
            running = [process for process in running if not process.finished]
            if running and not now:
                self._advance(running)
            if self.clock - began > MOST_SECONDS:
                self.problems.append(f"{running} hang, although time passes")
        for process in running:
            if not process.finished:
                process.die()
                process.step()

    def _advance(self, running):
        times = [process.ready_at() for process in running]
        if self._events:
            times.append(self._events[0][0])
        if min(times) == math.inf:
            self.problems.append(f"{running} wait for what can never happen")
        else:
            self.clock = max(self.clock, min(times))

    def _pass_events(self):
        while self._events and self._events[0][0] <= self.clock:
            heapq.heappop(self._events)[-1]()

    def close(self):
        """Give back what it took, and forget all: journals keep their writers, and those this."""
        self.disk.close()
        for part in (*self.processes, *self.programs, self.disk, self):
            vars(part).clear()


class Logs(logging.Handler):
    """Puts the SDK's records into the log of the universe that is being played."""

    world = None

    def emit(self, record):
        if self.world is not None:
            self.world.log(record)
