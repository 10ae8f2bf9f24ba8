"""How an option is written down: its default, and the rule that its value has to keep.

A value that breaks the rule is a `ConfigurationError` that names the option and the value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

import attrs

from seedance_async.api.backoff import is_finite
from seedance_async.api.errors import ConfigurationError

P = ParamSpec("P")


def positive(_: object, field: attrs.Attribute[float], value: float) -> None:
    """A number above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{field.name} must be a number, not {value!r}")
    if not (is_finite(value) and value > 0):
        raise ConfigurationError(f"{field.name} must be finite and above zero, not {value!r:.40}")


def whole(_: object, field: attrs.Attribute[int], value: int) -> None:
    """A whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{field.name} must be a whole number above zero, not {value!r}")


def function(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Something that can be called."""
    if not callable(value):
        raise ConfigurationError(f"{field.name} must be a function, not {value!r:.40}")


def is_a(*kinds: type) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """An instance of one of these classes."""
    names = " or a ".join(kind.__name__ for kind in kinds)

    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kinds):
            raise ConfigurationError(f"{field.name} must be a {names}, not {value!r:.40}")

    return check


def policy(default: Any, *, kw_only: bool | None = None) -> Any:
    """A field for a value of the class of its default, which None stands for."""
    return attrs.field(
        default=default,
        converter=attrs.converters.default_if_none(default),
        validator=is_a(type(default)),
        kw_only=kw_only,
    )


def seconds(default: float) -> float:
    """A field for a number above zero."""
    return attrs.field(default=default, validator=positive)


def count(default: int) -> int:
    """A field for a whole number above zero."""
    return attrs.field(default=default, validator=whole)


def flag(default: bool) -> Any:
    """A field for True or False."""
    return attrs.field(default=default, validator=is_a(bool))


def takes(
    options: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Give an `__init__` the parameters of a class of options, for readers and type checkers."""

    def decorate(init: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        parameters = inspect.signature(options).parameters.values()
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        init.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
        init.__doc__ = options.__doc__
        return init

    return decorate
