"""What an engine hands out, `Task`, and what comes of it, `Outcome`: plain JSON on the way."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from seedance_async import GenerationRequest, dump_request, load_request

#: In the name of a file, this is the job's id: nobody knows it when a task is enqueued.
ID = "{id}"

#: A key that can be the name of a file as it is, on every system, and of no other key's file.
_SAFE_KEY = r"[a-z0-9_][a-z0-9_.-]{0,99}(?<![.])"


def _check_file(_task: object, _field: object, file: str | None) -> None:
    """Refuse a name that is not inside the place for videos, wherever that is."""
    parts = [""] if file == "" else (file or "-").replace("\\", "/").split("/")
    if "\0" in parts[-1] or not {"", ".", ".."}.isdisjoint(parts) or ":" in parts[0]:
        raise ValueError(f"the name of a video must be one inside a folder: {file!r:.80}")


@attrs.frozen
class Task:
    """One job to make.

    Attributes:
        key: its name over all runs: whatever has this key is the same job, and is paid once.
        request: what to make.
        file: the name of its video in the place that the worker keeps videos in; made of the key if
            it is None. `{id}` in it is the job's id. No two keys may share one.
        budget: one of the worker's `budgets`, that it counts for.
    """

    key: str
    request: GenerationRequest
    file: str | None = attrs.field(default=None, validator=_check_file)
    budget: str | None = None

    @property
    def file_name(self) -> str:
        """The name of its video."""
        return self.file or file_name(self.key)

    def dump(self) -> dict[str, Any]:
        """The task as plain JSON data.

        Raises:
            ValueError: a medium of the request is a file on this machine, or another job's video,
                which a worker elsewhere cannot know.
        """
        if not all(isinstance(medium, str) for medium in self.request.media_urls or ()):
            raise ValueError(
                f"the request of {self.key!r} cannot be made on another machine: its media must be "
                "URLs, not files on this one, nor videos of other jobs"
            )
        data = dump_request(self.request)
        plain = {"key": self.key, "request": data, "file": self.file, "budget": self.budget}
        return {name: value for name, value in plain.items() if value is not None}

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Task:
        """The task that `dump` has written.

        Raises:
            ValueError: it is none, or has a field that this version does not know.
        """
        known = dict(data)
        request = load_request(known.pop("request", None))
        try:
            return cls(request=request, **known)
        except TypeError as error:
            raise ValueError(f"no task: {error}") from None


@attrs.frozen
class Outcome:
    """What came of one key, in the words of the journal.

    Attributes:
        key: the task's.
        state: "succeeded", "failed" or "cancelled", as the server said; "rejected", if nothing was
            accepted; "uncertain", if nobody knows whether it was charged: it is never sent again;
            or "abandoned", if its deadline passed and the video may still come.
        request_id: the server's id.
        credits_charged: what the server says it charged; None where that is unknown.
        file: where the video is: a path, or a URL of a bucket.
        sha256: of the video, in hexadecimal.
        error: what went wrong.
        error_type: the name of its class, where an error of this package said it.
        sent: whether a submit was sent, so that it may have been charged.
    """

    key: str
    state: str
    request_id: str | None = None
    credits_charged: int | None = None
    file: str | None = None
    sha256: str | None = None
    error: str | None = None
    error_type: str | None = None
    sent: bool = False

    def dump(self) -> str:
        """The outcome as JSON text."""
        return json.dumps(attrs.asdict(self), ensure_ascii=False)

    @classmethod
    def load(cls, text: str) -> Outcome:
        """The outcome that `dump` has written; fields of a newer version are left out.

        Raises:
            ValueError: it is none.
        """
        data = json.loads(text)
        names = {field.name for field in attrs.fields(cls)}
        try:
            return cls(**{name: value for name, value in data.items() if name in names})
        except (AttributeError, TypeError) as error:
            raise ValueError(f"no outcome: {error}") from None


def file_name(key: str) -> str:
    """The name of a key's video: the key, where that is safe; no two keys share one.

    Names that differ only in the case of their letters are one file on some systems.
    """
    if re.fullmatch(_SAFE_KEY, key):
        return f"{key}.mp4"
    readable = re.sub(r"[^a-z0-9_-]+", "-", key.lower()).strip("-")[:60]
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{readable or 'job'}.{digest}.mp4"
