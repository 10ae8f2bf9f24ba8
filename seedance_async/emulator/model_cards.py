"""The models that an emulator offers: what each takes and costs, and what a submit leaves out.

Without cards of its own, an emulator offers the documented models. Nothing here checks a request:
the contract makes schemas of the cards.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, isfinite
from typing import Any

import jsonschema_rs
from attrs import frozen

from seedance_async.emulator.accounts import (
    CREDITS_PER_SECOND,
    DEFAULTS,
    model_entries,
)

UNKNOWN_PRICE = 8
"""Credits per second where neither a card nor the assumed table has a price. ASSUMPTION."""

_CHOICES = {"durations": "duration", "aspectRatios": "aspectRatio", "resolutions": "resolution"}
_DOCUMENTED = {entry["id"]: entry for entry in model_entries()}


@frozen
class ModelCard:
    """One model.

    Attributes:
        id: as it is submitted.
        choices: by the field of a submit, what it takes; no entry: anything.
        extra: by their names, the schemas of the fields that it takes besides the documented ones.
        prices: credits per second by resolution, as far as the card tells them.
        entry: the card itself, as the models endpoint answers it.
    """

    id: str
    choices: Mapping[str, tuple[Any, ...]]
    extra: Mapping[str, Any]
    prices: Mapping[str, float]
    entry: Mapping[str, Any]

    @property
    def defaults(self) -> dict[str, Any]:
        """What a submit for this model leaves out: the assumed defaults, if it takes those."""
        return {
            name: value if value in self.choices.get(name, (value,)) else self.choices[name][0]
            for name, value in DEFAULTS.items()
        }

    def price(self, body: Mapping[str, Any]) -> int:
        """The credits that a validated submit body costs."""
        full = {**self.defaults, **body}
        assumed = CREDITS_PER_SECOND.get((self.id, full["resolution"]), UNKNOWN_PRICE)
        return ceil(self.prices.get(full["resolution"], assumed) * int(full["duration"]))


class ModelCards:
    """The models by id.

    Args:
        entries: as the models endpoint answers them; ``None``: the documented models. Where a card
            of a documented model is silent, the documented limits hold.

    Raises:
        ValueError: a card that is none, names the model, the field and the rule.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.are_given = entries is not None
        self._cards: dict[str, ModelCard] = {}
        for entry in model_entries() if entries is None else _listed(entries):
            card = _card(entry)
            if card.id in self._cards:
                raise ValueError(f"model card {card.id!r}: given twice")
            self._cards[card.id] = card

    def __iter__(self) -> Iterator[ModelCard]:
        return iter(self._cards.values())

    def __getitem__(self, model: str) -> ModelCard:
        return self._cards[model]

    def choices(self, field: str) -> list[Any] | None:
        """What at least one of the models takes in a field; ``None`` if one takes anything."""
        taken = [card.choices.get(field) for card in self]
        known = [each for each in taken if each is not None]
        if len(known) < len(taken):
            return None
        return list(dict.fromkeys(value for values in known for value in values))


def cards_in(data: Any) -> list[Mapping[str, Any]]:
    """The cards in a JSON document: a list of them, the models endpoint's answer, or a single card.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(data, dict):
        data = data.get("data", [data])
    return list(_listed(data))


def _listed(entries: Any) -> Sequence[Mapping[str, Any]]:
    good = isinstance(entries, (list, tuple)) and all(isinstance(e, Mapping) for e in entries)
    if not good or not entries:
        raise ValueError("model cards must be JSON objects, one or more")
    found: Sequence[Mapping[str, Any]] = entries
    return found


def _card(entry: Mapping[str, Any]) -> ModelCard:
    model = entry.get("id")
    if not isinstance(model, str) or not model.strip():
        raise ValueError(f"model card: id must be text, not {model!r:.80}")
    try:
        return ModelCard(model, _choices(model, entry), _extra(entry), _prices(entry), entry)
    except ValueError as error:
        raise ValueError(f"model card {model!r}: {error}") from None


def _choices(model: str, entry: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    silent = _DOCUMENTED.get(model, {})
    found = {}
    for listed, name in _CHOICES.items():
        values = entry.get(listed) or silent.get(listed)
        if values is None:
            continue
        kind = int if name == "duration" else str
        good = isinstance(values, (list, tuple)) and all(type(each) is kind for each in values)
        if not good or (name == "duration" and min(values) < 1):
            what = "whole numbers of seconds above zero" if kind is int else "text"
            raise ValueError(f"{listed} must be a list of {what}, not {values!r:.80}")
        found[name] = tuple(values)
    return found


def _extra(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = entry.get("extra") or {}
    if isinstance(fields, (list, tuple)):
        fields = dict.fromkeys(fields, True)
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise ValueError(f"extra must be names of fields, or schemas by name, not {fields!r:.80}")
    for name, schema in fields.items():
        try:
            jsonschema_rs.Draft202012Validator(schema)
        except (ValueError, TypeError) as error:
            raise ValueError(f"extra.{name} must be a JSON Schema: {error!s:.200}") from None
    return dict(fields)


def _prices(entry: Mapping[str, Any]) -> dict[str, float]:
    pricing = entry.get("pricing")
    if not isinstance(pricing, Mapping) or pricing.get("unit") != "credits_per_second":
        return {}
    prices = {}
    for name, price in pricing.items():
        if isinstance(price, (int, float)) and not isinstance(price, bool):
            if not (isfinite(price) and price >= 0):
                raise ValueError(f"pricing.{name} must be finite and not below zero, not {price}")
            prices[name] = price
    return prices
