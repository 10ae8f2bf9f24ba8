"""Single frames of a finished clip: its last one, a poster, thumbnails. Needs the extra `media`.

Everything here blocks, for as long as decoding takes.
"""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

from seedance_async.media.clips import opened_clip
from seedance_async.media.extra import media_required

with media_required():
    import av
    from av.container import InputContainer
    from av.video.reformatter import Colorspace
    from av.video.stream import VideoStream
    from PIL import Image, ImageStat

#: Mean brightness, of 255, below which a frame counts as black.
_BLACK = 24.0

#: Where a poster is looked for, as shares of the clip's length; the first that is not black is it.
_PLACES = (0.0, 0.25, 0.5, 0.75)

#: From this height on, a clip that names no colour space has that of HD television.
_HD_HEIGHT = 720
_UNNAMED = 2


def last_frame(path: Path) -> bytes:
    """The last frame of a clip, in full size, as PNG.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        ValueError: the file is no video that can be decoded.
    """
    with opened_clip(path) as (container, stream):
        stream.thread_type = "AUTO"  # there may be many frames to decode
        last = deque[av.VideoFrame](maxlen=1)
        if _seek(container, stream, stream.duration or 0):
            last.extend(container.decode(stream))
        if not last:  # the index does not lead to the end
            container.seek(0)
            last.extend(container.decode(stream))
        if not last:
            raise ValueError(f"{path} has no frames")
        return _encoded(_image(last[0]), "PNG")


def poster(path: Path, width: int = 640) -> bytes:
    """A frame that stands for a clip, as JPEG: the first that is not black, else the brightest.

    Args:
        path: the clip.
        width: pixels; a smaller clip is not enlarged.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        ValueError: the file is no video that can be decoded.
    """
    best, brightest = None, -1.0
    with opened_clip(path) as (container, stream):
        for share in _PLACES:
            frame = _frame_at(container, stream, share)
            if frame is None:
                continue
            image = _scaled(_image(frame), width)
            brightness = ImageStat.Stat(image.convert("L")).mean[0]
            if brightness > brightest:
                best, brightest = image, brightness
            if brightness >= _BLACK:
                break
    if best is None:
        raise ValueError(f"{path} has no frames")
    return _encoded(best, "JPEG")


def thumbnails(path: Path, count: int = 4, width: int = 320) -> list[bytes]:
    """So many frames of a clip, evenly spaced over its length, as JPEG.

    Args:
        path: the clip.
        count: how many; a clip with fewer frames repeats some.
        width: pixels; a smaller clip is not enlarged.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        ValueError: the file is no video that can be decoded.
    """
    with opened_clip(path) as (container, stream):
        places = ((index + 0.5) / count for index in range(count))
        frames = [_frame_at(container, stream, share) for share in places]
        found = [_encoded(_scaled(_image(each), width), "JPEG") for each in frames if each]
    if len(found) < count:
        raise ValueError(f"{path} has no frames")
    return found


def _seek(container: InputContainer, stream: VideoStream, offset: int) -> bool:
    """Go to the key frame before an offset in the stream; False where there is no index."""
    try:
        container.seek((stream.start_time or 0) + offset, stream=stream)
    except av.FFmpegError:
        return False
    return True


def _frame_at(container: InputContainer, stream: VideoStream, share: float) -> av.VideoFrame | None:
    """The frame at a share of the clip's length, or the last one before it; None if none is."""
    offset = int((stream.duration or 0) * share)
    if not _seek(container, stream, offset):
        container.seek(0)
    wanted, last = (stream.start_time or 0) + offset, None
    for frame in container.decode(stream):
        last = frame
        if frame.pts is None or frame.pts >= wanted:
            break
    return last


def _image(frame: av.VideoFrame) -> Image.Image:
    """A frame as a viewer sees it: in the clip's colours, and upright."""
    is_hd = frame.colorspace == _UNNAMED and frame.height >= _HD_HEIGHT
    colours = Colorspace.ITU709 if is_hd else None
    pixels = frame.reformat(format="rgb24", src_colorspace=colours).planes[0]
    size = frame.width, frame.height
    image = Image.frombytes("RGB", size, bytes(pixels), "raw", "RGB", pixels.line_size)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _scaled(image: Image.Image, width: int) -> Image.Image:
    if image.width > width:
        size = width, max(1, round(image.height * width / image.width))
        return image.resize(size, Image.Resampling.LANCZOS)
    return image


def _encoded(image: Image.Image, form: str) -> bytes:
    target = io.BytesIO()
    image.save(target, form, quality=85)
    return target.getvalue()
