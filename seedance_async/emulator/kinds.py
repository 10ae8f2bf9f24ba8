"""Kinds of faults: owns the table of what can go wrong, where, and when it acts."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from attrs import frozen

Stage = Literal["delay", "arrival", "instead", "wire", "body", "media", "job", "webhook"]

API: frozenset[str] = frozenset({"submit", "poll", "cancel", "models"})
HTTP: frozenset[str] = API | {"media"}
OPERATIONS: frozenset[str] = HTTP | {"job", "webhook"}


@frozen
class Kind:
    """A kind of fault: where it can happen and when it acts.

    ``stage``: ``delay`` only waits; ``arrival`` acts before the request is read; ``instead`` of
    the work (or after it, with ``accepted=True``); ``wire``, ``body`` and ``media`` act on the
    answer to work that was done; ``job`` and ``webhook`` later. ``hides``: the client can't read
    the answer.
    """

    stage: Stage
    operations: frozenset[str]
    meaning: str
    hides: bool = False


def _kinds(
    stage: Stage, operations: Iterable[str], meanings: Mapping[str, str], *, hides: bool = False
) -> dict[str, Kind]:
    where = frozenset(operations)
    return {name: Kind(stage, where, meaning, hides) for name, meaning in meanings.items()}


NOTHING_CHARGED: Mapping[str, str] = {
    "drop_before_accept": "read whole, then closed; nothing charged",
    "rate_limited": "429, with Retry-After as retry_form says; never charged",
    "503_refused": "503 with Retry-After and the API's error body; never charged",
}
_ANYWHERE: Mapping[str, str] = {
    "500": "500 with the API's error body",
    "502": "502 with a gateway's HTML",
    "503": "503, bare",
    "504": "504 with a gateway's HTML",
    "html": "200 with an HTML page",
    "redirect": "307 (media: 302) to value",
}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **_kinds("delay", HTTP, {"latency": "only the delay; after the work if accepted"}),
        **_kinds(
            "arrival",
            HTTP,
            {"drop_before_read": "closed before the body is read; nothing charged"},
            hides=True,
        ),
        **_kinds("instead", HTTP, {**NOTHING_CHARGED, **_ANYWHERE}),
        **_kinds("instead", API, {"unauthorized": "401 although the key is right"}),
        **_kinds("instead", ("poll", "cancel", "media"), {"not_found": "404 although it exists"}),
        **_kinds("instead", ("media",), {"expired": "403, as of an old signature", "gone": "410"}),
        **_kinds(
            "wire",
            HTTP,
            {
                "drop_after_accept": "done and charged, then closed without an answer",
                "truncated": "the body is cut after `at` bytes; see framing",
            },
            hides=True,
        ),
        **_kinds(
            "wire",
            API,
            {
                "huge_body": "the answer, padded to `size` bytes",
                "huge_headers": "the answer, with 64 KiB in a header",
                "gzip_bomb": "the answer, padded to `size` bytes, compressed to next to nothing",
            },
            hides=True,
        ),
        **_kinds(
            "wire",
            HTTP,
            {
                "slow_body": "the body in 16 pieces, `seconds` after each",
                "wrong_content_type": "the right body labelled value, or text/plain",
            },
        ),
        **_kinds(
            "body",
            ("submit", "poll", "cancel"),
            {"missing_request_id": "no requestId in the answer"},
            hides=True,
        ),
        **_kinds(
            "body",
            ("submit",),
            {"duplicate_request_id": "the requestId of another job"},
            hides=True,
        ),
        **_kinds(
            "body",
            ("submit",),
            {
                "evil_request_id": "a job whose id is a hostile path: value, or one of a list",
                "bad_credits": "creditsCharged missing, negative, a float, a string: or value",
            },
        ),
        **_kinds(
            "body",
            ("submit", "poll", "cancel"),
            {
                "unknown_status": "the status value, or rendering",
                "odd_case": "a status like Succeeded, QUEUED, canceled",
            },
        ),
        **_kinds("body", ("poll",), {"regressed": "processing again after an end was told"}),
        **_kinds("body", API, {"extra_fields": "fields that nobody has documented: value"}),
        **_kinds(
            "body",
            ("poll", "models"),
            {
                "missing_fields": "everything but requestId, status and output is left out",
                "null_fields": "everything but requestId, status and output is null",
            },
        ),
        **_kinds(
            "media",
            ("media",),
            {
                "range_ignored": "200 and the whole file, although a Range was asked for",
                "etag_changed": "another ETag each time",
            },
        ),
        **_kinds(
            "job",
            ("job",),
            {
                "failed": "the job fails with code and message",
                "stuck": "the job processes for ever",
                "cancelled": "the server cancels the job",
            },
        ),
        **_kinds(
            "webhook",
            ("webhook",),
            {
                "never": "no callback",
                "duplicate": "the callback comes twice",
                "out_of_order": "the end first, processing after it",
                "before_answer": "the job ends, and calls back, before the submit is answered",
                "forged": "a forged callback (changed by value) before the true one",
            },
        ),
    }
)
"""Every kind of fault by name."""
