"""The API's contract: validates requests against the OpenAPI document.

Paths, methods and every rule that JSON Schema can express are in ``openapi.json`` alone, with the
vendor's page beside each; the routes are made from it, so the two cannot drift apart. Model cards
replace what that document says of models, and nothing else. Nothing here knows about accounts, jobs
or HTTP responses.

The schemas are compiled once by jsonschema-rs and cost microseconds per request. A validator of
whole requests (openapi-core) costs about 1.5 ms, more than the rest of the emulator together, which
is too slow for load tests.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import jsonschema_rs
from attrs import field, frozen

from seedance_async.emulator.card_schemas import by_model_cards
from seedance_async.emulator.model_cards import ModelCards

AllowHttp = bool | Literal["loopback"]
"""Whether ``http://`` media URLs are accepted: never, always, or for loopback hosts only."""

UnknownFields = Literal["refused", "ignored"]
"""What happens to fields of a submit that the vendor's table "Request Body" does not list."""

_METHODS = ("get", "post", "put", "patch", "delete")
_HTTPS_ONLY = "^https://"
_LOOPBACK_TOO = r"^(https://|http://(?=(localhost|127\.0\.0\.1|\[::1\])([:/?#]|$)))"
_LONGEST_MESSAGE = 300


@cache
def load_document() -> dict[str, Any]:
    """The OpenAPI document as shipped. Treat it as read-only."""
    text = files(__package__).joinpath("openapi.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@frozen
class Operation:
    """One endpoint of the document: its ``operationId``, method and path template."""

    id: str
    method: str
    path: str
    _body: jsonschema_rs.Validator | None = field(default=None, repr=False, eq=False)
    _parameters: Mapping[str, jsonschema_rs.Validator] = field(factory=dict, repr=False, eq=False)

    @property
    def takes_body(self) -> bool:
        """Whether this operation has a request body."""
        return self._body is not None

    def body_problem(self, body: object) -> str | None:
        """What is wrong with a request body, with the field's name; ``None`` if it is valid."""
        return None if self._body is None else _problem(self._body, body, "body")

    def parameter_problem(self, name: str, value: str) -> str | None:
        """What is wrong with a path parameter; ``None`` if it is valid or has no schema."""
        validator = self._parameters.get(name)
        return None if validator is None else _problem(validator, value, name)


class Contract:
    """The operations of the OpenAPI document, with their schemas compiled."""

    def __init__(
        self,
        allow_http: AllowHttp = "loopback",
        unknown_fields: UnknownFields = "refused",
        models: ModelCards | None = None,
    ) -> None:
        self.document = load_document()
        self._components = _components(self.document, allow_http, unknown_fields)
        if models is not None and models.are_given:
            self._components = {
                **self._components,
                "schemas": by_model_cards(self._components["schemas"], models),
            }
        self.operations = {found.id: found for found in self._find_operations()}

    def _find_operations(self) -> list[Operation]:
        return [
            self._operation(path, method, item)
            for path, item in self.document["paths"].items()
            for method in _METHODS
            if method in item
        ]

    def _operation(self, path: str, method: str, item: dict[str, Any]) -> Operation:
        entry = item[method]
        references = [*item.get("parameters", ()), *entry.get("parameters", ())]
        parameters = [self._resolve(reference) for reference in references]
        body = entry.get("requestBody")
        return Operation(
            id=entry["operationId"],
            method=method.upper(),
            path=path,
            body=body and self._compile(body["content"]["application/json"]["schema"]),
            parameters={each["name"]: self._compile(each["schema"]) for each in parameters},
        )

    def _resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        for step in node["$ref"].removeprefix("#/components/").split("/") if "$ref" in node else ():
            node = self._components[step] if step in self._components else node[step]
        return node

    def _compile(self, schema: dict[str, Any]) -> jsonschema_rs.Validator:
        whole = {**schema, "components": self._components}
        return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)

    def schema(self, name: str) -> jsonschema_rs.Validator:
        """The compiled schema of that name, for tests that check responses."""
        return self._compile({"$ref": f"#/components/schemas/{name}"})


def _components(
    document: dict[str, Any], allow_http: AllowHttp, unknown_fields: UnknownFields
) -> dict[str, Any]:
    """The document's components, relaxed as the emulator's options say."""
    components: dict[str, Any] = document["components"]
    schemas = dict(components["schemas"])
    if allow_http:
        media_url = schemas["MediaUrl"]
        start = _LOOPBACK_TOO if allow_http == "loopback" else "^https?://"
        pattern = media_url["pattern"].replace(_HTTPS_ONLY, start)
        schemas["MediaUrl"] = {**media_url, "pattern": pattern}
    if unknown_fields == "ignored":
        request = schemas["GenerationRequest"]
        schemas["GenerationRequest"] = {**request, "additionalProperties": True}
    return {**components, "schemas": schemas}


def _problem(validator: jsonschema_rs.Validator, value: object, whole: str) -> str | None:
    try:
        if validator.is_valid(value):
            return None
    except UnicodeEncodeError:  # a lone surrogate: JSON can contain it, UTF-8 cannot
        return f"{whole}: text that is not valid Unicode"
    error = next(iter(validator.iter_errors(value)))
    message = error.message
    if len(message) > _LONGEST_MESSAGE:
        message = message[: _LONGEST_MESSAGE // 2] + " … " + message[-_LONGEST_MESSAGE // 2 :]
    return f"{_field_name(error.instance_path) or whole}: {message}"


def _field_name(path: list[str | int]) -> str:
    """``["mediaUrls", 1]`` as ``mediaUrls[1]``."""
    name = ""
    for step in path:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
    return name
