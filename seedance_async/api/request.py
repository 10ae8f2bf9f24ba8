"""A request for one video. The rules that it has to keep are in `rules`.

Values only: nothing here raises an SDK error, knows how the wire spells a field, or does I/O but
for a look at media on this machine.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from posixpath import splitext
from typing import IO, Any, TypeAlias
from urllib.parse import urlsplit

import attrs

from seedance_async.api.extra_fields import ExtraFields, frozen_fields
from seedance_async.api.job_media import HasMedium, JobMedium, job_medium
from seedance_async.api.local_media import LocalSource, content_of, is_local, suffix_of
from seedance_async.api.models import ModelInfo
from seedance_async.api.rules import Violation as Violation
from seedance_async.api.rules import redacted, violations_of
from seedance_async.api.vocabulary import GenerationMode, Model

# API page "Image to Video", table "Supported Reference Types": its formats come first in each
# set. They are "common" ones, so a type on no list is taken for an image, which every mode accepts.
_VIDEO = frozenset({".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"})
_AUDIO = frozenset({".mp3", ".wav", ".m4a", ".aac", ".ogg", ".flac"})


#: See `GenerationRequest.kind`.
Kind: TypeAlias = tuple[str, int | None, str | None, str, *tuple[str, ...]]

#: A URL, a file on this machine, or the video of another job.
Medium: TypeAlias = LocalSource | JobMedium


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


def _redacted_repr(value: object) -> str:
    return repr(redacted(value))


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
        return violations_of(
            self, allow_local=allow_local, uploads=uploads, strict=strict, models=models
        )

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
