"""Rendering: makes real H.264 MP4 files that a viewer can tell apart.

A still background with the prompt is drawn once with Pillow; every frame is then a copy of its
planes with a few rows changed (a moving block, a counter, a progress bar), so that most of the time
goes into encoding. It blocks, so it is called on a thread.
"""

import hashlib
import re
from collections.abc import Callable
from fractions import Fraction
from math import cos, pi
from pathlib import Path

import av
from attrs import frozen
from PIL import Image, ImageDraw

from seedance_async.emulator.lettering import Font, draw, font_of, lines_of

FPS = 24
_WIDEST = 4.0  # a wider picture would be too large to encode
_ENCODER = {"preset": "ultrafast", "tune": "zerolatency", "crf": "30", "g": "48"}
_LUMA = [16 + round(level * 219 / 255) for level in range(256)]
_CHROMA = [round(128 + (level - 128) * 224 / 255) for level in range(256)]
_WHITE, _BLACK = 235, 16


class RenderingStoppedError(Exception):
    """The emulator stopped while a clip was being rendered."""


@frozen
class Picture:
    """What a clip shows and how large and long it is."""

    title: str
    caption: str
    resolution: str
    aspect_ratio: str
    duration: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, both even."""
        short = _short_side(self.resolution)
        across, down = _sides(self.aspect_ratio)
        long = 2 * round(short * min(max(across, down) / min(across, down), _WIDEST) / 2)
        return (long, short) if across >= down else (short, long)


def _short_side(resolution: str) -> int:
    """Pixels: of "720p", or of "4k"; of anything else as of 720p."""
    number = re.fullmatch(r"([1-9][0-9]{1,3})p|([1-8])k", resolution.lower())
    if number is None:
        return 720
    lines, thousands = number.groups()
    return max(16, int(lines)) // 2 * 2 if lines else 540 * int(thousands)


def _sides(aspect_ratio: str) -> tuple[int, int]:
    """Width and height of "21:9"; of anything else as of 16:9."""
    found = re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", aspect_ratio)
    return (int(found[1]), int(found[2])) if found else (16, 9)


class Canvas:
    """The three planes of the background, and of the frame drawn over it."""

    def __init__(self, picture: Picture) -> None:
        self.width, self.height = picture.size
        probe = av.VideoFrame(self.width, self.height, "yuv420p")
        self._strides = [plane.line_size for plane in probe.planes]
        self._hue = _digest(picture.title)[0] * 360 // 256
        self._font = font_of(max(14, min(picture.size) // 30))
        background = _background(picture, self._hue)
        luma, blue, red = background.convert("YCbCr").split()
        self._base = [
            self._plane(luma.point(_LUMA), 0),
            self._plane(blue.reduce(2).point(_CHROMA), 1),
            self._plane(red.reduce(2).point(_CHROMA), 2),
        ]
        self._planes = [bytearray(plane) for plane in self._base]
        colour = Image.new("RGB", (1, 1), _hsv(self._hue + 180, 0.9, 1.0)).convert("YCbCr")
        tone = colour.getpixel((0, 0))
        assert isinstance(tone, tuple)
        self._block = (_LUMA[tone[0]], _CHROMA[tone[1]], _CHROMA[tone[2]])

    def _plane(self, image: Image.Image, index: int) -> bytes:
        """The rows of one plane, each padded to the encoder's stride."""
        padded = Image.new("L", (self._strides[index], image.height))
        padded.paste(image, (0, 0))
        return padded.tobytes()

    def frame(self, number: int, count: int) -> av.VideoFrame:
        """Frame ``number`` of ``count``."""
        for plane, base in zip(self._planes, self._base, strict=True):
            plane[:] = base
        self._draw_block(number, count)
        self._draw_counter(number, count)
        self._draw_progress(number + 1, count)
        frame = av.VideoFrame(self.width, self.height, "yuv420p")
        for target, content in zip(frame.planes, self._planes, strict=True):
            target.update(bytes(content))
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        return frame

    def _fill(self, index: int, box: tuple[int, int, int, int], level: int) -> None:
        left, top, right, bottom = box
        stride, row = self._strides[index], bytes([level]) * (right - left)
        plane = self._planes[index]
        for start in range(top * stride + left, bottom * stride + left, stride):
            plane[start : start + len(row)] = row

    def _draw_block(self, number: int, count: int) -> None:
        side = min(self.width, self.height) // 16 * 2
        swing = (1 - cos(4 * pi * number / count)) / 2
        left = round((self.width - side) * swing) // 2 * 2
        top = self.height * 5 // 8 // 2 * 2
        whole = (left, top, left + side, top + side)
        half = (left // 2, top // 2, (left + side) // 2, (top + side) // 2)
        for index, box in enumerate((whole, half, half)):
            self._fill(index, box, self._block[index])

    def _draw_counter(self, number: int, count: int) -> None:
        text = f" frame {number + 1}/{count}   {number / FPS:05.2f} s "
        height = int(_text_height(self._font) * 1.4)
        label = Image.new("L", (min(self.width, height * 11), height), _BLACK)
        ImageDraw.Draw(label).text((0, 0), text, fill=_WHITE, font=self._font)
        content, stride = label.tobytes(), self._strides[0]
        top = self.height - 2 * height
        for row in range(height):
            start = (top + row) * stride
            line = content[row * label.width : (row + 1) * label.width]
            self._planes[0][start : start + label.width] = line

    def _draw_progress(self, done: int, count: int) -> None:
        thickness = max(4, self.height // 60)
        end = self.width * done // count
        self._fill(0, (0, self.height - thickness, self.width, self.height), _BLACK)
        self._fill(0, (0, self.height - thickness, end, self.height), _WHITE)


def render(picture: Picture, path: Path, stopped: Callable[[], bool] = lambda: False) -> None:
    """Write the clip as H.264 in MP4, index first, 24 frames per second.

    Raises:
        RenderingStoppedError: ``stopped()`` became true meanwhile.
    """
    canvas, count = Canvas(picture), picture.duration * FPS
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODER)
        stream.width, stream.height = picture.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(count):
            if stopped():
                raise RenderingStoppedError(path.name)
            container.mux(stream.encode(canvas.frame(number, count)))
        container.mux(stream.encode(None))


def still(picture: Picture) -> Image.Image:
    """The clip's background as an image, for reference media."""
    return _background(picture, _digest(picture.title)[0] * 360 // 256)


def _background(picture: Picture, hue: int) -> Image.Image:
    width, height = picture.size
    top, bottom = _hsv(hue, 0.75, 0.55), _hsv(hue + 50, 0.8, 0.2)
    image = Image.composite(
        Image.new("RGB", picture.size, bottom),
        Image.new("RGB", picture.size, top),
        Image.linear_gradient("L").resize(picture.size),
    )
    pen, margin = ImageDraw.Draw(image), width // 20
    size, room = max(16, min(width, height) // 14), width - 2 * margin
    _write(pen, (margin, height // 12), lines_of(picture.title, size, room, 5), size)
    small = size // 2
    _write(pen, (margin, height // 2), lines_of(picture.caption, small, room), small)
    return image


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: list[str], size: int) -> None:
    for number, line in enumerate(lines):
        draw(pen, (at[0], at[1] + number * size * 1.4), line, size)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _text_height(font: Font) -> float:
    return font.getbbox("Mg")[3]


def _hsv(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    """A colour from its hue in degrees; saturation and value from 0 to 1."""

    def channel(offset: int) -> int:
        place = (offset + hue / 60) % 6
        return round(255 * value * (1 - saturation * max(0.0, min(place, 4 - place, 1.0))))

    return channel(5), channel(3), channel(1)
