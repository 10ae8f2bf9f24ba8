"""Schemas by model cards: the documented ones, with what the cards say of each model."""

from collections.abc import Mapping
from typing import Any

from seedance_async.emulator.model_cards import ModelCard, ModelCards

_CHOICES = {"AspectRatio": "aspectRatio", "Resolution": "resolution"}


def by_model_cards(schemas: Mapping[str, Any], cards: ModelCards) -> dict[str, Any]:
    """The schemas of the document as they are where these models are on offer.

    Raises:
        ValueError: a card has an extra field that is a documented one.
    """
    found = dict(schemas)
    found["ModelId"] = {**schemas["ModelId"], "enum": [card.id for card in cards]}
    for name, field in _CHOICES.items():
        found[name] = _choice(schemas[name], cards.choices(field))
    request = {
        name: value
        for name, value in schemas["GenerationRequest"].items()
        if name not in ("if", "then", "else", "additionalProperties")
    }
    closed = schemas["GenerationRequest"]["additionalProperties"] is False
    request["allOf"] = [_of_model(card, request["properties"], closed=closed) for card in cards]
    found["GenerationRequest"] = request
    return found


def _choice(schema: Mapping[str, Any], values: list[Any] | None) -> dict[str, Any]:
    open_schema = {name: value for name, value in schema.items() if name != "enum"}
    return open_schema if values is None else {**open_schema, "enum": values}


def _of_model(card: ModelCard, documented: Mapping[str, Any], *, closed: bool) -> dict[str, Any]:
    """What holds for submits with this model, besides what holds for all."""
    for name in card.extra:
        if name in documented:
            raise ValueError(f"model card {card.id!r}: extra.{name} is a documented field")
    fields: dict[str, Any] = dict.fromkeys(documented, True)
    fields["duration"] = {"minimum": 1}
    fields |= {name: {"enum": list(values)} for name, values in card.choices.items()}
    taken: dict[str, Any] = {"properties": {**fields, **card.extra}}
    if closed:
        taken["additionalProperties"] = False
    return {
        "if": {"properties": {"model": {"const": card.id}}, "required": ["model"]},
        "then": taken,
    }
