"""Small real clips, each frame of which tells its number by its brightness."""

import array
import io
import math
from fractions import Fraction

import av
from PIL import Image

FPS = 24


def level(number):
    """The brightness of a frame by its number; neighbours are far apart."""
    return 40 + 35 * (number % 6)


def write_clip(path, frames=30, *, size=(96, 64), first=0, levels=level, sound=False, **codec):
    """Write a clip whose frames are numbered from `first`; with B-frames, as encoders make them."""
    codec = {"codec": "libx264", "rate": FPS, "gop": 12, "colours": None, **codec}
    with av.open(str(path), "w", format="mp4", options=codec.get("options", {})) as container:
        stream = container.add_stream(codec["codec"], rate=codec["rate"])
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = codec["gop"]
        if codec["colours"] is not None:
            stream.codec_context.colorspace = codec["colours"]
        tone = _add_sound(container, frames / codec["rate"]) if sound else None
        for number in range(frames):
            container.mux(stream.encode(_frame(size, levels(first + number), number, codec)))
        container.mux(stream.encode(None))
        if tone is not None:
            container.mux(tone)
    return path


def _frame(size, brightness, number, codec):
    if codec.get("picture") is not None:
        frame = av.VideoFrame.from_image(codec["picture"]).reformat(
            format="yuv420p", dst_colorspace=codec["picture_colours"]
        )
    else:
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, value in zip(frame.planes, (brightness, 128, 128), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
    frame.pts, frame.time_base = number, Fraction(1, codec["rate"])
    return frame


def _add_sound(container, seconds):
    stream = container.add_stream("aac", rate=44100, layout="mono")
    packets = []
    wave = array.array("f", (math.sin(t * math.tau / 64) / 3 for t in range(1024))).tobytes()
    for start in range(0, int(44100 * seconds), 1024):
        frame = av.AudioFrame("fltp", "mono", 1024)
        frame.planes[0].update(wave)
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def brightness(picture):
    """Of a picture's bytes, as `level` counts it."""
    image = Image.open(io.BytesIO(picture)).convert("L")
    grey = image.getpixel((image.width // 2, image.height // 2))
    return 16 + grey * 219 / 255


def frame_levels(path):
    """The brightness of each frame of a clip, in the order in which they are shown."""
    with av.open(str(path)) as container:
        return [bytes(frame.planes[0])[0] for frame in container.decode(video=0)]
