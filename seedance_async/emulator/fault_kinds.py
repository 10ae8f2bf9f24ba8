"""Kinds of faults: the table of what can go wrong, with which operation, and when it acts."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal

from attrs import frozen

Stage = Literal["delay", "arrival", "instead", "wire", "body", "media", "job", "webhook"]

API: frozenset[str] = frozenset({"submit", "poll", "cancel", "models"})
HTTP: frozenset[str] = API | {"media"}
OPERATIONS: frozenset[str] = HTTP | {"job", "webhook"}
ENCODINGS: tuple[str, ...] = ("gzip", "deflate", "br", "zstd")
"""The values of ``compressed``."""


@frozen
class Kind:
    """A kind of fault: where it can happen and when it acts.

    ``stage``: ``delay`` only waits; ``arrival`` acts before the request is read; ``instead``
    replaces the work (or, with ``accepted=True``, the answer to it); ``wire``, ``body`` and
    ``media`` change the answer to work that was done; ``job`` and ``webhook`` act later.
    ``hides``: the client cannot read from the answer what was done.
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
    "drop_before_accept": "read completely, then closed; nothing charged",
    "rate_limited": "429, with Retry-After as retry_form says; never charged",
    "503_refused": "503 with Retry-After and the API's error body; never charged",
}
_ANYWHERE: Mapping[str, str] = {
    "500": "500 with the API's error body",
    "502": "502 with a gateway's HTML",
    "503": "503 without a body",
    "504": "504 with a gateway's HTML",
    "error": "`status`, or 400, with the API's error body, or value as the JSON body",
    "html": "`status`, or 200, with an HTML page",
    "redirect": "307 (media: 302) to value",
}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **_kinds(
            "delay",
            HTTP | {"webhook"},
            {"latency": "only the delay, before the work; after it if accepted"},
        ),
        **_kinds(
            "arrival",
            HTTP,
            {"drop_before_read": "closed before the body is read; nothing charged"},
            hides=True,
        ),
        **_kinds("instead", HTTP, {**NOTHING_CHARGED, **_ANYWHERE}),
        **_kinds(
            "instead",
            API,
            {
                "unauthorized": "401 although the key is valid",
                "success_false": "200 with the API's error body",
                "key_echo": "`status`, or 500, with an error message that repeats the API key",
            },
        ),
        **_kinds("instead", ("poll", "cancel", "media"), {"not_found": "404 although it exists"}),
        **_kinds("instead", ("media",), {"expired": "403, as for an old signature", "gone": "410"}),
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
                "huge_headers": "the answer, with 64 KiB in one header",
                "gzip_bomb": "the answer, padded to `size` bytes and compressed to a few KB",
                "bad_gzip": "the answer, labelled as gzip but not compressed",
                "wrong_status": "the answer with `status`, or with 429 and Retry-After",
            },
            hides=True,
        ),
        **_kinds(
            "wire",
            HTTP,
            {
                "slow_body": "the body in 16 pieces, `seconds` after each",
                "wrong_content_type": "the correct body labelled value, or text/plain",
                "closes_after": "the whole answer, then the connection is closed unannounced",
            },
        ),
        **_kinds(
            "wire",
            API,
            {"compressed": "the answer compressed as value (gzip, deflate, br, zstd), or gzip"},
        ),
        **_kinds(
            "body",
            ("submit", "poll", "cancel"),
            {
                "missing_request_id": "no requestId in the answer",
                "nested": "the answer as the member value, or `data`, of another object",
            },
            hides=True,
        ),
        **_kinds(
            "body",
            ("submit",),
            {
                "duplicate_request_id": "the requestId of another job",
                "bad_request_id": "requestId null, a number, a list, empty or blank; or value",
            },
            hides=True,
        ),
        **_kinds(
            "body",
            ("submit",),
            {
                "evil_request_id": "a job whose id is a hostile path: value, or one of a list",
                "bad_credits": "creditsCharged missing, negative, a float, a string; or value",
                "price_changed": "value times the usual price, or twice, is charged",
            },
        ),
        **_kinds(
            "body",
            ("submit", "poll", "cancel"),
            {
                "unknown_status": "the status value, or rendering",
                "odd_case": "a status spelt like Succeeded, QUEUED or canceled",
            },
        ),
        **_kinds(
            "body",
            ("poll",),
            {
                "regressed": "processing again, after a final state was reported",
                "other_job": "the status of another job",
                "trimmed_prompt": "the prompt, stripped and cut to value characters, or to half",
                "bad_output": "succeeded, but output is missing or unusable; or value",
                "bad_error": "failed, but error is null, text, a list or empty; or value",
            },
        ),
        **_kinds(
            "body", ("cancel",), {"not_cancelled": "answered as cancelled, but the job goes on"}
        ),
        **_kinds("body", API, {"extra_fields": "undocumented fields: value, or some"}),
        **_kinds(
            "body",
            ("poll", "models"),
            {
                "missing_fields": "all fields but requestId, status and output are left out",
                "null_fields": "all fields but requestId, status and output are null",
            },
        ),
        **_kinds(
            "media",
            ("media",),
            {
                "range_ignored": "200 and the whole file, although a Range was requested",
                "wrong_range": "206 from the start of the file, whatever Range was requested",
                "etag_changed": "a different ETag each time",
            },
        ),
        **_kinds(
            "job",
            ("job",),
            {
                "failed": "the job fails with code and message",
                "stuck": "the job stays in processing",
                "cancelled": "the server cancels the job",
            },
        ),
        **_kinds(
            "webhook",
            ("webhook",),
            {
                "never": "no callback",
                "duplicate": "the callback is sent twice",
                "out_of_order": "first the final state, then processing",
                "before_answer": "the job ends, and calls back, before the submit is answered",
                "forged": "a forged callback (changed by value) before the true one",
                "garbled": "half of the JSON, then the whole of it",
            },
        ),
    }
)
"""Every kind of fault by name."""
