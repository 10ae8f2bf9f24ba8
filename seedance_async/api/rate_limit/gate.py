"""The gate: who may send now, and how it learns the server's limits from refusals."""

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
from seedance_async.api.rate_limit.learned import LearnedJobLimit, LearnedRate

#: After a hold, each accepted call makes room for one more caller up to this many, and beyond that
#: for a quarter of one: at the next refusal, all callers inside may be refused.
QUICK_WIDTH = 8

#: How many jobs may have ended without our knowing: this many, or this share of those running.
UNSEEN_ENDS, UNSEEN_SHARE = 3, 0.25

#: If the gate was open for this many seconds and nobody tried, then the event loop was blocked or
#: nobody had anything to send: that time does not count as trouble of the service.
STANDSTILL = 330.0

#: Seconds by which a timer may fire early.
_EARLY = 1e-6


class Gate:
    """Admits at most `most` callers at once, and no more than the server's limits allow.

    A refusal by the server (429) concerns every caller, so it is reported here once instead of each
    caller meeting its own: `refused` holds the gate for the delay that the server asked for, or for
    a growing delay of our own. Then one caller goes first, and the others follow once its call was
    accepted.

    The server's limit, a rate or a number of concurrent jobs, is inferred from what helped after a
    refusal: time alone means a rate, the end of a job means a job limit. From then on calls are
    spaced to that rate and kept below that number, and now and then the gate tries a little more.

    `shut` fails every caller for a while, those waiting included; `fail_overdue` fails those who
    have waited for too long.

    ```
    async with gate: ...  # waits for as long as it takes
    async with gate.enter(waiting_since=began): ...  # `fail_overdue` may fail it
    ```

    Attributes:
        counts_jobs: whether each accepted call starts a job whose end `job_ended` reports. Without
            it, no limit on concurrent jobs can be learned.
        refusing_since: when the refusals began, if no call was accepted since; else inf.
        failing_since: when calls began to fail, if no answer of any kind came since; else inf.
        refusals: how many there were.

    Args:
        most: callers inside at once.
        backoff: our own delays, for consecutive refusals.
        rng: the source of jitter.
    """

    def __init__(self, most: int, backoff: Backoff, rng: random.Random) -> None:
        self._most, self._width = most, float(most)
        self._inside = 0
        self.counts_jobs = False
        self._running = 0
        self._backoff, self._rng = backoff, rng
        self._troubles_in_a_row = 0
        self._rate = LearnedRate(slowest=1 / backoff.maximum)
        self._jobs = LearnedJobLimit()
        self._refused: _Refusals | None = None
        self._held_until = -math.inf
        self._calm = True  # whether `most` is the only limit
        self._delayed = False  # whether the last caller admitted had to wait
        self._still = False  # whether nobody was admitted since the last hold
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
        jobs = f", {self._running} running" if self.counts_jobs else ""
        return f"<Gate {self._inside}/{int(self._width)} inside{jobs}, {waiting} waiting>"

    @property
    def rate(self) -> float | None:
        """Calls a second that the server seems to allow; None while no such limit is known."""
        return self._rate.pace

    @property
    def limit(self) -> int | None:
        """Concurrent jobs that the server seems to allow; None while no such limit is known."""
        return self._jobs.limit

    @property
    def opens_at(self) -> float:
        """When the next call may be sent at the earliest, by the event loop's clock."""
        return self._held_until

    # --- entering and leaving ---------------------------------------------------------------

    async def __aenter__(self) -> None:
        await self.wait_and_enter(math.inf)

    @asynccontextmanager
    async def enter(self, waiting_since: float) -> AsyncIterator[None]:
        """Enter with a bounded wait: `fail_overdue` counts it from `waiting_since`."""
        await self.wait_and_enter(waiting_since)
        try:
            yield
        finally:
            self.leave()

    async def wait_and_enter(self, waiting_since: float) -> None:
        """As `enter`, for a caller that leaves by `leave`."""
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
        self._waiting.append((place, waiting_since))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave()
            else:
                self._admit()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    async def pause(self, seconds: float) -> None:
        """Wait outside for this long; if the gate is shut, or is meanwhile, raise its error."""
        loop = asyncio.get_running_loop()
        if self._shut_error is not None and loop.time() < self._shut_until:
            raise copy.copy(self._shut_error)
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _finish, pause)
        self._pausing.add(pause)
        try:
            await pause
        finally:
            timer.cancel()
            self._pausing.discard(pause)

    # --- outcomes of calls and jobs ---------------------------------------------------------

    def passed(self) -> None:
        """The server accepted a call."""
        self.refusing_since = self.failing_since = math.inf
        self._running += 1
        self._rate.accepted(pressed=self._delayed or bool(self._waiting))
        if self._calm:
            self._troubles_in_a_row = 0
            return
        self._jobs.accepted(self._running, self._inside - 1, asyncio.get_running_loop().time())
        if self._still:  # it was sent before the hold, so it does not show that the hold helped
            if self._refused is not None:
                self._refused.accepted_late(self._running)
            return
        if self._refused is not None and self._judge(self._refused):
            self._refused = None
        self._troubles_in_a_row = 0
        self._widen()
        self._admit()

    def answered(self) -> None:
        """The server answered, whatever the answer."""
        self.failing_since = math.inf

    def job_ended(self) -> None:
        """A job has ended that an accepted call started, or that `job_started` reported."""
        self._running = max(0, self._running - 1)
        self._admit()

    def job_started(self) -> None:
        """A job is running that was started elsewhere, or earlier."""
        self._running += 1

    def refused(self, server_delay: float) -> None:
        """The server refused a call and asks for a delay in seconds, or 0."""
        now = asyncio.get_running_loop().time()
        self.refusing_since = self._trouble_since(self.refusing_since, now)
        self.failing_since = math.inf
        first = self._refused is None
        if self._refused is None:
            self._refused = _Refusals(now, self._running)
            self._rate.refused(now)
        self._refused.add(self._running, concurrent=self._still)
        limit = self._jobs.limit
        self._jobs.refused(self._running, now, first=first)
        self.refusals += 1
        self._count_trouble()
        self.hold(max(self._delay_after_refusal(limit), server_delay))

    def failed(self) -> None:
        """A call did not get through, for whatever reason.

        A single failure changes nothing. From the second in a row on everybody waits and one
        caller goes first, so that an outage is met by one call at a time and not by all callers.
        """
        now = asyncio.get_running_loop().time()
        self.failing_since = self._trouble_since(self.failing_since, now)
        self._count_trouble()
        if self._troubles_in_a_row > 1:
            self.hold(self._own_delay())

    def hold(self, seconds: float) -> None:
        """Admit nobody for at least this long, and then one caller first."""
        self._held_until = max(self._held_until, asyncio.get_running_loop().time() + seconds)
        self._width = 1.0
        self._calm, self._still = False, True

    def shut(self, error: Exception, seconds: float) -> None:
        """Fail everyone waiting, and everyone who comes in this time, with a copy of `error`."""
        self.hold(seconds)
        self._shut_error, self._shut_until = error, self._held_until
        _reject((*(place for place, _ in self._waiting), *self._pausing), error)
        self._waiting.clear()

    def fail_overdue(self, error: Exception, timeout: float, trouble_since: float) -> None:
        """Fail the calls whose wait will exceed their timeout before the gate opens again.

        Args:
            error: each call raises a copy of it.
            timeout: seconds that a call may wait while the service is in trouble.
            trouble_since: when that began; a wait before it does not count.
        """
        opens = max(self._held_until, asyncio.get_running_loop().time())
        waiting = list(self._waiting)
        _reject(
            (place for place, since in waiting if opens - max(since, trouble_since) > timeout),
            error,
        )

    # --- inferring the limit ----------------------------------------------------------------

    def _judge(self, refusals: _Refusals) -> bool:
        """A call was accepted again: learn from what helped. Returns whether that is clear yet."""
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
        """Whether the end of a job ended the refusals, and not time.

        None where it may have been either: a poll reports the end of a job only later. The next
        calls show it: either that end is reported, or more calls are accepted than jobs can have
        ended without our knowing.
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
        """Count a refusal or a failure; those of concurrent calls count once."""
        if not self._still:
            self._troubles_in_a_row += 1

    def _own_delay(self) -> float:
        return self._backoff.delay(max(0, self._troubles_in_a_row - 1), self._rng)

    def _delay_after_refusal(self, limit: int | None) -> float:
        if limit is not None and self._running:
            # This waits for the end of a job, not for time to pass.
            return 0.0 if self._running >= limit else self._backoff.delay(0, self._rng)
        pace = self._rate.pace
        if pace is None:
            return self._own_delay()
        one_call = 1 / pace
        return one_call if self._troubles_in_a_row <= 1 else max(one_call, self._own_delay())

    # --- admitting --------------------------------------------------------------------------

    def _widen(self) -> None:
        if self._rate.pace is not None:  # the rate alone spaces the calls
            self._width = self._most
        else:
            step = 1.0 if self._width < QUICK_WIDTH else 0.25
            self._width = min(self._most, self._width + step)
            self._calm = self._width == self._most and self._jobs.limit is None

    def _opens_in(self, now: float) -> float:
        """Seconds until one more caller may enter; inf if time alone does not help."""
        if self._inside + 1 > self._width:
            return math.inf
        jobs = self._jobs.wait(self._running + self._inside, self._inside, now)
        return max(self._held_until - now, self._rate.wait(now), jobs)

    def _enter(self, now: float, *, delayed: bool) -> None:
        self._inside += 1
        self._delayed, self._still = delayed, False
        self._rate.spend(now)

    def leave(self) -> None:
        """A call that entered is over."""
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
    """Consecutive refusals, until it is clear what ended them.

    Args:
        since: when the first came.
        full_with: jobs running at the first.
        running: jobs running at the last.
        rounds: how many came; those of concurrent calls count once.
    """

    since: float
    full_with: int
    running: int = 0
    rounds: int = 0

    def add(self, running: int, *, concurrent: bool) -> None:
        """Count one more."""
        self.running = running
        self.rounds += not concurrent

    def accepted_late(self, running: int) -> None:
        """A call sent before the refusal was accepted; this many jobs are running now."""
        self.running = running
        if self.rounds <= 1:
            self.full_with = running

    def may_have_ended_unseen(self, running: int) -> bool:
        """Whether the jobs above `full_with` can be jobs that ended without our knowing."""
        most = max(UNSEEN_ENDS, UNSEEN_SHARE * self.full_with)
        return running - self.full_with <= most


_Place = tuple[asyncio.Future[None], float]  # and since when its call has been waiting


def _reject(places: Iterable[asyncio.Future[None]], error: Exception) -> None:
    for place in places:
        if not place.done():
            place.set_exception(copy.copy(error))


def _finish(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
