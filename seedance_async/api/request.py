"""A request for one video, and the rules that it has to keep.

Values only: nothing here raises an SDK error, knows how the wire spells a field, or does I/O but
for a look at media on this machine.
Rules: API page "Image to Video", table "Request Body".
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from posixpath import splitext
from typing import IO, Any, TypeAlias
from urllib.parse import urlsplit

import attrs

from seedance_async._utils.json_values import (
    MAX_INTEGER_BITS,
    MAX_LEVELS,
    MAX_VALUES,
    is_json_object,
    is_unicode,
)
from seedance_async._utils.urls import broken_url_rule, redact_url
from seedance_async.api.extra_fields import ExtraFields, broken_rules, frozen_fields
from seedance_async.api.job_media import (
    BAD_REFERENCE,
    NO_UPLOADER_FOR_FRAME,
    HasMedium,
    JobMedium,
    job_medium,
)
from seedance_async.api.local_media import (
    NO_UPLOADER,
    STAND_IN,
    LocalMedium,
    LocalSource,
    content_of,
    is_local,
    local_medium,
    suffix_of,
)
from seedance_async.api.models import ModelInfo


class Model(StrEnum):
    """The documented model ids; any other string is left to the server to judge."""

    SEEDANCE_2_0 = "seedance-2.0"
    SEEDANCE_2_0_FAST = "seedance-2.0-fast"
    SEEDANCE_1_5_PRO = "seedance-1.5-pro"


class AspectRatio(StrEnum):
    """The documented aspect ratios, width to height."""

    LANDSCAPE = "16:9"
    PORTRAIT = "9:16"
    SQUARE = "1:1"


class Resolution(StrEnum):
    """The documented resolutions."""

    P480 = "480p"
    P720 = "720p"
    P1080 = "1080p"


class GenerationMode(StrEnum):
    """The mode that the server infers from the number and the types of the media.

    API page "Image to Video", introduction.
    """

    TEXT = "text"
    FIRST_FRAME = "first_frame"
    FIRST_AND_LAST_FRAME = "first_and_last_frame"
    MULTIMODAL = "multimodal"


#: Models with the durations, in whole seconds, that the API's page allows them.
DURATIONS: Mapping[str, frozenset[int]] = {
    Model.SEEDANCE_2_0: frozenset(range(4, 16)),
    Model.SEEDANCE_2_0_FAST: frozenset(range(4, 16)),
    Model.SEEDANCE_1_5_PRO: frozenset({5, 10}),
}
MAX_MEDIA = 5
#: How much of what a model takes is named in a rule: a server may list anything.
_NAMED = 20
# API page "Image to Video", table "Supported Reference Types": its formats come first in each
# set. They are "common" ones, so a type on no list is taken for an image, which every mode accepts.
_VIDEO = frozenset({".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"})
_AUDIO = frozenset({".mp3", ".wav", ".m4a", ".aac", ".ogg", ".flac"})


#: See `GenerationRequest.kind`.
Kind: TypeAlias = tuple[str, int | None, str | None, str, *tuple[str, ...]]

#: A URL, a file on this machine, or the video of another job.
Medium: TypeAlias = LocalSource | JobMedium


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


# Type checkers allow the caller the types below; at run time there may be anything.
def _as_tuple(
    value: Sequence[Medium | IO[bytes] | HasMedium] | None,
) -> tuple[Medium, ...]:
    """A list of media as a tuple; anything else is left for the rules to refuse.

    So is a set: the order of the media decides which is the first frame.
    """
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        return value  # type: ignore[return-value]
    return tuple(job_medium(content_of(each)) for each in value)


def _own_copy(value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A copy of the caller's metadata, so that a later change to it is not sent."""
    try:
        return copy.deepcopy(dict(value) if isinstance(value, Mapping) else value)
    except Exception:  # what cannot be copied is not JSON either; the rules refuse it
        return value


def _redacted(value: object) -> object:
    """A medium or a list of them as it may be shown; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(_redacted(each) for each in value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, (Path, JobMedium)):
        return str(value)
    if isinstance(value, LocalMedium):
        return value.name
    return redact_url(value) if isinstance(value, str) and value else value


def _redacted_repr(value: object) -> str:
    return repr(_redacted(value))


@attrs.frozen(weakref_slot=False)  # a waiting job keeps its request
class GenerationRequest:
    """One video to make: the body of a submit.

    Args:
        prompt: what the video shows; not blank.
        model: a `Model` or another id; ids that the API's page does not name are not checked.
        media_urls: none for text to video, else one to five reference media: public HTTPS URLs,
            or, in a session with an `uploader`, files on this machine: a path, the content as
            bytes, or an open file, which is read at once. Or a `Job`, or the last frame of one,
            `job.frame("last")`: the request is then sent once that job has succeeded.
        aspect_ratio: an `AspectRatio`; the server's default if absent.
        duration: whole seconds, 4 to 15 (seedance-1.5-pro: 5 or 10); the server's default if
            absent.
        resolution: a `Resolution`; the server's default if absent.
        webhook_url: HTTPS URL that the server calls with the final result.
        metadata: a JSON object that is stored with the job.
        extra: fields that the API's page does not name, by the names that the server knows; sent
            beside the others as they are. Their values are JSON; they are copied, and cannot be
            changed later.

    The rules are checked before anything is sent, by `SeedanceClient.create` and
    `SeedanceSession.submit`, which raise `InvalidRequestError`; `violations()` lists what the
    documented rules say. A request that breaks a rule can therefore be built: one bad line among a
    thousand is one bad outcome, and not the end of the generator that yields them.

    For the duration, the aspect ratio and the resolution, the server's list of models decides
    where it has some for the model; it is asked for before a documented rule refuses one. With the
    option `strict=False` the server judges everything, besides what cannot be sent at all.

    Rules: API page "Image to Video", table "Request Body".
    """

    prompt: str
    model: str = attrs.field(default=Model.SEEDANCE_2_0.value, kw_only=True)
    media_urls: tuple[Medium, ...] = attrs.field(
        default=(), kw_only=True, converter=_as_tuple, repr=_redacted_repr
    )
    aspect_ratio: str | None = attrs.field(default=None, kw_only=True)
    duration: int | None = attrs.field(default=None, kw_only=True)
    resolution: str | None = attrs.field(default=None, kw_only=True)
    webhook_url: str | None = attrs.field(default=None, kw_only=True, repr=_redacted_repr)
    metadata: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, converter=_own_copy, hash=False
    )
    extra: Mapping[str, Any] | None = attrs.field(
        default=None, kw_only=True, converter=frozen_fields, hash=False
    )

    @property
    def mode(self) -> GenerationMode:
        """The mode as the server infers it from the number and the types of the media."""
        if not self.media_urls:
            return GenerationMode.TEXT
        only_images = all(_media_kind(medium) == "image" for medium in self.media_urls)
        if only_images and len(self.media_urls) == 1:
            return GenerationMode.FIRST_FRAME
        if only_images and len(self.media_urls) == 2:
            return GenerationMode.FIRST_AND_LAST_FRAME
        return GenerationMode.MULTIMODAL

    @property
    def kind(self) -> Kind:
        """What requests of similar cost have in common: model, seconds, resolution, mode.

        Extra fields, whatever they mean, come after these, as JSON that is cut if it is long.
        """
        usual = str(self.model), self.duration, self.resolution, self.mode.value
        return (*usual, self.extra.kind) if isinstance(self.extra, ExtraFields) else usual

    def violations(
        self,
        *,
        allow_local: bool = False,
        uploads: bool = False,
        strict: bool = True,
        models: Sequence[ModelInfo] = (),
    ) -> list[Violation]:
        """Every rule that this request breaks; empty if it can be sent. Nothing is asked.

        Args:
            allow_local: let media and webhook URLs point to this machine or a private network, and
                be plain HTTP there, as is right if the API itself is an emulator on loopback.
            uploads: whether files on this machine will be uploaded. They are read, once each, to
                see that they are there and what they are.
            strict: False for what cannot be sent at all: what has the wrong type or is no JSON, an
                extra field that collides with a documented one, a file that is not there.
            models: the server's list of models, which decides where it tells what a model takes;
                the documented rules hold for the rest.
        """
        rules = _Rules(allow_local, uploads, strict, _limits(self.model, models))
        return list(_violations(self, rules))

    def expand(self, **values: Iterable[Any]) -> Iterator[GenerationRequest]:
        """This request over every combination of the values given, lazily, last name fastest.

        Example: `base.expand(prompt=["a", "b"], aspect_ratio=["16:9", "1:1"])` yields four.

        Args:
            values: for each field the values it takes. The first may be an endless iterator;
                the others are read whole.

        Raises:
            TypeError: a name that is not a field of a request, or a single value instead of a
                list of values.
        """
        fields = {field.name for field in attrs.fields(type(self))}
        for name, choices in values.items():
            if name not in fields:
                raise TypeError(f"{name!r} is not a field of a GenerationRequest")
            if isinstance(choices, (str, bytes, Mapping)) or not isinstance(choices, Iterable):
                raise TypeError(f"{name}: give a list of values, not the single {choices!r}")
        return (
            attrs.evolve(self, **dict(zip(values, combination, strict=True)))
            for combination in _combinations(*values.values())
        )


def _combinations(*choices: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Like `itertools.product`, but the first iterable is not read ahead."""
    if not choices:
        yield ()
        return
    first, *others = choices
    rest = [tuple(other) for other in others]
    for head in first:
        for tail in itertools.product(*rest):
            yield (head, *tail)


def _media_kind(medium: object) -> str:
    if isinstance(medium, JobMedium):
        return "video" if medium.frame is None else "image"
    suffix = suffix_of(medium) if is_local(medium) else _url_suffix(medium)
    return "video" if suffix in _VIDEO else "audio" if suffix in _AUDIO else "image"


def _url_suffix(url: object) -> str:
    try:
        path = urlsplit(str(url)).path
    except ValueError:
        return ""
    # Not by pathlib: on Python 3.12 it keeps every part of a path for as long as the process runs.
    return splitext(path.rstrip("/"))[1].lower()


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


def _violations(request: GenerationRequest, rules: _Rules) -> Iterator[Violation]:
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
        documented = (field.name for field in attrs.fields(GenerationRequest))
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
        yield Violation("media_urls", _redacted(media), rule)
        return
    if rules.strict and len(media) > MAX_MEDIA:
        rule = f"must have at most {MAX_MEDIA} URLs"
        yield Violation("media_urls", _redacted(media), rule)
    for index, medium in enumerate(media):
        field = f"media_urls[{index}]"
        if is_local(medium):
            rule_or_none = _broken_file_rule(medium) if rules.uploads else NO_UPLOADER
            if rule_or_none is not None:
                yield Violation(field, _redacted(medium), rule_or_none)
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
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
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
        yield Violation(field, _redacted(url), rule)
