"""A request on its way: validated once, turned into JSON once, fingerprinted at most once.

The journal keeps the JSON and knows the request by its fingerprint; the submit sends the JSON.
Field names on the wire: API page "Image to Video", table "Request Body".
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from seedance_async.api.errors import InvalidRequestError
from seedance_async.api.request import GenerationRequest, Violation

_WIRE_NAMES = {
    "media_urls": "mediaUrls",
    "aspect_ratio": "aspectRatio",
    "webhook_url": "webhookUrl",
}
_FIELDS = tuple(field.name for field in attrs.fields(GenerationRequest))


class PreparedRequest:
    """A request that keeps the documented rules, as JSON.

    Args:
        request: what is asked for.
        data: the same as `dump_request` gives it.
    """

    __slots__ = ("_fingerprint", "body", "data", "request")

    def __init__(self, request: GenerationRequest, data: dict[str, Any]) -> None:
        self.request, self.data = request, data
        self.body = json.dumps(data, allow_nan=False).encode()
        self._fingerprint: str | None = None

    def __repr__(self) -> str:
        return f"<PreparedRequest {self.request!r}>"

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.data)
        return self._fingerprint

    def with_callback_url(self, url: str) -> PreparedRequest:
        """The same, to be called back at this URL. The rules are not checked again."""
        request = attrs.evolve(self.request, webhook_url=url)
        return PreparedRequest(request, {**self.data, _WIRE_NAMES["webhook_url"]: url})


def prepare(request: GenerationRequest, *, allow_local: bool = False) -> PreparedRequest:
    """Check a request against the documented rules and turn it into JSON.

    Args:
        request: the request.
        allow_local: see `GenerationRequest.violations`.

    Raises:
        InvalidRequestError: names the first broken rule and lists all.
    """
    if not isinstance(request, GenerationRequest):
        raise InvalidRequestError([Violation("request", request, "must be a GenerationRequest")])
    violations = request.violations(allow_local=allow_local)
    if violations:
        raise InvalidRequestError(violations)
    return PreparedRequest(request, dump_request(request))


def fingerprint_of(data: Mapping[str, Any]) -> str:
    """32 hexadecimal characters, the same for equal requests in every process.

    The order of the keys makes no difference.

    Args:
        data: a request as `dump_request` gives it.

    Raises:
        TypeError, ValueError: it is not JSON.
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def dump_request(request: GenerationRequest) -> dict[str, Any]:
    """A request as plain JSON data, with the names that the API's page gives its fields."""
    data: dict[str, Any] = _converter().unstructure(request)
    return data


def load_request(data: Mapping[str, Any]) -> GenerationRequest:
    """A request from plain JSON data, its fields named as on the API's page or as in Python.

    Raises:
        InvalidRequestError: no JSON object, a name that is no field, a field given twice, or no
            prompt. Whether the values keep the rules is checked before sending.
    """
    if not isinstance(data, Mapping):
        raise InvalidRequestError([Violation("request", data, "must be a JSON object")])
    by_wire = {wire: name for name, wire in _WIRE_NAMES.items()}
    values: dict[str, Any] = {}
    violations = []
    for given, value in data.items():
        name = by_wire.get(given, given)
        if name not in _FIELDS:
            violations.append(Violation(str(given), value, f"is not one of {', '.join(_FIELDS)}"))
        elif name in values:
            violations.append(Violation(str(given), value, "is given twice"))
        else:
            values[name] = value
    if "prompt" not in values:
        violations.append(Violation("prompt", None, "is required"))
    if violations:
        raise InvalidRequestError(violations)
    if values.get("model", "") is None:
        del values["model"]
    return GenerationRequest(**values)


@functools.cache
def _converter() -> cattrs.Converter:
    """The one converter; made when it is first needed, so that importing costs nothing of it."""
    converter = cattrs.Converter(detailed_validation=False)
    overrides: dict[str, Any] = {name: override(rename=wire) for name, wire in _WIRE_NAMES.items()}
    overrides["media_urls"] = override(rename=_WIRE_NAMES["media_urls"], unstruct_hook=list)
    overrides["model"] = override(omit_if_default=False)
    dump = make_dict_unstructure_fn(
        GenerationRequest, converter, _cattrs_omit_if_default=True, **overrides
    )
    converter.register_unstructure_hook(GenerationRequest, dump)
    return converter
