"""The poster of a video: `NAME.jpg` beside `NAME.mp4`. Needs the extra `media`."""

from __future__ import annotations

from pathlib import Path

from seedance_async._utils.whole_file import write_whole
from seedance_async.media.extra import media_required
from seedance_async.media.frames import poster
from seedance_async.media.sidecar import poster_path

with media_required():
    from PIL import Image

#: The comment in a poster's file, by which it is known among the user's own pictures.
_MARK = b"poster of a video, by seedance-async"


def write_poster(video: Path) -> Path:
    """Write the poster of a video; one that is there is replaced, whole or not at all. Blocks.

    Returns:
        Its path.

    Raises:
        FileExistsError: a picture of that name is there, and it is no poster.
        OSError: it cannot be written.
        ValueError: the video cannot be read.
    """
    path = poster_path(video)
    if path.exists() and not _is_poster(path):
        raise FileExistsError(17, "a picture is there that is no poster", str(path))
    write_whole(path, _marked(poster(video)))
    return path


def _marked(data: bytes) -> bytes:
    """A JPEG file with the comment, right after its first two bytes."""
    return data[:2] + b"\xff\xfe" + (len(_MARK) + 2).to_bytes(2, "big") + _MARK + data[2:]


def _is_poster(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return bool(image.info.get("comment") == _MARK)
    except (OSError, ValueError):
        return False
