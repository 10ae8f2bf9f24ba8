"""Values that can be sent as text or as JSON without conversion, within bounds."""

from __future__ import annotations

import math

MAX_LEVELS = 64
MAX_VALUES = 100_000
MAX_INTEGER_BITS = 2048  # some JSON parsers, Python's among them, refuse very long integers


def is_unicode(value: str) -> bool:
    """Whether a text can be encoded, that is, contains no lone surrogate."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_json_object(value: object) -> bool:
    """Whether a value is a dict that can be written as JSON without conversion."""
    try:
        return isinstance(value, dict) and _is_json(value)
    except Exception:  # methods of the caller's own classes can raise anything
        return False


def _is_json(value: object) -> bool:
    """Whether a value can be written as JSON.

    Values are counted, because a part that is used in many places is written in each of them.
    """
    waiting = [(value, 1)]
    for _ in range(MAX_VALUES + 1):
        if not waiting:
            return True
        item, level = waiting.pop()
        if isinstance(item, (dict, list, tuple)):
            if level > MAX_LEVELS:
                return False
            if isinstance(item, dict) and not all(_is_text(key) for key in item):
                return False
            inner = item.values() if isinstance(item, dict) else item
            waiting.extend((part, level + 1) for part in inner)
        elif not _is_json_scalar(item):
            return False
    return False


def _is_json_scalar(value: object) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= MAX_INTEGER_BITS
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or _is_text(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_unicode(value)
