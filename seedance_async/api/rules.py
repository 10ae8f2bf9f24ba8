"""The rules that a request has to keep, and who says so: the API's page or the server's list.

Values only: nothing here raises an SDK error, asks the server, or does I/O but for a look at media
on this machine.
Rules: API page "Image to Video", table "Request Body".
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from seedance_async._utils.json_values import (
    MAX_INTEGER_BITS,
    MAX_LEVELS,
    MAX_VALUES,
    is_json_object,
    is_unicode,
)
from seedance_async._utils.number_runs import number_runs
from seedance_async._utils.urls import broken_url_rule, redact_url
from seedance_async.api.extra_fields import broken_rules
from seedance_async.api.job_media import BAD_REFERENCE, NO_UPLOADER_FOR_FRAME, JobMedium
from seedance_async.api.local_media import (
    NO_UPLOADER,
    STAND_IN,
    LocalMedium,
    LocalSource,
    is_local,
    local_medium,
)
from seedance_async.api.models import ModelInfo
from seedance_async.api.vocabulary import DURATIONS, MAX_MEDIA, AspectRatio, Resolution

#: How much of what a model takes is named in a rule: a server may list anything.
_NAMED = 20


@attrs.frozen
class Violation:
    """One broken rule of a request: the field, its value, and the rule in words.

    Attributes:
        of_model: whether it is a limit of the model, which the server's list of models can lift.
    """

    field: str
    value: object
    rule: str
    of_model: bool = attrs.field(default=False, kw_only=True, eq=False, repr=False)


def redacted(value: object) -> object:
    """A medium or a list of them as it may be shown; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(redacted(each) for each in value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, (Path, JobMedium)):
        return str(value)
    if isinstance(value, LocalMedium):
        return value.name
    return redact_url(value) if isinstance(value, str) and value else value


@attrs.frozen
class _Limit:
    """What a model takes in one field, None for anything; and who says so, if not the page."""

    allowed: Collection[Any] | None
    source: str = ""


@attrs.frozen
class _Limits:
    """What a model takes of what is to be chosen."""

    durations: _Limit
    aspect_ratios: _Limit
    resolutions: _Limit


@attrs.frozen
class _Rules:
    """What a request is judged by; see `GenerationRequest.violations`."""

    allow_local: bool
    uploads: bool
    strict: bool
    limits: _Limits


_ANYTHING = _Limits(_Limit(None), _Limit(None), _Limit(None))
_DOCUMENTED = {
    model: _Limits(_Limit(durations), _Limit(tuple(AspectRatio)), _Limit(tuple(Resolution)))
    for model, durations in DURATIONS.items()
}


def _limits(model: object, models: Sequence[ModelInfo]) -> _Limits:
    """The limits of a model: those that the server tells, else those of the API's page."""
    if not isinstance(model, str):
        return _ANYTHING
    documented = _DOCUMENTED.get(model, _ANYTHING)
    told = next((each for each in models if each.id == model), None)
    if told is None:
        return documented
    found: dict[str, Collection[Any]] = {
        "durations": told.durations,
        "aspect_ratios": told.aspect_ratios,
        "resolutions": told.resolutions,
    }
    by_server = {
        name: _Limit(listed, ", by the server's list of models")
        for name, listed in found.items()
        if listed and name not in told.incomplete
    }
    return attrs.evolve(documented, **by_server)


def violations_of(
    request: Any,
    *,
    allow_local: bool = False,
    uploads: bool = False,
    strict: bool = True,
    models: Sequence[ModelInfo] = (),
) -> list[Violation]:
    """As `GenerationRequest.violations`, of such a request."""
    rules = _Rules(allow_local, uploads, strict, _limits(request.model, models))
    return list(_violations(request, rules))


def _violations(request: Any, rules: _Rules) -> Iterator[Violation]:
    yield from _text_violations("prompt", request.prompt, rules)
    yield from _text_violations("model", request.model, rules)
    yield from _media_violations(request.media_urls, rules)
    limits = rules.limits
    choices = (
        ("aspect_ratio", request.aspect_ratio, limits.aspect_ratios),
        ("resolution", request.resolution, limits.resolutions),
    )
    for field, value, allowed in choices:
        if value is not None:
            yield from _choice_violations(field, value, allowed, rules)
    if request.duration is not None:
        yield from _duration_violations(request.duration, request.model, rules)
    if request.webhook_url is not None:
        yield from _url_violations("webhook_url", request.webhook_url, rules)
    if request.metadata is not None and not is_json_object(request.metadata):
        yield Violation("metadata", request.metadata, _metadata_rule(request.metadata))
    if request.extra is not None:
        documented = (field.name for field in attrs.fields(type(request)))
        broken = broken_rules(request.extra, (name for name in documented if name != "extra"))
        yield from (Violation(*each) for each in broken)


def _metadata_rule(metadata: object) -> str:
    """The rule that metadata break, and where, if a single value does."""
    rule = (
        "must be a JSON object of dicts, lists, text and finite numbers, with text keys, "
        f"{MAX_LEVELS} levels and {MAX_VALUES:,} values at most"
    )
    try:
        pairs = metadata.items() if isinstance(metadata, dict) else ()
        bad = next((name for name, value in pairs if not is_json_object({name: value})), None)
        return rule if bad is None else f"{rule}; {bad!r:.60} is none of these"
    except Exception:  # methods of the caller's own classes can raise anything
        return rule


def _text_violations(field: str, value: object, rules: _Rules) -> Iterator[Violation]:
    if not isinstance(value, str):
        yield Violation(field, value, "must be text")
    elif rules.strict and not value.strip():
        yield Violation(field, value, "must not be blank")
    elif not value.isascii() and not is_unicode(value):
        yield Violation(field, value, "must be valid Unicode, without lone surrogates")


def _media_violations(media: object, rules: _Rules) -> Iterator[Violation]:
    if not isinstance(media, tuple):
        rule = "must be a list or a tuple of URLs"
        yield Violation("media_urls", redacted(media), rule)
        return
    if rules.strict and len(media) > MAX_MEDIA:
        rule = f"must have at most {MAX_MEDIA} URLs"
        yield Violation("media_urls", redacted(media), rule)
    for index, medium in enumerate(media):
        field = f"media_urls[{index}]"
        if is_local(medium):
            rule_or_none = _broken_file_rule(medium) if rules.uploads else NO_UPLOADER
            if rule_or_none is not None:
                yield Violation(field, redacted(medium), rule_or_none)
        elif isinstance(medium, JobMedium):
            if medium.frame is not None and not rules.uploads:
                yield Violation(field, str(medium), NO_UPLOADER_FOR_FRAME)
        elif isinstance(medium, Mapping):
            yield Violation(field, medium, BAD_REFERENCE)
        elif isinstance(medium, str) and medium.startswith(STAND_IN):
            yield Violation(field, medium, "is known by its content only: give the file again")
        else:
            yield from _url_violations(field, medium, rules)


def _broken_file_rule(source: LocalSource) -> str | None:
    try:
        local_medium(source)
    except ValueError as error:
        return str(error)
    return None


def _choice_violations(
    field: str, value: object, limit: _Limit, rules: _Rules
) -> Iterator[Violation]:
    if not isinstance(value, str):
        yield Violation(field, value, "must be text")
    elif rules.strict and limit.allowed is not None and value not in limit.allowed:
        shown = ", ".join(itertools.islice(limit.allowed, _NAMED))
        yield Violation(field, value, f"must be one of {shown}{limit.source}", of_model=True)


def _duration_violations(value: object, model: str, rules: _Rules) -> Iterator[Violation]:
    if not isinstance(value, int) or isinstance(value, bool):
        whole = False
    else:
        whole = (value > 0 or not rules.strict) and value.bit_length() <= MAX_INTEGER_BITS
    if not whole:
        above = " above zero" if rules.strict else ""
        yield Violation("duration", value, f"must be a whole number of seconds{above}")
        return
    limit = rules.limits.durations
    if rules.strict and limit.allowed is not None and value not in limit.allowed:
        rule = f"must be {_in_words(limit.allowed)} seconds for {model}{limit.source}"
        yield Violation("duration", value, rule, of_model=True)


def _in_words(numbers: Collection[int]) -> str:
    """Whole numbers in words: 4 to 15, or 5 or 10."""
    runs = number_runs(numbers)
    words = list[str]()
    for run in runs[:_NAMED]:
        words += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _url_violations(field: str, url: object, rules: _Rules) -> Iterator[Violation]:
    if not isinstance(url, str):
        rule: str | None = "must be text"
    elif not is_unicode(url):
        rule = "must be valid Unicode, without lone surrogates"
    else:
        rule = broken_url_rule(url, allow_local=rules.allow_local) if rules.strict else None
    if rule is not None:
        yield Violation(field, redacted(url), rule)
