"""A request on its way: validated once, turned into JSON once, fingerprinted at most once.

The journal keeps the JSON and knows the request by its fingerprint; the submit sends the JSON.
Field names on the wire: API page "Image to Video", table "Request Body".
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from seedance_async.api.capabilities import Capabilities
from seedance_async.api.errors import InvalidRequestError
from seedance_async.api.extra_fields import ExtraFields
from seedance_async.api.job_media import JobMedium
from seedance_async.api.local_media import (
    STAND_IN,
    LocalMedium,
    LocalSource,
    is_local,
    local_medium,
)
from seedance_async.api.models import ModelInfo
from seedance_async.api.request import GenerationRequest
from seedance_async.api.rules import Violation, violations_of

_WIRE_NAMES = {
    "media_urls": "mediaUrls",
    "aspect_ratio": "aspectRatio",
    "webhook_url": "webhookUrl",
}
#: Fields of a request, by the names of the wire, that make no other video.
_ASIDE = frozenset({"metadata", _WIRE_NAMES["webhook_url"]})

#: Gives each media URL the text that stands for it in a fingerprint.
MediaKey = Callable[[str], str]
_ENCODE = json.JSONEncoder(allow_nan=False).encode
_FIELDS = tuple(field.name for field in attrs.fields(GenerationRequest))
_UNKNOWN = f"is not one of {', '.join(_FIELDS)}; what the server takes besides goes into extra"


class PreparedRequest:
    """A request that keeps the documented rules, as JSON.

    Args:
        request: what is asked for.
        data: the same as `dump_request` gives it.
        media_key: see `fingerprint_of`.

    Attributes:
        local: the media on this machine that are to be uploaded, by their place. Their stand-ins
            are in `data` and `body`; see `with_media`.
        sources: the media that are videos of other jobs, by their place. What names those jobs is
            in `data` and `body`, and in the fingerprint, so it is the same in every run.
        budget: the named limit on credits that it counts for.
        key: the job's, if its caller gave one.
    """

    __slots__ = (
        "_fingerprint", "_media_key", "body", "budget", "data", "key", "local", "request", "sources"
    )  # fmt: skip

    def __init__(
        self,
        request: GenerationRequest,
        data: dict[str, Any],
        media_key: MediaKey | None = None,
        local: Mapping[int, LocalMedium] | None = None,
        sources: dict[int, JobMedium] | None = None,
    ) -> None:
        self.request, self.data, self._media_key = request, data, media_key
        self.local = local or {}
        self.sources = sources or {}
        self.body = _ENCODE(_as_sent(data)).encode()
        self._fingerprint: str | None = None
        self.budget: str | None = None
        self.key: str | None = None

    def __repr__(self) -> str:
        return f"<PreparedRequest {self.request!r}>"

    @property
    def record(self) -> str:
        """The request as a journal keeps it: `data` as JSON, from which `load_request` makes it."""
        return json.dumps(self.data) if "extra" in self.data else self.body.decode()

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.data, self._media_key)
        return self._fingerprint

    @property
    def key_stem(self) -> str:
        """What an automatic key begins with: the fingerprint, of what counts for a named limit too.

        Equal requests of two tenants are two jobs.
        """
        if self.budget is None:
            return self.fingerprint
        return hashlib.sha256(f"{self.fingerprint} {self.budget}".encode()).hexdigest()[:32]

    def with_callback_url(self, url: str) -> PreparedRequest:
        """The same, to be called back at this URL. The rules are not checked again."""
        request = attrs.evolve(self.request, webhook_url=url)
        data = {**self.data, _WIRE_NAMES["webhook_url"]: url}
        return PreparedRequest(request, data, self._media_key, self.local, self.sources)

    def with_media(self, urls: Mapping[int, str]) -> PreparedRequest:
        """The same with the URLs, by their place, that local media and other jobs' videos have."""
        name = _WIRE_NAMES["media_urls"]
        media = [urls.get(index, each) for index, each in enumerate(self.data[name])]
        return PreparedRequest(self.request, {**self.data, name: media}, self._media_key)


def _as_sent(data: dict[str, Any]) -> dict[str, Any]:
    """A request as the server gets it: with its extra fields among the documented ones."""
    if "extra" not in data:
        return data
    return {**{name: data[name] for name in data if name != "extra"}, **data["extra"]}


def prepare(
    request: GenerationRequest,
    *,
    allow_local: bool = False,
    media_key: MediaKey | None = None,
    uploads: bool = False,
    strict: bool = True,
    models: Sequence[ModelInfo] = (),
) -> PreparedRequest:
    """Check a request against the rules and turn it into JSON.

    Args:
        request: the request.
        allow_local, uploads, strict, models: see `GenerationRequest.violations`.
        media_key: see `fingerprint_of`.

    Raises:
        InvalidRequestError: names the first broken rule and lists all.
    """
    if not isinstance(request, GenerationRequest):
        raise InvalidRequestError([Violation("request", request, "must be a GenerationRequest")])
    violations = violations_of(
        request, allow_local=allow_local, uploads=uploads, strict=strict, models=models
    )
    if violations:
        raise InvalidRequestError(violations)
    local, urls = dict[int, LocalMedium](), request.media_urls
    for index, each in enumerate(urls):
        if is_local(each):
            local[index] = _checked_medium(f"media_urls[{index}]", each)
    # Local media are not looked at once more: a file may go at any time.
    media = [local[i].stand_in if i in local else each for i, each in enumerate(urls)]
    data = dump_request(attrs.evolve(request, media_urls=media) if local else request)
    sources = {index: each for index, each in enumerate(urls) if isinstance(each, JobMedium)}
    return PreparedRequest(request, data, media_key, local, sources)


class Preparer:
    """Prepares the requests for one server, by what is known of its models.

    Args:
        capabilities: what is known.
        allow_local, uploads, strict, media_key: see `prepare`.
        was_sent: whether a job with this key, or without one an equal request, was submitted by an
            earlier run: whatever the models take by now, it may be running.
    """

    def __init__(
        self,
        capabilities: Capabilities,
        *,
        allow_local: bool,
        strict: bool,
        uploads: bool = False,
        media_key: MediaKey | None = None,
        was_sent: Callable[[PreparedRequest, str | None], Awaitable[bool]] | None = None,
    ) -> None:
        self._capabilities, self._strict, self._was_sent = capabilities, strict, was_sent
        self._prepare = functools.partial(
            prepare, allow_local=allow_local, uploads=uploads, media_key=media_key
        )

    async def prepare(self, request: GenerationRequest, key: str | None = None) -> PreparedRequest:
        """As the function; what the documented rules refuse may be allowed by the server's list.

        Args:
            request: the request.
            key: of its job, if the caller gives one.

        Raises:
            InvalidRequestError: names the first broken rule and lists all.
        """
        known = self._capabilities
        try:
            return self._prepare(request, strict=self._strict, models=known.models)
        except InvalidRequestError as error:
            if not all(violation.of_model for violation in error.violations):
                raise
            if not await known.may_lift(error.violations):
                return await self._sent_before(request, key, error)
        try:
            return self._prepare(request, strict=self._strict, models=known.models)
        except InvalidRequestError as error:
            return await self._sent_before(request, key, error)

    async def _sent_before(
        self, request: GenerationRequest, key: str | None, refusal: InvalidRequestError
    ) -> PreparedRequest:
        """A request that its model does not take, if a job of it was submitted nevertheless."""
        if self._was_sent is not None:
            prepared = self._prepare(request, strict=False)
            if await self._was_sent(prepared, key):
                return prepared
        raise refusal

    def fingerprint(self, request: GenerationRequest) -> str:
        """The fingerprint of a request that was prepared before, whatever the rules say by now.

        Raises:
            InvalidRequestError: it can no longer be sent: a file is gone.
        """
        return self._prepare(request, strict=False).fingerprint


def _checked_medium(field: str, source: LocalSource) -> LocalMedium:
    try:
        return local_medium(source)
    except ValueError as error:  # it went, or was changed, since the rules were checked
        raise InvalidRequestError([Violation(field, source, str(error))]) from None


def without_query(url: str) -> str:
    """A URL without its query and fragment, which are where signatures are.

    As a `media_key`, it makes a request with a freshly signed URL the same job as before.
    """
    return re.split(r"[?#]", url, maxsplit=1)[0]


def fingerprint_of(data: Mapping[str, Any], media_key: MediaKey | None = None) -> str:
    """32 hexadecimal characters, the same for equal requests in every process.

    The order of the keys makes no difference.

    Args:
        data: a request as `dump_request` gives it.
        media_key: what stands for each media URL, if not the URL itself is what makes two media
            the same; `without_query`, for example.

    Raises:
        TypeError, ValueError: it is not JSON, or `media_key` gave something else than text.
    """
    data = _with_media_keys(data, media_key)
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def video_fingerprint_of(data: Mapping[str, Any], media_key: MediaKey | None = None) -> str:
    """As `fingerprint_of`, whatever the metadata and the webhook are: they make no other video."""
    return fingerprint_of({name: data[name] for name in data if name not in _ASIDE}, media_key)


def changed_fields(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What makes another video of a request than of one before.

    Args:
        before, now: requests as `dump_request` gives them.

    Returns:
        By the names of the wire, what each field was that differs; None where it was not given.
        Signatures of media URLs make no difference, nor do the metadata and the webhook's URL.
    """
    one, other = _with_media_keys(before, without_query), _with_media_keys(now, without_query)
    names = sorted((one.keys() | other.keys()) - _ASIDE)
    return {name: before.get(name) for name in names if one.get(name) != other.get(name)}


def _with_media_keys(data: Mapping[str, Any], media_key: MediaKey | None) -> Mapping[str, Any]:
    name = _WIRE_NAMES["media_urls"]
    urls = data.get(name)
    return {**data, name: [_key_of(url, media_key) for url in urls]} if urls else data


def _key_of(url: Any, media_key: MediaKey | None) -> Any:
    if isinstance(url, dict):
        return url  # another job, by its key
    if isinstance(url, str) and url.startswith(STAND_IN):
        return url.partition("/")[0]  # wherever it lies
    if media_key is None:
        return url
    key = media_key(url)
    if not isinstance(key, str):
        raise TypeError(f"media_key must return text, not {type(key).__name__}")
    return key


def dump_request(request: GenerationRequest) -> dict[str, Any]:
    """A request as plain JSON data, with the names that the API's page gives its fields.

    Extra fields are in an object of their own, `extra`; the server gets them among the others.
    In place of media on this machine stand their hashes and names, in place of other jobs' videos
    the keys of those jobs.

    Raises:
        ValueError: such a medium cannot be read.
    """
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
            violations.append(Violation(str(given), value, _unknown(str(given))))
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


def _unknown(name: str) -> str:
    """The rule that a name breaks which is no field."""
    near = difflib.get_close_matches(name, (*_FIELDS, *_WIRE_NAMES.values()), 1, 0.8)
    return f"{_UNKNOWN}; did you mean {near[0]}?" if near else _UNKNOWN


def _wire_extra(extra: Any) -> Any:
    return extra.as_dict() if isinstance(extra, ExtraFields) else extra


def _wire_media(media: tuple[Any, ...]) -> list[Any]:
    return [_wire(each) for each in media]


def _wire(medium: Any) -> Any:
    if isinstance(medium, JobMedium):
        return medium.as_data()
    return local_medium(medium).stand_in if is_local(medium) else medium


@functools.cache
def _converter() -> cattrs.Converter:
    """The one converter; made when it is first needed, so that importing costs nothing of it."""
    converter = cattrs.Converter(detailed_validation=False)
    overrides: dict[str, Any] = {name: override(rename=wire) for name, wire in _WIRE_NAMES.items()}
    overrides["media_urls"] = override(rename=_WIRE_NAMES["media_urls"], unstruct_hook=_wire_media)
    overrides["extra"] = override(unstruct_hook=_wire_extra)
    overrides["model"] = override(omit_if_default=False)
    dump = make_dict_unstructure_fn(
        GenerationRequest, converter, _cattrs_omit_if_default=True, **overrides
    )
    converter.register_unstructure_hook(GenerationRequest, dump)
    return converter
