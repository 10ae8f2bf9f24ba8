"""What both transports do with the answer to an API call: bound it, unpack it, hide the key."""

from __future__ import annotations

from collections.abc import Mapping

from seedance_async.api.protocol import MAX_BODY, WireResponse
from seedance_async.api.transport.decoding import decoded
from seedance_async.api.transport.failures import Secrets


def answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    broken: str | None,
    secrets: Secrets,
) -> WireResponse:
    """An answer as far as it came, unpacked, without the API key.

    Args:
        status: of HTTP.
        headers: as they came.
        body: as much of it as came, up to one byte more than is allowed.
        broken: why it is not whole, or None.
        secrets: what it must not show.
    """
    shown = secrets.hide_key_in_headers(headers)
    if len(body) > MAX_BODY:
        broken = broken or f"it is longer than {MAX_BODY} bytes"
    encoding = shown.get("content-encoding")
    if encoding:
        body, problem = decoded(body, encoding, MAX_BODY)
        broken = broken or problem
    return WireResponse(status, shown, secrets.hide_key(body), broken)
