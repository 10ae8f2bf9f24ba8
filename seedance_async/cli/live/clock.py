"""Durations, paces and rates in words, as the live view and the heartbeat show them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """A duration as `1:05` or `2:03:04`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def pace(per_second: float) -> str:
    """How many jobs end in a second; if that is less than one, in a minute."""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{60 * per_second:.1f}/min"
