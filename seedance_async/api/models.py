"""What the API answers: a job, a submission, a model. Values only.

Nothing here does I/O, raises an SDK error or knows how the wire spells a field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

from seedance_async._utils.urls import redact_url


class GenerationStatus(StrEnum):
    """The status of a job according to the server.

    A status that is not documented survives as a value of this class with `is_known` false; it
    counts as not terminal, so polling continues. Case and the spelling "canceled" are
    normalised.
    """

    QUEUED = "queued"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> GenerationStatus | None:
        if not isinstance(value, str):
            return None
        folded = value.strip().lower()
        folded = "cancelled" if folded == "canceled" else folded
        known = cls._value2member_map_.get(folded)
        if isinstance(known, cls):
            return known
        unknown = str.__new__(cls, value)
        unknown._name_ = "UNKNOWN"
        unknown._value_ = value
        return unknown

    def __reduce_ex__(self, protocol: object) -> tuple[type[GenerationStatus], tuple[str]]:
        # Python 3.11.2 would look an unknown status up by its name, and there is none.
        return type(self), (self.value,)

    @property
    def is_known(self) -> bool:
        """Whether the API's pages name this status."""
        return self in type(self)._value2member_map_.values()

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended: succeeded, failed or cancelled."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {GenerationStatus.SUCCEEDED, GenerationStatus.FAILED, GenerationStatus.CANCELLED}
)


@attrs.frozen
class ErrorDetail:
    """Why a job failed, according to the server. Codes are data: they are not documented."""

    message: str
    code: str | None = None


#: Characters of a prompt from which on its beginning alone is enough to recognise it.
TRIMMED = 40


@attrs.frozen(weakref_slot=False)  # a waiting job keeps its last answer
class Generation:
    """A job as the server describes it: the answer to a query. Unknown fields are dropped.

    `poll_after` is the wait in seconds that the answer's Retry-After asked for, if there was one.
    """

    request_id: str
    status: GenerationStatus
    model: str | None = None
    prompt: str | None = None
    duration: int | None = None
    aspect_ratio: str | None = None
    output_url: str | None = attrs.field(default=None, repr=redact_url)
    output_type: str | None = None
    error: ErrorDetail | None = None
    poll_after: float | None = attrs.field(default=None, repr=False)

    def has_prompt(self, prompt: str) -> bool:
        """Whether the job was made for this prompt, which the server may have trimmed.

        White space does not count, and what the server shows may be the beginning alone, if that
        has at least 40 characters. A job without a prompt is made for none.
        """
        ours, theirs = " ".join(prompt.split()), " ".join((self.prompt or "").split())
        cut = len(theirs) >= TRIMMED and ours.startswith(theirs.rstrip("….").rstrip())
        return bool(theirs) and (ours == theirs or cut)


@attrs.frozen
class Submission:
    """The answer to a submit. `credits_charged` is None if it had no usable charge."""

    request_id: str
    status: GenerationStatus
    credits_charged: int | None = None


@attrs.frozen
class ModelInfo:
    """One entry of the list of models.

    The fields of an entry are not documented: those that could be read are here, and `raw` is the
    whole entry.

    Attributes:
        incomplete: names of the lists in which something could not be read, so that they do not
            tell what the model refuses.
    """

    id: str | None
    durations: tuple[int, ...]
    aspect_ratios: tuple[str, ...]
    resolutions: tuple[str, ...]
    pricing: Any
    raw: Mapping[str, Any] = attrs.field(repr=False, hash=False)
    incomplete: frozenset[str] = attrs.field(default=frozenset(), kw_only=True, repr=False)

    def credits_per_second(self, resolution: str) -> float | None:
        """What a second of video costs in this resolution; None if the pricing does not tell.

        The form of the pricing is not documented. It is read where it says that its unit is
        "credits_per_second" and has a number for the resolution, and is ignored otherwise.
        """
        pricing = self.pricing
        if not isinstance(pricing, Mapping) or pricing.get("unit") != "credits_per_second":
            return None
        price = pricing.get(resolution)
        if isinstance(price, bool) or not isinstance(price, (int, float)):
            return None
        return float(price) if 0 <= price < math.inf else None
