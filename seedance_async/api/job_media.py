"""The video of another job as a medium of a request: which job, and how much of its video.

Such a medium is known by the job and not by its bytes, so a request that has one is the same
request before that job is made, after it, and in every run. `session/chaining.py` resolves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import attrs

#: The rule that anything else than text, a file or a job breaks.
BAD_REFERENCE = 'must be {"from": KEY}, or {"from": KEY, "frame": "last"}, to name another job'

#: The rule that a frame breaks where nobody can upload it.
NO_UPLOADER_FOR_FRAME = "is uploaded as a picture: give the session an uploader"


@attrs.frozen
class JobMedium:
    """The video of another job, or its last frame.

    `job.frame("last")` makes one of a job, and a job itself stands for its whole video. By its key
    alone a job can be named that comes earlier in the same list, is running in the session, or is
    in its journal.

    Args:
        key: the job's.
        frame: "last" for its last frame as a picture, which the session's uploader puts where the
            API can fetch it; None for the whole video, by the URL that the server gives for it, or
            uploaded as well where it is saved on this machine.
        job: its handle, if there is one.

    Raises:
        ValueError: the key is blank, or there is no such frame.
    """

    key: str
    frame: Literal["last"] | None = None
    job: Any = attrs.field(default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key.strip():
            raise ValueError(f"the key of a job must be text that is not blank: {self.key!r}")
        if self.frame not in (None, "last"):
            raise ValueError(f'frame must be "last" or None, not {self.frame!r}')

    def __reduce__(self) -> tuple[Any, ...]:
        return JobMedium, (self.key, self.frame)  # a chain of jobs is not pickled with its end

    def __copy__(self) -> JobMedium:
        return self  # as any value; what `__reduce__` makes would not have the handle

    def __deepcopy__(self, _memo: object) -> JobMedium:
        return self

    def __str__(self) -> str:
        return f"the {'video' if self.frame is None else 'last frame'} of job {self.key}"

    def as_data(self) -> dict[str, str]:
        """What stands for it in JSON: `{"from": "shot-3", "frame": "last"}`."""
        frame = {} if self.frame is None else {"frame": self.frame}
        return {"from": self.key, **frame}


class HasMedium(Protocol):
    """What can be a medium itself: a `Job`."""

    def as_medium(self) -> JobMedium:
        """Its whole video."""
        ...


def job_medium(value: Any) -> Any:
    """The medium that a job, or the JSON for one, stands for; anything else as it is."""
    if isinstance(value, Mapping):
        try:
            return JobMedium(value["from"], value.get("frame")) if _is_whole(value) else value
        except ValueError:
            return value  # the rules name it
    as_medium = getattr(value, "as_medium", None)
    return as_medium() if callable(as_medium) else value


def _is_whole(data: Mapping[Any, Any]) -> bool:
    return "from" in data and data.keys() <= {"from", "frame"}
