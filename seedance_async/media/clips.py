"""A finished clip, opened to be read. Needs the extra `media`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seedance_async.media.extra import media_required

with media_required():
    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream


@contextmanager
def opened_clip(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A clip and its video stream.

    Raises:
        ValueError: the file is no video that can be read, before or within the block.
    """
    try:
        # By its protocol, so that no name is taken for an address.
        with av.open(f"file:{path}") as container:
            if not container.streams.video:
                raise ValueError(f"{path} has no video")
            yield container, container.streams.video[0]
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except av.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}") from error
