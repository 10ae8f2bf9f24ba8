"""Pure delay arithmetic: exponential growth, jitter and a cap; and both forms of Retry-After.

No clock is read and nothing is awaited here.
"""

from __future__ import annotations

import math
import random
import re
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs

_SECONDS = r"[0-9]{1,12}(\.[0-9]{1,9})?"


@attrs.frozen(kw_only=True)
class Backoff:
    """Delays that grow: `initial`, then `multiplier` times the last, at most `maximum`.

    Args:
        initial: the first delay in seconds, above zero.
        multiplier: growth from one delay to the next, at least 1.
        maximum: the longest delay in seconds, at least `initial`.
        jitter: the random share of each delay, 0 to 1. With 1 ("full jitter") a delay is uniform
            between `floor` and its full length; with 0.1 it is shortened by a tenth at most.
        floor: the shortest delay in seconds.

    Raises:
        ValueError: a value is out of bounds; the message names it.
    """

    initial: float = 2.0
    multiplier: float = 1.5
    maximum: float = 30.0
    jitter: float = 0.2
    floor: float = 0.01

    def __attrs_post_init__(self) -> None:
        for name in ("initial", "multiplier", "maximum", "jitter", "floor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"Backoff.{name} must be a number, not {value!r}")
            if not is_finite(value):
                raise ValueError(f"Backoff.{name} must be finite, not {value!r:.40}")
        if self.initial <= 0:
            raise ValueError(f"Backoff.initial must be above 0: {self.initial!r}")
        if not 0 < self.floor <= self.initial:
            raise ValueError(f"Backoff.floor must be above 0 and at most initial: {self.floor!r}")
        if self.multiplier < 1:
            raise ValueError(f"Backoff.multiplier must be at least 1: {self.multiplier!r}")
        if self.maximum < self.initial:
            raise ValueError(f"Backoff.maximum must be at least initial: {self.maximum!r}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"Backoff.jitter must be between 0 and 1: {self.jitter!r}")

    def full_delay(self, attempt: int) -> float:
        """Seconds before attempt number `attempt` (0 is the first), before jitter."""
        try:
            # A float, since an integer power would grow to a million digits.
            return min(self.maximum, self.initial * float(self.multiplier) ** attempt)
        except OverflowError:
            return self.maximum

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds before attempt number `attempt`, with jitter drawn from `rng`."""
        full = self.full_delay(attempt)
        return max(self.floor, full * (1 - self.jitter * rng.random()))


def is_finite(value: float) -> bool:
    """Whether a number is finite as a float; an integer can be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def retry_after(value: str | None, *, date: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, or None if it cannot be read.

    Args:
        value: the header: seconds, or an HTTP date (RFC 9110, section 10.2.3).
        date: the Date header of the same response; an HTTP date is relative to it, so that a
            skewed local clock does no harm.
        now: the local wall clock, seconds since the epoch, for a response without a valid Date.
    """
    if value is None:
        return None
    value = value.strip()
    if re.fullmatch(_SECONDS, value):
        return float(value)
    then = _http_date(value)
    if then is None:
        return None
    sent = _http_date(date) if date is not None else None
    return max(0.0, then - (now if sent is None else sent))


def _http_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        # HTTP dates are in GMT; one without a zone must not be read as local time.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
