"""What both transports do alike with a request before and with an answer after it was exchanged."""

from __future__ import annotations

from collections.abc import Mapping

from seedance_async.api.protocol import MAX_BODY, WireRequest, WireResponse
from seedance_async.api.transport.decoding import decoded
from seedance_async.api.transport.failures import Secrets


def check(request: WireRequest) -> None:
    """Refuse a request that could not be sent as it is.

    Raises:
        ValueError: its path could end the request line, or it charges and is no POST, which may be
            repeated by what is between here and the server.
    """
    path = request.path
    printable = path.isascii() and path.isprintable() and " " not in path
    if not (printable and path.startswith("/")):
        raise ValueError(f"no path of a request: {path!r}")
    if request.charges and request.method != "POST":
        raise ValueError(f"a request that charges must be a POST, not a {request.method}")


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
