"""The gate: who may send now. It puts the queue, the hold and what was learned together."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from seedance_async.api.backoff import Backoff
from seedance_async.api.rate_limit.hold import Hold
from seedance_async.api.rate_limit.learned import Learned
from seedance_async.api.rate_limit.queue import WaitingLine, was_let_in
from seedance_async.api.rate_limit.state import GateState

#: Seconds by which a timer may fire early.
_EARLY = 1e-6


class Gate:
    """Admits at most `most` callers at once, and no more than the server's limits allow.

    A refusal by the server (429) concerns every caller, so it is reported here once instead of each
    caller meeting its own: `refused` holds the gate for the delay that the server asked for, or for
    a growing delay of our own. Then one caller goes first, and the others follow once its call was
    accepted. What limit there is, if any, is inferred by `Learned`.

    `shut` fails every caller for a while, those waiting included; `fail_overdue` fails those who
    have waited for too long.

    Attributes:
        trouble: until when the gate is held, and since when the service is in trouble.
        counts_jobs: whether each accepted call starts a job whose end `job_ended` reports. Without
            it, no limit on concurrent jobs can be learned.
        refusals: how many there were.
        on_change: called with the state when a long hold begins or is over, and when a limit is
            found, moves or is forgotten.

    Args:
        most: callers inside at once.
        backoff: our own delays, for consecutive refusals.
        rng: the source of jitter.
        at_first: callers inside at once to begin with; accepted calls make room for more. All of
            them may be refused, or left in doubt by a kill. By default as many as later.
    """

    def __init__(
        self, most: int, backoff: Backoff, rng: random.Random, *, at_first: int | None = None
    ) -> None:
        self._inside = self._running = 0
        self._line = WaitingLine()
        self.trouble = Hold(most, at_first or most, backoff, rng)
        self._learned = Learned(slowest=1 / backoff.maximum)
        self._timer: asyncio.TimerHandle | None = None
        self.counts_jobs, self.refusals = False, 0
        self.on_change: Callable[[GateState], None] | None = None
        self._told = GateState()

    def __repr__(self) -> str:
        jobs = f", {self._running} running" if self.counts_jobs else ""
        width = int(self.trouble.width)
        return f"<Gate {self._inside}/{width} inside{jobs}, {len(self._line)} waiting>"

    def state(self) -> GateState:
        """What it does now. Without a running event loop nobody is held."""
        try:
            held_for = max(0.0, self.trouble.until - asyncio.get_running_loop().time())
        except RuntimeError:
            held_for = 0.0
        learned = self._learned
        rate, jobs = learned.rate.found, learned.jobs.found
        return GateState(
            held_for,
            None if rate == math.inf else rate,
            None if jobs == math.inf else int(jobs),
            learned.noise.share,
        )

    # --- entering and leaving ---------------------------------------------------------------

    def try_enter(self) -> bool:
        """Enter without a look at the limits, where none is known; whether that was possible."""
        fits = self._inside + 1 <= self.trouble.width and not self.trouble.untried
        enters = fits and (not self.refusals or self._learned.is_nothing)
        self._inside += enters
        return enters

    async def wait_and_enter(self, waiting_since: float) -> None:
        """Enter with a bounded wait: `fail_overdue` counts it from `waiting_since`.

        Who has entered leaves by `leave`.
        """
        place = self._line.join(waiting_since)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if was_let_in(place):
                self.leave()
            raise

    def leave(self) -> None:
        """A call that entered is over."""
        self._inside -= 1
        self._admit()

    async def pause(self, seconds: float) -> None:
        """Wait outside for this long; if the gate is shut, or is meanwhile, raise its error."""
        await self._line.pause(seconds)

    # --- outcomes of calls and jobs ---------------------------------------------------------

    def passed(self) -> None:
        """The server accepted a call."""
        now, late = asyncio.get_running_loop().time(), self.trouble.untried
        self._running += self.counts_jobs
        self._learned.rate.accepted(now, pressed=self._line.is_pressed)
        if self.refusals:
            others, eased = self._inside - 1, self.trouble.is_narrow
            self._learned.accepted(self._running, others, now, late=late, eased=eased)
        self.trouble.accepted(late=late)
        if not late and (self.refusals or self._told.held_for):  # else there is nothing to tell
            self._tell()

    def answered(self) -> None:
        """The server answered, whatever the answer."""
        self.trouble.failing_since = math.inf

    def job_ended(self) -> None:
        """A job has ended that an accepted call started, or that `job_started` reported."""
        self._running = max(0, self._running - 1)
        self._admit()

    def job_started(self) -> None:
        """A job is running that was started elsewhere, or earlier."""
        self._running += 1

    def refused(self, server_delay: float) -> bool:
        """The server refused a call and asks for a delay in seconds, or 0.

        Returns whether everybody is held now. If not, the refusal concerns that call alone.
        """
        now, late = asyncio.get_running_loop().time(), self.trouble.untried
        self.refusals += 1
        self.trouble.refused(now)
        others, eased = self._inside - 1, self.trouble.is_narrow
        if not self._learned.refused(self._running, others, now, late=late, eased=eased):
            return False
        self.hold(max(1 / self._learned.rate.found, self.trouble.delay(), server_delay))
        return True

    def failed(self) -> None:
        """A call did not get through, for whatever reason.

        A single failure changes nothing. From the second in a row on everybody waits and one
        caller goes first, so that an outage is met by one call at a time and not by all callers.
        """
        delay = self.trouble.failed(asyncio.get_running_loop().time())
        if delay:
            self.hold(delay)

    def hold(self, seconds: float) -> None:
        """Admit nobody for at least this long, and then one caller first."""
        self.trouble.begin(asyncio.get_running_loop().time() + seconds)
        self._tell()

    def shut(self, error: Exception, seconds: float) -> None:
        """Fail everyone waiting, and everyone who comes in this time, with a copy of `error`."""
        self.trouble.begin(asyncio.get_running_loop().time() + seconds)
        self._line.close(error, self.trouble.until)

    def fail_overdue(self, error: Exception, timeout: float, trouble_since: float) -> None:
        """Fail the calls whose wait will exceed their timeout before the gate opens again.

        Args:
            error: each call raises a copy of it.
            timeout: seconds that a call may wait while the service is in trouble.
            trouble_since: when that began; a wait before it does not count.
        """
        opens = max(self.trouble.until, asyncio.get_running_loop().time())
        self._line.reject_since(opens - timeout, error, trouble_since)

    def _tell(self) -> None:
        state = self.state()
        is_shut = state.held_for == math.inf
        if self.on_change is not None and not is_shut and state.differs(self._told):
            self._told = state
            self.on_change(state)

    def _admit(self) -> None:
        """Let in everyone for whom there is room now, and come again when time makes room."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._line and self._inside + 1 <= self.trouble.width:
            loop = asyncio.get_running_loop()
            now = loop.time()
            by_limits = self._learned.wait(self._running, self._inside, now)
            wait = max(self.trouble.until - now, by_limits)
            if wait > _EARLY:
                if wait < math.inf:
                    self._timer = loop.call_at(now + wait, self._admit)
                return
            self._inside += 1
            self.trouble.untried = False
            self._learned.rate.spend(now)
            self._line.let_one_in()
