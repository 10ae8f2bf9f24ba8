"""For how long a gate is held, and how it opens again: to one caller first, then to more."""

from __future__ import annotations

import math
import random

from seedance_async.api.backoff import Backoff

#: Each accepted call makes room for one more caller up to this many, and beyond that for a quarter
#: of one: at the next refusal, all callers inside may be refused.
QUICK_WIDTH = 8

#: If the gate was open for this many seconds and nobody tried, then the event loop was blocked or
#: nobody had anything to send: that time does not count as trouble of the service.
STANDSTILL = 330.0


class Hold:
    """What trouble of the service means for everybody. It reads no clock and never waits.

    Attributes:
        until: nobody is admitted before.
        width: how many callers may be inside.
        untried: whether nobody was admitted since the last hold.
        refusing_since: when the refusals began, if no call was accepted since; else inf.
        failing_since: when calls began to fail, if no answer of any kind came since; else inf.

    Args:
        most: callers inside at once, at most.
        at_first: likewise, until calls were accepted.
        backoff: our own delays, for consecutive troubles.
        rng: the source of jitter.
    """

    def __init__(self, most: int, at_first: int, backoff: Backoff, rng: random.Random) -> None:
        self._most, self._backoff, self._rng = most, backoff, rng
        self.width, self.until, self.untried = float(min(most, at_first)), -math.inf, False
        self.refusing_since = self.failing_since = math.inf
        self._trouble_at = -math.inf
        self._in_a_row = 0

    @property
    def is_narrow(self) -> bool:
        """Whether less than half as many may be inside."""
        return self.width < self._most / 2

    def is_on(self, now: float) -> bool:
        """Whether everybody waits, or waits for the one who went first."""
        return self.until > now or self.untried

    def begin(self, until: float) -> None:
        """Admit nobody until then, at least, and then one caller first."""
        self.until = max(self.until, until)
        self.width, self.untried = 1.0, True

    def refused(self, now: float) -> None:
        """The server refused a call."""
        self.refusing_since = self._trouble_since(self.refusing_since, now)
        self.failing_since = math.inf

    def failed(self, now: float) -> float:
        """A call did not get through. Returns our own delay, 0 for the first in a row."""
        self.failing_since = self._trouble_since(self.failing_since, now)
        self._in_a_row += not self.untried
        return self._delay() if self._in_a_row > 1 else 0.0

    def accepted(self, *, late: bool) -> None:
        """A call was accepted; `late`: it was sent before the hold that lasts."""
        self.refusing_since = self.failing_since = math.inf
        if not late:
            self._in_a_row = 0
            self.width = min(self._most, self.width + (1.0 if self.width < QUICK_WIDTH else 0.25))

    def delay(self) -> float:
        """Our own delay for one more trouble. Those of concurrent calls count once."""
        self._in_a_row += not self.untried
        return self._delay()

    def _delay(self) -> float:
        return self._backoff.delay(max(0, self._in_a_row - 1), self._rng)

    def _trouble_since(self, since: float, now: float) -> float:
        quiet = now - max(self.until, self._trouble_at)
        self._trouble_at = now
        return now if quiet > STANDSTILL else min(since, now)
