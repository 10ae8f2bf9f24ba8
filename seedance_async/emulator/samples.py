"""Samples: a few tiny reference files, so that examples can use loopback URLs."""

import wave
from array import array
from collections.abc import Callable, Mapping
from math import exp, pi, sin
from pathlib import Path

import av

from seedance_async.emulator.render import Picture, render, still

_RATE = 16_000
_SECONDS = 2
_BEATS = 4
Writer = Callable[[Path, Callable[[], bool]], None]
"""Writes a file to a path; it may stop early once the given function returns true."""


def _write_still(title: str) -> Writer:
    def write(path: Path, stopped: Callable[[], bool]) -> None:
        picture = Picture(title, "reference image", "480p", "16:9", 1)
        still(picture).save(path, format="JPEG", quality=80)

    return write


def _write_clip(path: Path, stopped: Callable[[], bool]) -> None:
    render(Picture("Reference clip", "reference video", "480p", "16:9", 1), path, stopped)


def _beat() -> bytes:
    """A low tone struck four times in two seconds, 16 bits, one channel."""
    step = _RATE * _SECONDS // _BEATS
    return array(
        "h",
        (
            round(20_000 * exp(-(n % step) / 1200) * sin(2 * pi * 110 * n / _RATE))
            for n in range(_RATE * _SECONDS)
        ),
    ).tobytes()


def _write_wav(path: Path, stopped: Callable[[], bool]) -> None:
    with path.open("wb") as file, wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes(_beat())


def _write_mp3(path: Path, stopped: Callable[[], bool]) -> None:
    frame = av.AudioFrame(format="s16", layout="mono", samples=_RATE * _SECONDS)
    frame.planes[0].update(_beat())
    frame.sample_rate = _RATE
    with av.open(str(path), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=_RATE)
        stream.codec_context.layout = "mono"
        resampler = av.AudioResampler("s16p", "mono", _RATE, stream.codec_context.frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


SAMPLES: Mapping[str, Writer] = {
    "photo.jpg": _write_still("First frame"),
    "last.jpg": _write_still("Last frame"),
    "clip.mp4": _write_clip,
    "beat.wav": _write_wav,
    "beat.mp3": _write_mp3,
}
"""The function that writes each sample, by file name."""
