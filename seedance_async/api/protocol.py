"""All knowledge of the wire, and no I/O: build a request, decode an answer.

Endpoints and field names: API page "Image to Video". What that page leaves open is decided here
and listed in docs/architecture.md, "What the API does not document".
"""

from __future__ import annotations

import codecs
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import attrs

from seedance_async.api.backoff import retry_after
from seedance_async.api.errors import (
    APIError,
    ResponseFormatError,
)
from seedance_async.api.models import (
    ErrorDetail,
    Generation,
    GenerationStatus,
    ModelInfo,
    Submission,
)
from seedance_async.api.prepared_request import PreparedRequest

MAX_BODY = 1 << 20
MAX_ID = 1024
MAX_CREDITS = 10**12
_GENERATIONS = "/api/open/v1/video/generations"
_MODELS = "/api/open/v1/models"
_PATH = re.compile(r"/[!-~]*").fullmatch
_PLAIN_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}").fullmatch
_DECODE = json.JSONDecoder().raw_decode
_SNIPPET = 512
_T = TypeVar("_T")


@attrs.frozen
class WireRequest:
    """One HTTP request. `charges` marks the one that costs money; it must never be repeated.

    Raises:
        ValueError: a path that could end the request line, or a request that charges and is not a
            POST, which something between here and the server may repeat.
    """

    method: str
    path: str
    body: bytes | None = attrs.field(default=None, repr=False)
    charges: bool = False

    def __attrs_post_init__(self) -> None:
        if not _PATH(self.path):
            raise ValueError(f"not a path of a request: {self.path!r}")
        if self.charges and self.method != "POST":
            raise ValueError(f"a request that charges must be a POST, not a {self.method}")


@attrs.frozen
class WireResponse:
    """One HTTP answer: header names in lower case, and as much of the body as arrived.

    `broken` says why the body is incomplete; None if it is complete.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    broken: str | None = None


# --- requests -----------------------------------------------------------------------------------


def build_create(prepared: PreparedRequest) -> WireRequest:
    """The submit. API page "Image to Video", section "Endpoint"."""
    return WireRequest("POST", _GENERATIONS, prepared.body, charges=True)


def build_get(request_id: str) -> WireRequest:
    """The status query. Raises ValueError for an id that cannot be one.

    API page "Image to Video", section "Query Result".
    """
    return WireRequest("GET", _job_path(request_id))


def build_cancel(request_id: str) -> WireRequest:
    """The cancellation. Raises ValueError for an id that cannot be one.

    API page "Image to Video", section "Cancel Task".
    """
    return WireRequest("POST", _job_path(request_id) + "/cancel")


def build_models() -> WireRequest:
    """The list of models. API page "API overview"."""
    return WireRequest("GET", _MODELS)


def _job_path(request_id: str) -> str:
    if isinstance(request_id, str) and _PLAIN_ID(request_id):
        return f"{_GENERATIONS}/{request_id}"
    if not _usable_id(request_id):
        raise ValueError(f"no request id: {request_id!r} (text of 1 to {MAX_ID} characters)")
    # Dots are encoded too: a part of "..", as in "../x", would otherwise walk up the path.
    return f"{_GENERATIONS}/{quote(request_id, safe='').replace('.', '%2E')}"


def _usable_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID
        and value.isprintable()
        and bool(value.strip())
        and value not in (".", "..")  # some servers walk up the path for %2E%2E too
    )


# --- answers ------------------------------------------------------------------------------------


def decode_create(response: WireResponse) -> Submission:
    """The answer to a submit; one that is cut short is searched for its request id.

    API page "Image to Video", section "Success Response".

    Raises:
        APIError: the server answered with an error.
        ResponseFormatError: the answer is not the API's, or contradicts itself: an error with a
            charge, a success with an error. It has the id of the job if the body names one.
    """
    try:
        data = _object(response)
    except ResponseFormatError:  # cut short: the part that came may hold the id
        data = _leading_members(response.body)
    if not 200 <= response.status < 300:
        _raise_if_accepted(response, data)
        _raise_for_status(response)
    request_id = data.get("requestId")
    if data.get("success") is False:
        code, message = _api_error(response.body)
        detail = f"it says success: false ({code}: {message})"
    elif isinstance(request_id, str) and _usable_id(request_id):
        status = _status(data.get("status"), GenerationStatus.QUEUED)
        return Submission(request_id, status, _credits(data.get("creditsCharged")))
    else:
        detail = response.broken or f"requestId is {_shown(request_id)}"
    message = f"the answer to the submit is no acceptance: {detail}"
    raise _format_error(response, message, _named_job(data)[0])


def _raise_if_accepted(response: WireResponse, data: dict[str, Any]) -> None:
    """Refuse to take an error for a refusal if its body reports an accepted or charged job."""
    named, evident = _named_job(data)
    if evident:
        message = f"an error that reports an accepted job, {named or 'without an id'}"
        raise _format_error(response, message, named)


def _named_job(data: object, levels: int = 4) -> tuple[str | None, bool]:
    """The id of a job that an answer names anywhere, and whether it shows the job as accepted.

    An id alone shows nothing: servers put the ids of traces into errors. A charge does, or a
    success, or an id beside the state of a job.
    """
    named: str | None = None
    accepted = False
    for place in _objects(data, levels):
        given = place.get("requestId")
        usable = given if isinstance(given, str) and _usable_id(given) else None
        status = place.get("status")
        running = isinstance(status, str) and GenerationStatus(status).is_known
        if place.get("creditsCharged") or place.get("success") is True or (usable and running):
            if usable:
                return usable, True
            accepted = True
        named = named or usable
    return named, accepted


def _objects(data: object, levels: int) -> Iterator[dict[str, Any]]:
    """The objects in JSON data, the outer ones first."""
    if isinstance(data, dict):
        yield data
    if levels and isinstance(data, (dict, list)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _objects(value, levels - 1)


_STATUSES = {status.value: status for status in GenerationStatus}  # as most answers spell them


def decode_get(response: WireResponse, request_id: str) -> Generation:
    """The answer to a status query about `request_id`, or to its cancellation.

    API page "Image to Video", sections "Query Result" and "Cancel Task".

    Raises:
        APIError: the server answered with an error.
        ResponseFormatError: the answer is not the API's, has no status, or is about another job.
    """
    _raise_for_status(response)
    data = _object(response)
    answered_id = data.get("requestId", request_id)
    if answered_id != request_id:
        raise _format_error(response, f"the answer is about another job, {_shown(answered_id)}")
    status = data.get("status")
    if not isinstance(status, str):
        raise _format_error(response, "the answer has no status")
    output = data.get("output")
    output = output if isinstance(output, dict) else {}
    return Generation(
        request_id=request_id,
        status=_STATUSES.get(status) or GenerationStatus(status),
        model=_word(data.get("model")),
        prompt=_text(data.get("prompt")),
        duration=_integer(data.get("duration")),
        aspect_ratio=_word(data.get("aspectRatio")),
        output_url=_text(output.get("url")) or None,
        output_type=_word(output.get("type")),
        error=_detail(data.get("error")),
        poll_after=_asked_wait(response),
    )


def decode_models(response: WireResponse) -> list[ModelInfo]:
    """The list of models. Raises as `decode_get`."""
    _raise_for_status(response)
    entries = _object(response).get("data")
    if not isinstance(entries, list):
        raise _format_error(response, "the answer has no list of models")
    return [_model(entry) for entry in entries if isinstance(entry, dict)]


def _raise_for_status(response: WireResponse) -> None:
    if 200 <= response.status < 300:
        return
    if response.status < 400:
        raise _format_error(
            response, "redirects are not followed: they would send the key elsewhere"
        )
    code, message = _api_error(response.body)
    raise APIError.from_status(
        response.status,
        message or _snippet(response.body),
        code=code,
        retry_after=_asked_wait(response),
    )


def _asked_wait(response: WireResponse) -> float | None:
    """Seconds that the answer's Retry-After asks for."""
    asked = response.headers.get("retry-after")
    if asked is None:
        return None
    return retry_after(asked, date=response.headers.get("date"), now=time.time())


def _api_error(body: bytes) -> tuple[str | None, str | None]:
    """Code and message if the body is the API's error shape, else (None, None)."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    error = data.get("error") if isinstance(data, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return None, None
    if data.get("success") is not False:  # a gateway's error: many have the form {"error": {…}}
        return None, None
    message = error.get("message")
    text = message if isinstance(message, str) else _dumped(message) if message else ""
    return error["code"][:_SNIPPET], text[:_SNIPPET]


def _object(response: WireResponse) -> dict[str, Any]:
    if response.broken:
        raise _format_error(response, f"the answer is incomplete: {response.broken}")
    try:
        data = _parsed(response.body)
    except (ValueError, RecursionError):
        raise _format_error(response, "the answer is not JSON") from None
    if not isinstance(data, dict):
        raise _format_error(response, "the answer is not a JSON object")
    return data


def _parsed(body: bytes) -> Any:
    """As `json.loads`, which would first work out the encoding: nearly all answers are UTF-8."""
    try:
        text = str(body, "utf-8")
        value, end = _DECODE(text)
    except ValueError:
        return json.loads(body)
    return json.loads(body) if text[end:].strip(" \t\r\n") else value


_GAP = re.compile(r"[ \t\r\n]*")


def _leading_members(body: bytes) -> dict[str, Any]:
    """The members of a JSON object that is cut short, as far as each is certainly complete.

    A string is complete with its closing quote; any other value only with the delimiter after it,
    since a number that is cut short is still a number.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:  # nothing after a broken character can be trusted
        text = body[: error.start].decode()
    decoder = json.JSONDecoder()
    members: dict[str, Any] = {}
    at = _skip(text, 0)
    expected = "{"
    while text[at : at + 1] == expected:
        try:
            name, at = decoder.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if text[at : at + 1] != ":" or not isinstance(name, str):
                break
            value, at = decoder.raw_decode(text, _skip(text, at + 1))
        except (ValueError, RecursionError):
            break
        at = _skip(text, at)
        if isinstance(value, str) or text[at : at + 1] in (",", "}"):
            members[name] = value
        expected = ","
    return members


def _skip(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _format_error(
    response: WireResponse, message: str, request_id: str | None = None
) -> ResponseFormatError:
    return ResponseFormatError(
        f"HTTP {response.status}: {message}",
        status=response.status,
        snippet=_snippet(response.body),
        request_id=request_id,
    )


def _snippet(body: bytes) -> str:
    return body[:_SNIPPET].decode("utf-8", "replace")


def _status(value: object, default: GenerationStatus) -> GenerationStatus:
    return GenerationStatus(value) if isinstance(value, str) else default


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _word(value: object) -> str | None:
    """Like `_text`, but each word is kept only once, however many answers contain it."""
    return sys.intern(value) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _credits(value: object) -> int | None:
    """Credits as a whole number, zero or more; None for anything else."""
    number = _integer(value)
    return number if number is not None and 0 <= number <= MAX_CREDITS else None


def _detail(value: object) -> ErrorDetail | None:
    if isinstance(value, dict):
        message = value.get("message")
        text = message if isinstance(message, str) else _dumped(value)
        return ErrorDetail(text, _text(value.get("code")))
    return None if value is None else ErrorDetail(_text(value) or _dumped(value))


def _dumped(value: object) -> str:
    """Any JSON data as a short text."""
    try:
        return json.dumps(value)[:_SNIPPET]
    except RecursionError:
        return "(nested too deeply to show)"


def _shown(value: object) -> str:
    return repr(value[:80]) if isinstance(value, str) else _dumped(value)[:80]


def _model(entry: dict[str, Any]) -> ModelInfo:
    incomplete = set()

    def listed(name: str, wire: str, read: Callable[[object], _T | None]) -> tuple[_T, ...]:
        value = entry.get(wire)
        values = value if isinstance(value, list) else []
        found = tuple(each for each in map(read, values) if each is not None)
        if len(found) < len(values):
            incomplete.add(name)
        return found

    return ModelInfo(
        id=next((entry[n] for n in ("id", "model", "name") if _text(entry.get(n))), None),
        durations=listed("durations", "durations", _integer),
        aspect_ratios=listed("aspect_ratios", "aspectRatios", _text),
        resolutions=listed("resolutions", "resolutions", _text),
        pricing=entry.get("pricing"),
        raw=entry,
        incomplete=frozenset(incomplete),
    )
