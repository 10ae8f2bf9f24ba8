"""A process of a universe: an event loop on the universe's clock, which can be killed or stopped.

The loop runs one turn at a time, so that several processes share one clock. A killed process
changes nothing any more, neither the disk nor the server nor the log; what its tasks do while they
are torn down is seen by nobody.
"""

import asyncio
import contextlib
import itertools
import math
import selectors

_numbers = itertools.count()


class _Task(asyncio.Task):
    """A task whose place in a set is the same in every run."""

    def __init__(self, *arguments, **named):
        self._hash = next(_numbers)
        super().__init__(*arguments, **named)

    def __hash__(self):
        return self._hash

    __eq__ = object.__eq__


class _Future(asyncio.Future):
    """A future whose place in a set is the same in every run."""

    def __init__(self, *, loop):
        self._hash = next(_numbers)
        super().__init__(loop=loop)

    def __hash__(self):
        return self._hash

    __eq__ = object.__eq__


class _OneTurn(selectors.BaseSelector):
    """Waits for nothing, notes for how long the loop would have waited, and stops the loop."""

    def __init__(self):
        self.loop, self.wait, self._files = None, 0.0, {}

    def register(self, fileobj, events, data=None):
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = selectors.SelectorKey(fileobj, number, events, data)
        self._files[fileobj] = key
        return key

    def unregister(self, fileobj):
        return self._files.pop(fileobj)

    def get_map(self):
        return self._files

    def select(self, timeout=None):
        self.wait = math.inf if timeout is None else timeout
        self.loop.stop()
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, process):
        self.process = process
        self.turns = _OneTurn()
        super().__init__(self.turns)
        self.turns.loop = self
        self._tasks = []
        self.set_task_factory(self._make_task)
        self.set_exception_handler(process.note_loop_error)

    def time(self):
        return self.process.time()

    def create_future(self):
        return _Future(loop=self)

    def tasks(self):
        """Those that are not done; `asyncio.all_tasks` looks at those of all universes."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return self._tasks

    def _make_task(self, _, coro, **named):
        self._tasks.append(_Task(coro, loop=self, **named))
        return self._tasks[-1]


class Process:
    """One process: runs `main(process)` until it is over, and then ends as `asyncio.run` would.

    Args:
        world: the universe.
        life: its part of the plan.
        starts: when, on the universe's clock.
        main: a coroutine function.
    """

    def __init__(self, world, life, starts, main):
        self.world, self.life, self.starts = world, life, starts
        self.alive, self.finished = True, False
        self.exiting = self.closing = False  # as `asyncio.run` ends; in the middle, for good
        self.ended_by = None
        self.killed_at = math.inf
        self.wake = starts
        self.stopped_until = -math.inf
        self.last_ran = -math.inf
        self.effects = self.turns = 0
        self.seen = []  # what the program has in its hands: lost when it is killed
        self.problems = []
        self.session_open = self.exiting_early = False
        self._late = 0.0
        self._generators_closed = False
        self._main, self.task = main, None
        self.loop = _Loop(self)
        if life.kill is not None and life.kill[0] == "time":
            world.at(starts + life.kill[1], self.die)

    @property
    def number(self):
        """Its number among the processes, from 1 on."""
        return self.world.processes.index(self) + 1

    def __repr__(self):
        return f"process {self.number}"

    def time(self):
        return self.world.clock + self._late

    # --- running ----------------------------------------------------------------------------

    def ready_at(self):
        """When it has something to do next."""
        return max(self.wake, self.stopped_until)

    def poke(self):
        """Something from outside has happened to it."""
        self.wake = min(self.wake, self.world.clock)

    def step(self):
        """One turn of its loop."""
        if self.task is None:
            self.task = self.loop.create_task(self._main(self))
        self._check_plan()
        if self.alive and self.stopped_until > self.world.clock:
            return
        self.last_ran = self.world.clock
        self.turns += 1
        if self.alive:
            self._turn()
        if not self.alive:
            self._bury()
        elif self.exiting and not self._tasks_left():
            self._close()
        elif not self.exiting and self.task.done():
            self._exit()

    def _turn(self):
        self.world.current = self
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            self.ended_by, self.exiting_early = error, True
            self._exit()
        finally:
            self.world.current = None
        wait = self.loop.turns.wait
        self.wake = self.time() + wait

    def _exit(self):
        """As at the end of `asyncio.run`: cancel what is left, and let it end."""
        self.exiting = True
        self.poke()
        for task in self.loop.tasks():
            task.cancel()

    def _tasks_left(self):
        """The tasks that still run: when there are none, those that close async generators."""
        left = self.loop.tasks()
        if not left and not self._generators_closed:
            self._generators_closed = True
            left = [self.loop.create_task(self.loop.shutdown_asyncgens())]
            self.poke()
        return left

    def _close(self):
        if self.task.done() and not self.task.cancelled() and not self.closing:
            self.ended_by = self.ended_by or self.task.exception()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.loop.close()
        self.finished = True

    # --- what the plan does to it -----------------------------------------------------------

    def _check_plan(self):
        age = self.world.clock - self.starts
        if _is_due(self.life.kill, turn=self.turns):
            self.die()
        stop = self.life.stop
        if stop is not None and age >= stop[0] and self.stopped_until < 0:
            self.stopped_until = self.world.clock + stop[1]
        close = _is_due(self.life.close, turn=self.turns, effect=self.effects, time=age)
        if close and self.alive and not self.exiting:
            self._close_loop()

    def effect(self):
        """Something is about to be, or just was, seen outside. Returns whether it still lives."""
        if self.alive:
            self.effects += 1
            if _is_due(self.life.kill, effect=self.effects):
                self.die()
        return self.alive

    def die(self):
        """Be killed: from now on nobody sees anything of it."""
        if self.finished or not self.alive:
            return
        self.alive = False
        self.killed_at = self.wake = self.world.clock
        self.stopped_until = min(self.stopped_until, self.world.clock)
        self.world.disk.died(self)

    def _bury(self):
        """End the tasks of a killed process, on a clock of its own."""
        for _ in range(100):
            left = self._tasks_left()
            if not left:
                break
            for task in left:
                task.cancel()
            self._turns_after_death()
        else:
            raise AssertionError(f"tasks outlive their process: {self.loop.tasks()}")
        self._close()

    def _turns_after_death(self):
        for _ in range(5):
            self._turn()
            if self.loop.turns.wait == math.inf:
                return
            self._late += self.loop.turns.wait

    def _close_loop(self):
        """Leave the loop for good in the middle: each coroutine sees a GeneratorExit.

        That comes while another loop runs, as it does where garbage is collected.
        """
        self.world.current, self.closing = self, True
        asyncio.run(self._close_coroutines())
        self.world.current = None
        self.world.disk.flush(self)
        self.die()

    async def _close_coroutines(self):
        for task in self.loop.tasks():
            with contextlib.suppress(Exception):  # such as when it awaits something once more
                task.get_coro().close()
        strangers = asyncio.all_tasks() - {asyncio.current_task()}
        if strangers:
            self.problems.append(f"tasks are started in a loop of somebody else: {strangers}")

    def note_loop_error(self, loop, context):
        """The loop's handler of what nobody else handles."""
        error, message = context.get("exception"), context["message"]
        gone = "never retrieved" in message or "was destroyed" in message
        if self.alive and not gone and not self.exiting:
            self.problems.append(f"the loop reports: {message}: {error!r}")


def _is_due(when, **now):
    """Whether what the plan has for then ("effect" | "turn" | "time", number) is due."""
    return when is not None and when[0] in now and now[when[0]] >= when[1]
