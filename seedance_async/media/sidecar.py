"""The sidecar of a video: a JSON file beside it that says how it came to be.

`NAME.mp4` has `NAME.json`. It holds the request exactly as the journal has it, so that the same
video can be asked for again, and what is known of the job. It never holds a key of the API.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from seedance_async._utils.whole_file import write_whole
from seedance_async.api.errors import ConfigurationError
from seedance_async.api.local_media import STAND_IN, LocalSource, is_local, local_medium
from seedance_async.api.prepared_request import dump_request, load_request
from seedance_async.api.request import GenerationRequest

#: The format, as the file names it under `seedance`.
VERSION = 1

_MARK = "seedance"


@attrs.frozen(kw_only=True)
class Sidecar:
    """What is kept of the job that a video comes from.

    Attributes:
        request: as `dump_request` gives it. In place of files of this machine stand their hashes.
        files: the paths of such files, by the text that stands for each in the request.
        key: the job's, in the journal of its run.
        request_id: the server's id of the job.
        credits_charged: what the server says that it charged.
        line: the line of the input, counted from 1.
        take: which of several videos of one line it is, counted from 1.
        columns: the other columns of the line.
        submitted_at, saved_at: seconds since 1970.
        size, sha256: of the video as it was downloaded; tags change them.
    """

    request: Mapping[str, Any]
    files: Mapping[str, str] = attrs.field(factory=dict)
    key: str | None = None
    request_id: str | None = None
    credits_charged: int | None = None
    line: int | None = None
    take: int | None = None
    columns: Mapping[str, Any] = attrs.field(factory=dict)
    submitted_at: float | None = None
    saved_at: float | None = None
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def of(cls, request: GenerationRequest, **known: Any) -> Sidecar:
        """The sidecar for a request, and whatever else is known of its job.

        Raises:
            ValueError: a file that the request names cannot be read.
        """
        return cls(request=dump_request(request), files=files_of(request), **known)

    @property
    def body(self) -> bytes:
        """The request byte for byte as the journal records it."""
        return json.dumps(self.request, allow_nan=False).encode()

    def rebuilt(self) -> GenerationRequest:
        """The request, to be sent once more. Blocks.

        It has the files of this machine again that are still where they were, with the same
        content. The rules refuse what stands for the others.

        Raises:
            InvalidRequestError: it has a field that is not known.
        """
        request = load_request(self.request)
        if not self.files or not isinstance(request.media_urls, tuple):
            return request
        return attrs.evolve(request, media_urls=[self._file(each) for each in request.media_urls])

    def _file(self, medium: Any) -> Any:
        """The file that a text stands for, if it is there, or else what was given."""
        path = self.files.get(medium) if isinstance(medium, str) else None
        if path is None:
            return medium
        identity = medium.removeprefix(STAND_IN).partition("/")[0]
        try:
            return file_of_identity(Path(path), identity)
        except (ConfigurationError, ValueError):
            return medium

    def as_text(self) -> str:
        """The content of the file: JSON.

        Raises:
            TypeError, ValueError: a value is none of JSON.
        """
        values = attrs.asdict(self, recurse=False)
        known = {name: value for name, value in values.items() if value not in (None, {})}
        text = json.dumps({_MARK: VERSION, **known}, allow_nan=False, ensure_ascii=False, indent=2)
        return text + "\n"

    @classmethod
    def from_text(cls, text: str | bytes) -> Sidecar:
        """What a file's content says. Fields that are not known are ignored.

        Raises:
            ValueError: it is no sidecar.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is no JSON: {error}") from None
        if not isinstance(found, dict) or not isinstance(found.get(_MARK), int):
            raise ValueError("it is not the sidecar of a video")
        if found[_MARK] > VERSION or not isinstance(found.get("request"), dict):
            raise ValueError(f"it is a sidecar of another version: {found[_MARK]}")
        names = attrs.fields_dict(cls)
        return cls(**{name: value for name, value in found.items() if name in names})


def files_of(request: GenerationRequest) -> dict[str, str]:
    """The paths of a request's files, by the text that stands for each. Blocks.

    Raises:
        ValueError: one cannot be read.
    """
    local = [local_medium(each) for each in request.media_urls if is_local(each)]
    return {each.stand_in: str(each.path.absolute()) for each in local if each.path}


def file_of_identity(path: Path, identity: str) -> LocalSource:
    """The file of an identity; a picture that was fitted is fitted again. Blocks.

    Raises:
        ConfigurationError: it was fitted, and the extra `media` is not installed.
        ValueError: the file has another content, or cannot be used.
    """
    medium = local_medium(path)
    if medium.identity == identity:
        return path
    from seedance_async.media.fitting import fitted_medium

    for step in identity.split("+")[1:]:
        how, _, ratio = step.partition("-")
        medium = fitted_medium(medium, ratio, "crop" if how == "crop" else "pad")
    if medium.identity != identity:
        raise ValueError(f"{path} was changed")
    return medium


def sidecar_path(video: Path) -> Path:
    """Where the sidecar of a video is."""
    return video.with_suffix(".json")


def poster_path(video: Path) -> Path:
    """Where the poster of a video is."""
    return video.with_suffix(".jpg")


def write_sidecar(video: Path, sidecar: Sidecar) -> Path:
    """Write the sidecar of a video; one that is there is replaced, whole or not at all.

    Returns:
        Its path.

    Raises:
        OSError: it cannot be written.
        FileExistsError: a file of that name is there, and it is no sidecar.
        TypeError, ValueError: a value is none of JSON.
    """
    path = sidecar_path(video)
    text = sidecar.as_text()
    if path.exists() and not _is_sidecar(path):
        raise FileExistsError(17, "a file is there that is no sidecar", str(path))
    write_whole(path, text.encode("utf-8", "backslashreplace"))  # as JSON does
    return path


def read_sidecar(path: str | os.PathLike[str]) -> Sidecar:
    """Read a sidecar, by its own path or its video's.

    Raises:
        OSError: it cannot be read; FileNotFoundError if there is none.
        ValueError: the file is no sidecar.
    """
    place = Path(path)
    place = place if place.suffix == ".json" else sidecar_path(place)
    try:
        return Sidecar.from_text(place.read_bytes())
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _is_sidecar(path: Path) -> bool:
    try:
        read_sidecar(path)
    except (OSError, ValueError):
        return False
    return True
