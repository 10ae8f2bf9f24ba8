"""Distortions: owns what a fault does to the JSON of an otherwise true answer."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from .answers import Answer
from .faults import Fault
from .jobs import Jobs

EVIL_IDS = (
    "../../outside",
    "/etc/outside",
    "nul\0byte",
    "CON",
    "a" * 300,
    "space and ümlaut",
    "..%2f..%2foutside",
    "back\\..\\slash",
    "new\nline",
)
"""Request ids that must not become file names or parts of a URL as they are."""

_ODD = {
    "queued": "QUEUED",
    "processing": "Processing",
    "succeeded": "Succeeded",
    "failed": "FAILED",
    "cancelled": "canceled",
}
_OPTIONAL = ("model", "prompt", "duration", "aspectRatio", "error", "data")
_BAD_CREDITS = (None, -5, 40.5, "40", True, [40])
Data = dict[str, Any]


def evil_request_id(fault: Fault | None, jobs: Jobs) -> str:
    """A hostile id that no job has yet: the fault's value, or the next of ``EVIL_IDS``."""
    given = fault.value if fault else None
    evil = str(given) if given is not None else EVIL_IDS[len(jobs) % len(EVIL_IDS)]
    return evil if evil not in jobs else f"{evil}-{len(jobs)}"


def distort(fault: Fault, answer: Answer, jobs: Jobs) -> Answer:
    """The answer with the fault in its JSON; error answers stay as they are."""
    change = _CHANGES.get(fault.kind)
    if answer.data is None or answer.status >= 300 or change is None:
        return answer
    data = deepcopy(answer.data)
    change(data, fault, jobs)
    answer.data = data
    return answer


def _missing_request_id(data: Data, fault: Fault, jobs: Jobs) -> None:
    del data["requestId"]


def _duplicate_request_id(data: Data, fault: Fault, jobs: Jobs) -> None:
    data["requestId"] = next(each for each in jobs if each != data["requestId"])


def _bad_credits(data: Data, fault: Fault, jobs: Jobs) -> None:
    value = fault.value if fault.value is not None else _BAD_CREDITS[len(jobs) % len(_BAD_CREDITS)]
    if value is None:
        del data["creditsCharged"]
    else:
        data["creditsCharged"] = value


def _unknown_status(data: Data, fault: Fault, jobs: Jobs) -> None:
    data["status"] = fault.value or "rendering"


def _odd_case(data: Data, fault: Fault, jobs: Jobs) -> None:
    data["status"] = fault.value or _ODD[data["status"]]


def _regressed(data: Data, fault: Fault, jobs: Jobs) -> None:
    data.update(status="processing", output=None, error=None)


def _extra_fields(data: Data, fault: Fault, jobs: Jobs) -> None:
    data.update(fault.value or {"progress": 0.5, "trace": {"region": "eu", "hops": [1, None]}})


def _missing_fields(data: Data, fault: Fault, jobs: Jobs) -> None:
    for name in _OPTIONAL:
        data.pop(name, None)


def _null_fields(data: Data, fault: Fault, jobs: Jobs) -> None:
    data.update({name: None for name in _OPTIONAL if name in data})


_CHANGES: dict[str, Callable[[Data, Fault, Jobs], None]] = {
    "missing_request_id": _missing_request_id,
    "duplicate_request_id": _duplicate_request_id,
    "bad_credits": _bad_credits,
    "unknown_status": _unknown_status,
    "odd_case": _odd_case,
    "regressed": _regressed,
    "extra_fields": _extra_fields,
    "missing_fields": _missing_fields,
    "null_fields": _null_fields,
}
