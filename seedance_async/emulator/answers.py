"""Answers: the responses of the emulator before they are written to the wire."""

import json
from collections.abc import Mapping
from typing import Any

from attrs import define, field

CODES: Mapping[int, str] = {
    400: "invalid_request",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    410: "gone",
    413: "payload_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    500: "internal_error",
    503: "service_unavailable",
}
"""Error codes by status. API overview documents ``unauthorized``; the others are an ASSUMPTION."""


@define
class Answer:
    """An HTTP response: either ``data``, which is sent as JSON, or a ``body`` of any type."""

    status: int
    data: dict[str, Any] | None = None
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(factory=dict)

    def payload(self) -> bytes:
        """The bytes of the body."""
        return self.body if self.data is None else json.dumps(self.data).encode()


def error(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error response in the documented shape (API overview, "Authentication")."""
    detail = {"code": code or CODES.get(status, "error"), "message": message}
    return Answer(status, {"success": False, "error": detail}, headers=headers)


class Refused(Exception):  # noqa: N818 -- a response that is raised, not a defect
    """Ends the handling of a request with an error response."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        account: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message)
        self.answer = error(status, message)
        self.answer.headers.update(headers or {})
        self.status = status
        self.code = CODES[status]
        self.account = account
