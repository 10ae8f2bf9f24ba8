"""`Shot`: what the page shows of one job. A value only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

#: Gives a file of this machine the URL by which the page refers to it.
Address = Callable[[Path], str]


@attrs.frozen(kw_only=True)
class Shot:
    """One job: its video, or the reason why there is none.

    Attributes:
        id: unique on a page, and the same whenever the page is made: ratings are kept by it.
        state: a `JobState`, "running", or "not_submitted".
        request: the request with its fields named as the API names them; exported as it is.
            Without a prompt the request is not known.
        mode: a `GenerationMode`, if it is known.
        line: where the job stands in the input.
        take: which of several takes of the line it is.
        columns: other columns of the input, by name.
        request_id: the server's id of the job.
        key: the job's name in its run, by which another request may name its video.
        credits: what the job was charged.
        error: why there is no video.
        next_step: what the user can do about it.
        video, poster: files of this machine.
        began, ended: seconds since the epoch.
    """

    id: str
    state: str
    request: Mapping[str, Any] = attrs.field(factory=dict)
    mode: str | None = None
    line: int | None = None
    take: int | None = None
    columns: Mapping[str, Any] = attrs.field(factory=dict)
    request_id: str | None = None
    key: str | None = None
    credits: int | None = None
    error: str | None = None
    next_step: str | None = None
    video: Path | None = None
    poster: Path | None = None
    began: float | None = None
    ended: float | None = None

    def as_data(self, address: Address) -> dict[str, Any]:
        """The shot as the page's script reads it: plain JSON data, without what is absent."""
        files = {"video": self.video, "poster": self.poster}
        addresses = {name: path and address(path) for name, path in files.items()}
        data = attrs.asdict(self, recurse=False) | addresses
        data["name"] = self.video.name if self.video else None
        return {name: value for name, value in data.items() if value not in (None, {})}
