"""The pictures of a request, fitted to its aspect ratio. Needs the extra `media`.

A fitted picture is known by the one that it was made from and by how, not by its bytes: another
version of Pillow encodes them otherwise, and the job has to stay the same.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

import attrs

from seedance_async.api.errors import InvalidRequestError
from seedance_async.api.local_media import LocalMedium, LocalSource, is_local, local_medium
from seedance_async.api.request import GenerationRequest, Violation
from seedance_async.media.pictures import How, fit


def fit_media(request: GenerationRequest, how: How) -> GenerationRequest:
    """A request with its pictures from this machine fitted to its aspect ratio. Blocks.

    URLs, videos and sound stay as they are, and so does a picture that has the ratio.

    Example: `session.submit(fit_media(request, "crop"))`.

    Args:
        request: what is asked for.
        how: `crop` cuts off what is too much, `pad` adds black bars.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        InvalidRequestError: a picture cannot be used, or the request names no aspect ratio.
    """
    media = request.media_urls
    if not isinstance(media, tuple):
        return request  # the rules refuse it
    violations: list[Violation] = []
    fitted = [_fitted(each, index, request, how, violations) for index, each in enumerate(media)]
    if violations:
        raise InvalidRequestError(violations)
    return attrs.evolve(request, media_urls=fitted) if fitted != list(media) else request


def fitted_medium(source: LocalSource, ratio: str, how: How) -> LocalMedium:
    """A file of this machine, fitted if it is a picture. Blocks.

    Raises:
        ValueError: it cannot be used; the text is the rule that it breaks.
    """
    medium = local_medium(source)
    return _of(medium, ratio, how) if medium.content_type.startswith("image/") else medium


def _fitted(
    each: Any, index: int, request: GenerationRequest, how: How, violations: list[Violation]
) -> Any:
    if not is_local(each):
        return each
    field = f"media_urls[{index}]"
    try:
        medium = local_medium(each)
        if not medium.content_type.startswith("image/"):
            return each
        if request.aspect_ratio is None:
            violations.append(Violation("aspect_ratio", None, "must be given, to fit pictures to"))
            return each
        found = _of(medium, request.aspect_ratio, how)
    except ValueError as error:
        violations.append(Violation(field, _named(each), str(error)))
        return each
    return each if found is medium else found


def _named(medium: LocalSource) -> str:
    """A medium as an error shows it."""
    if isinstance(medium, bytes):
        return f"{len(medium):,} bytes"
    return medium.name if isinstance(medium, LocalMedium) else os.fspath(medium)


@functools.lru_cache(maxsize=4096)
def _of(medium: LocalMedium, ratio: str, how: How) -> LocalMedium:
    """Thousands of jobs may have the same picture; the fitted bytes are not kept."""
    given = medium.read()
    data = fit(given, ratio, how)
    if data is given:
        return medium
    return attrs.evolve(
        medium,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        identity=f"{medium.identity}+{how}-{ratio}",
        source=functools.partial(_made_again, medium, ratio, how),
    )


def _made_again(medium: LocalMedium, ratio: str, how: How) -> bytes:
    return fit(medium.read(), ratio, how)
