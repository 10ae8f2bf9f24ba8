"""One job as a journal knows it, and the rules for what may stand in an entry.

The rules are checked before anything is written and after anything is read: an entry that exists
keeps them. Nothing here does I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypedDict

import attrs

from seedance_async.api.errors import JournalError

#: The states of a job that a journal records; a job that was never sent is in none.
STATES = frozenset(
    {"submitting", "queued", "processing", "succeeded", "failed", "cancelled"}
    | {"rejected", "uncertain", "abandoned"}
)
#: The states from which a job may be submitted anew, if who asks for it says so.
RECLAIMABLE = frozenset({"submitting", "rejected", "uncertain"})

_MAX_WHOLE_NUMBER = 2**63 - 1  # what SQLite and Postgres hold


@attrs.frozen
class JournalEntry:
    """One job as the journal knows it.

    Attributes:
        key: who claims to have sent it; unique in the journal.
        fingerprint: of the request, see `fingerprint`.
        request: the request as JSON text, as `dump_request` gives it.
        state: the value of a `JobState`, but never "pending".
        request_id: the server's id once the job is accepted; unique in the journal.
        credits_charged: as the server told; None where it is not known.
        credits_reserved: what a spend guard had set aside for the job.
        credits_doubtful: what earlier submits of it, each of an unknown outcome, may have cost.
        error: what went wrong, in words.
        path, size, sha256: of the downloaded file.
        created_at, updated_at: wall clock, seconds since the epoch; for people, not for order.
    """

    key: str
    fingerprint: str
    request: str = attrs.field(repr=False)
    state: str = "submitting"
    request_id: str | None = None
    credits_charged: int | None = None
    credits_reserved: int | None = None
    credits_doubtful: int | None = None
    error: str | None = None
    path: str | None = None
    size: int | None = None
    sha256: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0


class Changes(TypedDict, total=False):
    """What may be changed of an entry; a field that is not named stays as it is."""

    state: str
    request_id: str | None
    credits_charged: int | None
    credits_reserved: int | None
    credits_doubtful: int | None
    error: str | None
    path: str | None
    size: int | None
    sha256: str | None


FIELDS = tuple(field.name for field in attrs.fields(JournalEntry))
_NUMBERS = frozenset({"credits_charged", "credits_reserved", "credits_doubtful", "size"})
_TIMES = frozenset({"created_at", "updated_at"})
_REQUIRED = frozenset({"key", "fingerprint", "request", "state"})


def new_intent(
    key: str,
    *,
    fingerprint: str,
    request: str,
    credits_reserved: int | None,
    now: float,
    journal: str | None,
) -> JournalEntry:
    """The entry that a claim makes. Raises JournalError for a value that cannot be recorded."""
    values = {"key": key, "fingerprint": fingerprint, "request": request}
    given = checked({**values, "credits_reserved": credits_reserved}, journal=journal)
    return JournalEntry(**given, created_at=now, updated_at=now)


def fresh_intent(
    expected: str,
    *,
    credits_reserved: int | None,
    credits_doubtful: int | None,
    journal: str | None,
) -> dict[str, Any]:
    """The changes that make an entry in the state `expected` a fresh intent again.

    Raises:
        JournalError: a job in that state must not be submitted anew, whatever the caller wishes.
    """
    if expected not in RECLAIMABLE:
        words = f"expected must be one of {', '.join(sorted(RECLAIMABLE))}, not {expected!r}"
        raise JournalError(words, path=journal)
    credits = {"credits_reserved": credits_reserved, "credits_doubtful": credits_doubtful}
    given = checked(credits, journal=journal)
    return dict.fromkeys(Changes.__annotations__) | {"state": "submitting"} | given


def checked_changes(changes: Mapping[str, Any], *, journal: str | None) -> dict[str, Any]:
    """The changes as plain values.

    Raises:
        TypeError: a name that is none of `Changes`.
        JournalError: a value that cannot be recorded.
    """
    unknown = changes.keys() - Changes.__annotations__.keys()
    if unknown:
        raise TypeError(f"no fields of a journal entry to change: {', '.join(sorted(unknown))}")
    return checked(changes, journal=journal)


def checked_key(key: str, *, journal: str | None) -> str:
    """The key as plain text. Raises JournalError if it cannot be one."""
    return str(checked({"key": key}, journal=journal)["key"])


def entry_from_values(values: Mapping[str, Any], *, journal: str | None) -> JournalEntry:
    """An entry from the values of all its fields, as they were read.

    Raises:
        JournalError: a value is not what it must be; names the key and the field.
    """
    about = f"the entry with key {_short(values['key'])} is damaged: "
    return JournalEntry(**checked(values, journal=journal, about=about))


def checked(values: Mapping[str, Any], *, journal: str | None, about: str = "") -> dict[str, Any]:
    """Values of an entry's fields as plain text, numbers and None.

    Args:
        values: by field.
        journal: the file, for the error.
        about: put before the reason.

    Raises:
        JournalError: a value that cannot be recorded; names the field, and carries the request
            id that is among the values.
    """
    try:
        return {name: _checked(name, value) for name, value in values.items()}
    except ValueError as error:
        request_id = values.get("request_id")
        lost = request_id if isinstance(request_id, str) and not about else None
        raise JournalError(f"{about}{error}", path=journal, request_id=lost) from None


def _checked(name: str, value: object) -> str | int | float | None:
    if name in _TIMES:
        return _time(name, value)
    if value is None and name not in _REQUIRED:
        return None
    if name in _NUMBERS:
        return _whole_number(name, value)
    text = _text(name, value)
    if name == "state" and text not in STATES:
        raise ValueError(f"state must be one of {', '.join(sorted(STATES))}, not {_short(text)}")
    return text


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {type(value).__name__}")
    text = str.__str__(value)  # of a StrEnum its plain value
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds a lone surrogate, which no file can store") from None
    return text


def _whole_number(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, not {type(value).__name__}")
    if not 0 <= value <= _MAX_WHOLE_NUMBER:
        raise ValueError(f"{name} must be from 0 to 2**63 - 1")
    return int(value)


def _time(name: str, value: object) -> float:
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"{name} must be seconds since the epoch")
    return value


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
