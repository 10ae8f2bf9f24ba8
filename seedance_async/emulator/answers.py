"""Answers: owns the form of what the emulator says, before it goes out on the wire."""

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
"""Error codes by status. Only ``unauthorized`` is documented; the others are an ASSUMPTION."""


@define
class Answer:
    """An HTTP answer: either ``data``, to be sent as JSON, or a ``body`` of any type."""

    status: int
    data: dict[str, Any] | None = None
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(factory=dict)

    def payload(self) -> bytes:
        """The bytes of the body."""
        return self.body if self.data is None else json.dumps(self.data).encode()


def error(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error in the documented shape."""
    told = {"code": code or CODES.get(status, "error"), "message": message}
    return Answer(status, {"success": False, "error": told}, headers=headers)


class Refused(Exception):  # noqa: N818 -- an answer that is thrown, not a defect
    """Ends the work on a request with an error answer."""

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
