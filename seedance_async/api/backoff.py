"""Pure delay arithmetic: exponential growth, jitter, a cap; and Retry-After in both its forms.

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
    """Delays that grow: `initial`, then `multiplier` times the last, never above `maximum`.

    Args:
        initial: seconds of the first delay, above zero.
        multiplier: growth from one delay to the next, at least 1.
        maximum: seconds that no delay exceeds, at least `initial`.
        jitter: the share of each delay that is drawn at random, 0 to 1. With 1 ("full jitter") a
            delay is uniform between `floor` and its full length; with 0.1 it loses a tenth at
            the most.
        floor: seconds that no delay falls below.

    Raises:
        ValueError: a value outside its bounds; the message names it.
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
            # A float, since a whole multiplier would grow to a number of a million digits.
            return min(self.maximum, self.initial * float(self.multiplier) ** attempt)
        except OverflowError:
            return self.maximum

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Seconds before attempt number `attempt`, with jitter drawn from `rng`."""
        full = self.full_delay(attempt)
        return max(self.floor, full * (1 - self.jitter * rng.random()))


def is_finite(value: float) -> bool:
    """Whether a number is finite as a float; a whole number can be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def retry_after(value: str | None, *, date: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, or None where it says nothing usable.

    Args:
        value: the header: seconds, or an HTTP date (RFC 9110, section 10.2.3).
        date: the same answer's Date header; an HTTP date is read against it, so that a skewed
            local clock does no harm.
        now: the local wall clock, seconds since the epoch, for an answer without a usable Date.
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
        # HTTP dates are in GMT; one that does not say so must not be read as local time.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None
