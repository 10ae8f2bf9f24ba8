"""The gate: who may send now, and how it learns what the server grants."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from types import TracebackType

import attrs

from seedance_async.api.backoff import Backoff
from seedance_async.api.rate_limit.learned import GrantedJobs, GrantedRate

#: Callers inside up to which the gate opens by one for each call taken after a hold, and then by
#: a quarter: at the next refusal, all that are inside may be refused.
QUICK_WIDTH = 8

#: How many jobs may have ended without being known to: so many, or this share of those running.
UNSEEN_ENDS, UNSEEN_SHARE = 3, 0.25

#: Seconds after which, nothing having been tried though the gate was open, the loop has stood still
#: or nothing was asked for: that is no time in which the service was in trouble.
STANDSTILL = 330.0

#: Seconds by which a timer may be early.
_EARLY = 1e-6


class Gate:
    """At most `most` callers inside, and no more than the server grants.

    A refusal by the server (429) concerns every caller, so it is told here once instead of being
    found out by each: `refused` holds the gate until the server's delay, or a growing one of our
    own, is over. Then one caller goes first, and the others follow when it has come through.

    What the server grants, a rate or a number of jobs at once, is learnt from what helped after
    a refusal: if time alone did, it was the rate; if it took a job's end, the jobs. From then on
    calls are spaced by that rate and kept under that number, and a little more is tried rarely.

    `shut` turns everyone away with an error for a while, those waiting too; `turn_away` those who
    have waited in vain for too long.

    ```
    async with gate: ...  # waits for as long as it takes
    async with gate.since(began): ...  # may be turned away
    ```

    Attributes:
        counts_jobs: whether each call that is taken begins a job, and `freed` tells of its end.
            Without that nothing can be learnt of a limit on jobs at once.
        refusing_since: when the refusals began that no call taken has ended yet; else inf.
        failing_since: the same of calls that did not get through, and an answer of any kind.
        refusals: how many there were.

    Args:
        most: callers inside at once.
        backoff: our own delays, for refusals in a row.
        rng: the source of jitter.
    """

    def __init__(self, most: int, backoff: Backoff, rng: random.Random) -> None:
        self._most, self._width = most, float(most)
        self._inside = 0
        self.counts_jobs = False
        self._running = 0
        self._backoff, self._rng = backoff, rng
        self._troubles_in_a_row = 0
        self._rate = GrantedRate(slowest=1 / backoff.maximum)
        self._jobs = GrantedJobs()
        self._refused: _Refusals | None = None
        self._held_until = -math.inf
        self._calm = True  # whether nothing but `most` limits who is inside
        self._delayed = False  # whether the last who was let in had to wait
        self._still = False  # whether nobody has been let in since the last hold
        self._shut_until = -math.inf
        self._shut_error: Exception | None = None
        self._waiting: deque[_Place] = deque()
        self._pausing: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.refusing_since = self.failing_since = math.inf
        self._trouble_at = -math.inf  # the last refusal or failure
        self.refusals = 0

    def __repr__(self) -> str:
        waiting = sum(not place.done() for place, _ in self._waiting)
        return f"<Gate {self._inside}/{int(self._width)} inside, {waiting} waiting>"

    @property
    def rate(self) -> float | None:
        """Calls a second that the server seems to grant; None while no such limit is known."""
        return self._rate.pace

    @property
    def limit(self) -> int | None:
        """Jobs at once that the server seems to grant; None while no such limit is known."""
        return self._jobs.limit

    # --- coming and going -------------------------------------------------------------------

    async def __aenter__(self) -> None:
        await self._come(math.inf)

    @asynccontextmanager
    async def since(self, began: float) -> AsyncIterator[None]:
        """As the gate itself, for a call that began then and is not to wait for ever."""
        await self._come(began)
        try:
            yield
        finally:
            self._leave()

    async def _come(self, began: float) -> None:
        if self._calm and not self._waiting and self._inside < self._most:
            self._inside += 1
            self._delayed = False
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._shut_error is not None and now < self._shut_until:
            raise copy.copy(self._shut_error)
        if not self._waiting and self._opens_in(now) <= _EARLY:
            self._enter(now, delayed=False)
            return
        place: asyncio.Future[None] = loop.create_future()
        self._waiting.append((place, began))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._leave()
            else:
                self._admit()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    async def pause(self, seconds: float) -> None:
        """Wait outside, but no longer than the gate is open: once it is shut, raise as it does."""
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _end, pause)
        self._pausing.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pausing.discard(pause)

    # --- what became of the calls -----------------------------------------------------------

    def passed(self) -> None:
        """The server took the call of one inside."""
        self.refusing_since = self.failing_since = math.inf
        self._running += 1
        self._rate.took(pressed=self._delayed or bool(self._waiting))
        if self._calm:
            self._troubles_in_a_row = 0
            return
        self._jobs.took(self._running, self._inside - 1, asyncio.get_running_loop().time())
        if self._still:  # it went out before the hold, and does not tell that that helped
            if self._refused is not None:
                self._refused.took_late(self._running)
            return
        if self._refused is not None and self._judge(self._refused):
            self._refused = None
        self._troubles_in_a_row = 0
        self._widen()
        self._admit()

    def answered(self) -> None:
        """The server answered, whatever it was."""
        self.failing_since = math.inf

    def freed(self) -> None:
        """One of the jobs that calls have started, or that were `joined`, has ended."""
        self._running = max(0, self._running - 1)
        self._admit()

    def joined(self) -> None:
        """A job is running that was started elsewhere, or earlier."""
        self._running += 1

    def refused(self, server_delay: float) -> None:
        """The server refused the call of one inside and asks for a delay in seconds, or 0."""
        now = asyncio.get_running_loop().time()
        self.refusing_since = self._trouble_since(self.refusing_since, now)
        self.failing_since = math.inf
        first = self._refused is None
        if self._refused is None:
            self._refused = _Refusals(now, self._running)
            self._rate.refused(now)
        self._refused.add(self._running, out_together=self._still)
        limit = self._jobs.limit
        self._jobs.refused(self._running, now, first=first)
        self.refusals += 1
        self._count_trouble()
        self.hold(max(self._delay_after_refusal(limit), server_delay))

    def failed(self) -> None:
        """The call of one inside did not get through, for whatever reason.

        Once may happen. From the second in a row on everybody waits and one goes first, so that
        an outage is met by one call at a time and not by all that wait.
        """
        now = asyncio.get_running_loop().time()
        self.failing_since = self._trouble_since(self.failing_since, now)
        self._count_trouble()
        if self._troubles_in_a_row > 1:
            self.hold(self._own_delay())

    def hold(self, seconds: float) -> None:
        """Let nobody in for at least this long, and then one at first."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)
        self._width = 1.0
        self._calm, self._still = False, True

    def shut(self, error: Exception, seconds: float) -> None:
        """Turn everyone away with a copy of `error`: those waiting, and who comes meanwhile."""
        self.hold(seconds)
        self._shut_error, self._shut_until = error, self._held_until
        _reject((*(place for place, _ in self._waiting), *self._pausing), error)
        self._waiting.clear()

    def turn_away(self, error: Exception, patience: float, trouble: float) -> None:
        """Turn away those who will have waited in vain for too long before the gate opens again.

        Args:
            error: what they are given a copy of.
            patience: seconds that a call may wait in vain.
            trouble: since when nothing has helped.
        """
        opens = max(self._held_until, asyncio.get_running_loop().time())
        waiting = list(self._waiting)
        _reject(
            (place for place, began in waiting if opens - max(began, trouble) > patience), error
        )

    # --- judging ----------------------------------------------------------------------------

    def _judge(self, refusals: _Refusals) -> bool:
        """A call was taken again: learn from what has helped. Whether that is clear yet."""
        now = asyncio.get_running_loop().time()
        job_helped = self._a_job_helped(refusals, now)
        if job_helped is None:
            return False
        if job_helped:
            self._rate.dismiss()
            self._jobs.settle(refusals.running, now, certain=refusals.rounds > 2)
        else:
            self._rate.settle(now)
            self._jobs.dismiss(refusals.running)
        return True

    def _a_job_helped(self, refusals: _Refusals, now: float) -> bool | None:
        """Whether it was a job's end that ended the refusals, and not time.

        None where it may have been either: a job's end is learnt late, by its next poll. Then the
        calls to come will tell, for either the job's end is learnt of, or more are taken than can
        have ended unseen.
        """
        if not self.counts_jobs:
            return False
        before, may_be_rate = self._jobs.before, self._rate.explains(now - refusals.since)
        looks_full = before is None and refusals.rounds > 2 and not may_be_rate
        if self._running > refusals.running:
            return None if looks_full and refusals.may_have_ended_unseen(self._running) else False
        if before is None:
            return looks_full
        return refusals.running >= before or self._rate.pace is None or not may_be_rate

    def _trouble_since(self, since: float, now: float) -> float:
        quiet = now - max(self._held_until, self._trouble_at)
        self._trouble_at = now
        return now if quiet > STANDSTILL else min(since, now)

    def _count_trouble(self) -> None:
        """Count a refusal or a failure; those of calls that were out together count once."""
        if not self._still:
            self._troubles_in_a_row += 1

    def _own_delay(self) -> float:
        return self._backoff.delay(max(0, self._troubles_in_a_row - 1), self._rng)

    def _delay_after_refusal(self, limit: int | None) -> float:
        if limit is not None and self._running:
            # It is a job's end that is waited for, and not time.
            return 0.0 if self._running >= limit else self._backoff.delay(0, self._rng)
        pace = self._rate.pace
        if pace is None:
            return self._own_delay()
        one_call = 1 / pace
        return one_call if self._troubles_in_a_row <= 1 else max(one_call, self._own_delay())

    # --- letting in -------------------------------------------------------------------------

    def _widen(self) -> None:
        if self._rate.pace is not None:  # that alone keeps the calls apart
            self._width = self._most
        else:
            step = 1.0 if self._width < QUICK_WIDTH else 0.25
            self._width = min(self._most, self._width + step)
            self._calm = self._width == self._most and self._jobs.limit is None

    def _opens_in(self, now: float) -> float:
        """Seconds until one more may enter; inf if time alone does not help."""
        if self._inside + 1 > self._width:
            return math.inf
        jobs = self._jobs.wait(self._running + self._inside, self._inside, now)
        return max(self._held_until - now, self._rate.wait(now), jobs)

    def _enter(self, now: float, *, delayed: bool) -> None:
        self._inside += 1
        self._delayed, self._still = delayed, False
        self._rate.spend(now)

    def _leave(self) -> None:
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0][0].done():
                self._waiting.popleft()
                continue
            loop = asyncio.get_running_loop()
            now = loop.time()
            wait = self._opens_in(now)
            if wait > _EARLY:
                if wait < math.inf:
                    self._timer = loop.call_at(now + wait, self._admit)
                return
            self._enter(now, delayed=True)
            self._waiting.popleft()[0].set_result(None)


@attrs.define(eq=False, repr=False)
class _Refusals:
    """Refusals in a row, until it is clear what has ended them.

    Args:
        since: when the first came.
        full_with: jobs that ran then.
        running: jobs that ran at the last.
        rounds: how many came, those of calls that were out together counted once.
    """

    since: float
    full_with: int
    running: int = 0
    rounds: int = 0

    def add(self, running: int, *, out_together: bool) -> None:
        """One more."""
        self.running = running
        self.rounds += not out_together

    def took_late(self, running: int) -> None:
        """A call was taken that had gone out before the refusal; so many jobs run now."""
        self.running = running
        if self.rounds <= 1:
            self.full_with = running

    def may_have_ended_unseen(self, running: int) -> bool:
        """Whether as many may have ended, unknown to us, as run now beyond what was full."""
        most = max(UNSEEN_ENDS, UNSEEN_SHARE * self.full_with)
        return running - self.full_with <= most


_Place = tuple[asyncio.Future[None], float]  # and when its call began


def _reject(places: Iterable[asyncio.Future[None]], error: Exception) -> None:
    for place in places:
        if not place.done():
            place.set_exception(copy.copy(error))


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
