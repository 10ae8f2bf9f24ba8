"""Distortions: what a fault does to the JSON of an otherwise true answer."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from seedance_async.emulator.answers import Answer
from seedance_async.emulator.faults import Fault
from seedance_async.emulator.jobs import Jobs, SimulatedJob

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
"""Request ids that must not be used unescaped in file names or URLs."""

_ODD = {
    "queued": "QUEUED",
    "processing": "Processing",
    "succeeded": "Succeeded",
    "failed": "FAILED",
    "cancelled": "canceled",
}
_OPTIONAL = ("model", "prompt", "duration", "aspectRatio", "error", "data")
_BAD_CREDITS = (None, -5, 40.5, "40", True, [40])
_BAD_REQUEST_IDS = (None, 1234567890, ["req_1"], "", "  ", {"id": "req_1"})
_BAD_OUTPUTS: Sequence[Any] = (
    None,
    {},
    [],
    "https://media.example/video.mp4",
    {"type": "video", "url": None},
    {"type": "video", "url": "open-api-results/video.mp4"},
    {"type": "video", "url": "file:///etc/passwd"},
    {"type": "video", "url": "http://169.254.169.254/latest/meta-data"},
)
_BAD_ERRORS: Sequence[Any] = (
    None,
    "It failed",
    ["It failed"],
    {},
    {"code": 7, "message": {"text": "It failed"}},
)
Data = dict[str, Any]


def evil_request_id(fault: Fault | None, jobs: Jobs) -> str:
    """A hostile id that no job has yet: the fault's value, or the next of ``EVIL_IDS``."""
    given = fault.value if fault else None
    evil = str(given) if given is not None else EVIL_IDS[len(jobs) % len(EVIL_IDS)]
    return evil if evil not in jobs else f"{evil}-{len(jobs)}"


def can_distort(fault: Fault, job: SimulatedJob | None, jobs: Jobs) -> bool:
    """Whether the answer about this job can have the fault: some need a state, or other jobs."""
    match fault.kind:
        case "regressed":
            return job is not None and job.end_was_reported
        case "bad_output":
            return job is not None and job.status == "succeeded"
        case "bad_error":
            return job is not None and job.status == "failed"
        case "duplicate_request_id":
            return len(jobs) > 0
        case "other_job":
            return len(jobs) > 1
    return True


def distort(fault: Fault, answer: Answer, jobs: Jobs) -> Answer:
    """The answer with the fault in its JSON; error responses stay as they are."""
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
    value = _value(fault, _BAD_CREDITS, len(jobs))
    if value is None:
        del data["creditsCharged"]
    else:
        data["creditsCharged"] = value


def _bad_request_id(data: Data, fault: Fault, jobs: Jobs) -> None:
    data["requestId"] = _value(fault, _BAD_REQUEST_IDS, len(jobs))


def _bad_output(data: Data, fault: Fault, jobs: Jobs) -> None:
    data["output"] = _value(fault, _BAD_OUTPUTS, jobs[data["requestId"]].polls)


def _bad_error(data: Data, fault: Fault, jobs: Jobs) -> None:
    data["error"] = _value(fault, _BAD_ERRORS, jobs[data["requestId"]].polls)


def _trimmed_prompt(data: Data, fault: Fault, jobs: Jobs) -> None:
    prompt = data["prompt"].strip()
    data["prompt"] = prompt[: len(prompt) // 2 if fault.value is None else int(fault.value)]


def _nested(data: Data, fault: Fault, jobs: Jobs) -> None:
    inner = {name: data.pop(name) for name in list(data) if name != "success"}
    data[str(fault.value or "data")] = inner


def _value(fault: Fault, choices: Sequence[Any], number: int) -> Any:
    """The fault's value, or one of the choices, each in its turn."""
    return choices[number % len(choices)] if fault.value is None else fault.value


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
    "bad_request_id": _bad_request_id,
    "nested": _nested,
    "trimmed_prompt": _trimmed_prompt,
    "bad_output": _bad_output,
    "bad_error": _bad_error,
    "bad_credits": _bad_credits,
    "unknown_status": _unknown_status,
    "odd_case": _odd_case,
    "regressed": _regressed,
    "extra_fields": _extra_fields,
    "missing_fields": _missing_fields,
    "null_fields": _null_fields,
}
