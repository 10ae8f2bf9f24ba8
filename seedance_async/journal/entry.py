"""One job as a journal records it, and the rules for the values that a journal holds.

The rules are checked before anything is written and after anything is read, so every entry keeps
them. Nothing here does I/O.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any, TypedDict

import attrs

from seedance_async.api.errors import JournalError
from seedance_async.api.prepared_request import load_request
from seedance_async.api.request import GenerationRequest, Kind
from seedance_async.jobs.state import JobState

_log = logging.getLogger(__name__)

#: The states that a journal records. A pending job has sent nothing, so it has no entry.
STATES = frozenset(state.value for state in JobState if state is not JobState.PENDING)

_MAX_WHOLE_NUMBER = 2**63 - 1  # what SQLite and Postgres hold


@attrs.frozen
class JournalEntry:
    """One job as the journal records it, with what its attempts add up to.

    Attributes:
        key: the job's name, unique in the journal.
        fingerprint: the request's `fingerprint`.
        request: the request as JSON text, as `dump_request` gives it.
        attempt: the number of its last attempt, which no other attempt in the journal has.
        state: the value of a `JobState`, but never "pending".
        is_held: whether another session, which is alive as far as anybody can tell, is submitting
            it at this moment.
        request_id: the server's id once the job is accepted; unique in the journal.
        origin: the API that it was submitted to; None if an earlier version recorded it.
        credits_charged: what the server says it charged, over all attempts; None where that is
            unknown.
        credits_reserved: what the credit limit reserved for the last attempt.
        credits_doubtful: what attempts with an unknown outcome may have cost.
        error: the last error's message.
        output_url: where the video was, without the part of the URL that may be secret.
        path, size, sha256: the downloaded file.
        created_at, updated_at: wall clock, seconds since the epoch. For people to read; entries
            are not ordered by them.
    """

    key: str
    fingerprint: str
    request: str = attrs.field(repr=False)
    attempt: int = 1
    state: str = JobState.SUBMITTING.value
    is_held: bool = False
    request_id: str | None = None
    origin: str | None = None
    credits_charged: int | None = None
    credits_reserved: int | None = None
    credits_doubtful: int | None = None
    error: str | None = None
    output_url: str | None = None
    path: str | None = None
    size: int | None = None
    sha256: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def is_uncertain(self) -> bool:
        """Whether nobody knows if the server accepted the job."""
        return JobState(self.state).is_unanswered and self.request_id is None


class Changes(TypedDict, total=False):
    """What is learned of an attempt after it was claimed."""

    state: str
    request_id: str | None
    credits_charged: int | None
    error: str | None
    output_url: str | None


FIELDS = tuple(field.name for field in attrs.fields(JournalEntry))
_NUMBERS = frozenset({"attempt", "credits_charged", "credits_reserved", "credits_doubtful", "size"})
_TIMES = frozenset({"created_at", "updated_at"})
_FLAGS = frozenset({"is_held"})
_REQUIRED = frozenset({"key", "fingerprint", "request", "state", "attempt"})


def kind_text(request: GenerationRequest) -> str:
    """What the price of a request is taken to depend on, as text: JSON of `request.kind`."""
    return json.dumps(request.kind)


def kind_in(text: str) -> Kind:
    """The kind that `kind_text` has written."""
    model, duration, resolution, mode, *extra = json.loads(text)
    return model, duration, resolution, mode, *extra


def request_in(entry: JournalEntry) -> GenerationRequest | None:
    """The request of an entry; None, with a warning, if it cannot be read."""
    try:
        return load_request(json.loads(entry.request))
    except ValueError as error:
        _log.warning("the journal's request of job %s cannot be read: %s", entry.key, error)
        return None


def checked_changes(changes: Mapping[str, Any], *, journal: str) -> dict[str, Any]:
    """The changes as plain values.

    Raises:
        TypeError: a name is not in `Changes`.
        JournalError: a value cannot be recorded.
    """
    unknown = changes.keys() - Changes.__annotations__.keys()
    if unknown:
        names = ", ".join(sorted(unknown))
        raise TypeError(f"fields of a journal entry that cannot be changed: {names}")
    return checked(changes, journal=journal)


def checked_key(key: str, *, journal: str) -> str:
    """The key as plain text. Raises JournalError if it cannot be recorded."""
    return str(checked({"key": key}, journal=journal)["key"])


def entry_from_values(values: Mapping[str, Any], *, journal: str) -> JournalEntry:
    """An entry from the values of all its fields, as read from the store.

    Raises:
        JournalError: a value breaks its rule; the message names the key and the field.
    """
    prefix = f"the entry with key {_short(values['key'])} is damaged: "
    return JournalEntry(**checked(values, journal=journal, prefix=prefix))


def checked(values: Mapping[str, Any], *, journal: str, prefix: str = "") -> dict[str, Any]:
    """Values of an entry's fields as plain text, numbers and None.

    Args:
        values: by field.
        journal: the journal's file, for the error.
        prefix: text before the error's reason. Where it is given, the values were read.

    Raises:
        JournalError: a value cannot be recorded. The message names the field, and the error has
            the request id that would have been recorded.
    """
    try:
        return {name: _checked(name, value) for name, value in values.items()}
    except ValueError as error:
        request_id = values.get("request_id")
        lost = request_id if isinstance(request_id, str) and not prefix else None
        raise JournalError(f"{prefix}{error}", path=journal, request_id=lost) from None


def _checked(name: str, value: object) -> str | int | float | None:
    if name in _FLAGS:
        return bool(value)
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
    text = str.__str__(value)  # the plain value of a StrEnum
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
