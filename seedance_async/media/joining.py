"""Clips joined to a film without encoding them again. Needs the extra `media`.

That is possible for clips of one kind alone: made by the same model, with the same options. The
film is written beside its target, read again and compared with the clips before it gets its name.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from seedance_async.media.clips import opened_clip
from seedance_async.media.extra import media_required

with media_required():
    import av
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream


@attrs.frozen
class Film:
    """What clips were joined to.

    Attributes:
        path: the file.
        frames: how many it has: as many as all clips.
        seconds: how long it is.
    """

    path: Path
    frames: int
    seconds: float


@attrs.frozen
class _Clip:
    """What has to be known of a clip to join it.

    Attributes:
        kind: what has to be equal in all clips, in the words of an error.
        start, end: seconds at which its first frame begins and its last one ends.
        frames: the hash of each frame as it is encoded.
    """

    path: Path
    kind: Mapping[str, Any]
    start: Fraction
    end: Fraction
    frames: list[bytes] = attrs.field(repr=False)


def join_clips(paths: Sequence[Path], target: Path, *, overwrite: bool = False) -> Film:
    """Join clips, in this order, to one MP4 file. Blocks.

    Frames are copied as they are, and every one is kept. So is the sound; where a clip's sound is
    longer than its picture, it ends with the picture, or else it would be late in the next clip.

    Args:
        paths: the clips.
        target: the file to write, whole or not at all.
        overwrite: whether an existing file may be replaced.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        FileExistsError: the target exists.
        OSError: it cannot be written.
        ValueError: there is no clip, one cannot be read, or it is of another kind than the first;
            the message names it and the difference.
    """
    if not paths:
        raise ValueError("there is no clip to join")
    if any(_is_same(path, target) for path in paths):
        raise ValueError(f"{target} is one of the clips")
    if target.exists() and not overwrite:
        raise FileExistsError(17, "a file is there", str(target))
    clips = [_described(path) for path in paths]
    for clip in clips[1:]:
        _check_alike(clips[0], clip)
    part = target.with_name(f".{target.name[:80]}.{secrets.token_hex(6)}.part")
    try:
        _write(clips, part, target)
        _verify(clips, part, target)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    seconds = sum((clip.end - clip.start for clip in clips), Fraction())
    return Film(target, sum(len(clip.frames) for clip in clips), float(seconds))


def _is_same(path: Path, target: Path) -> bool:
    return path.exists() and target.exists() and path.samefile(target)


# --- what a clip is -------------------------------------------------------------------------------


def _described(path: Path) -> _Clip:
    with opened_clip(path) as (container, stream):
        kind = _kind(container, stream)
        frames, start, end = list[bytes](), [], []
        for packet in _packets(container, stream):
            if packet.pts is None or packet.time_base is None or packet.is_discard:
                raise ValueError(f"{path} has frames that are not shown")
            frames.append(hashlib.sha256(bytes(packet)).digest())
            start.append(packet.pts * packet.time_base)
            end.append((packet.pts + (packet.duration or 0)) * packet.time_base)
        if not frames:
            raise ValueError(f"{path} has no frames")
        return _Clip(path, kind, min(start), max(end), frames)


def _kind(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    codec, rate = stream.codec_context, stream.guessed_rate
    sound = _sound_of(container)
    return {
        "codec": codec.name,
        "size": f"{codec.width}x{codec.height}",
        "frame rate": None if rate is None else f"{float(rate):.2f}",
        "time base": str(stream.time_base),
        "pixel format": codec.pix_fmt,
        "shape of a pixel": str(stream.sample_aspect_ratio),
        "sound": "none" if sound is None else _sound_text(sound),
        "encoder's settings": _short_hash(codec.extradata),
        "sound encoder's settings": _short_hash(sound.codec_context.extradata if sound else None),
    }


def _sound_of(container: InputContainer) -> AudioStream | None:
    return container.streams.audio[0] if container.streams.audio else None


def _sound_text(stream: AudioStream) -> str:
    codec = stream.codec_context
    return f"{codec.name}, {codec.sample_rate} Hz, {codec.layout.name}"


def _short_hash(data: bytes | None) -> str:
    return hashlib.sha256(data or b"").hexdigest()[:8]


def _check_alike(first: _Clip, other: _Clip) -> None:
    for name, wanted in first.kind.items():
        found = other.kind[name]
        if found != wanted:
            raise ValueError(
                f"{other.path} cannot be joined to {first.path} without encoding it again: "
                f"its {name} is {found}, not {wanted}"
            )


def _packets(container: InputContainer, *streams: VideoStream | AudioStream) -> Iterator[Any]:
    """What is in the streams, without the empty packet at the end of each."""
    return (packet for packet in container.demux(*streams) if packet.size)


# --- the film -------------------------------------------------------------------------------------


class _Writer:
    """Appends clips to a film.

    Args:
        film: where they go.
    """

    def __init__(self, film: OutputContainer) -> None:
        self._film, self._length = film, Fraction()
        self._sound_ends: Fraction | None = None
        self._last_dts = -math.inf

    def append(self, clip: _Clip) -> None:
        """Append a clip."""
        shift = self._length - clip.start
        with opened_clip(clip.path) as (container, stream):
            sound = _sound_of(container)
            streams = [stream] if sound is None else [stream, sound]
            if not self._film.streams:
                for each in streams:
                    self._film.add_stream_from_template(each)
            for packet in _packets(container, *streams):
                if packet.stream is stream:
                    self._append_frame(packet, shift)
                elif packet.pts * packet.time_base < clip.end:
                    self._append_sound(packet, shift)
        self._length += clip.end - clip.start

    def _append_frame(self, packet: Any, shift: Fraction) -> None:
        """When it is shown is exact; when it is decoded has to come after the frame before."""
        ticks = round(shift / packet.time_base)
        packet.pts += ticks
        packet.dts = max(packet.dts + ticks, self._last_dts + 1)
        self._last_dts = packet.dts
        self._mux(packet, 0)

    def _append_sound(self, packet: Any, shift: Fraction) -> None:
        """It waits for that of the clip before, for half a packet at most; more would be too late.

        So nothing is heard twice, and what clips wait is not added up.
        """
        begins, length = packet.pts * packet.time_base + shift, packet.duration * packet.time_base
        wait = max(Fraction(), (self._sound_ends or begins) - begins)
        if wait * 2 > length:
            return
        self._sound_ends = begins + wait + length
        ticks = round((shift + wait) / packet.time_base)
        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        self._mux(packet, 1)

    def _mux(self, packet: Any, place: int) -> None:
        packet.stream = self._film.streams[place]
        try:
            self._film.mux(packet)
        except av.FFmpegError as error:
            raise _FilmError from error


def _write(clips: Sequence[_Clip], part: Path, target: Path) -> None:
    try:
        options = {"movflags": "+faststart"}
        with av.open(f"file:{part}", "w", format="mp4", options=options) as film:
            writer = _Writer(film)
            for clip in clips:
                writer.append(clip)
    except (_FilmError, av.FFmpegError) as error:
        reason = error.__cause__ if isinstance(error, _FilmError) else error
        assert isinstance(reason, av.FFmpegError)
        raise OSError(reason.errno, reason.strerror, str(target)) from error


class _FilmError(Exception):
    """The film cannot be written; its cause says why."""


def _verify(clips: Sequence[_Clip], part: Path, target: Path) -> None:
    """Read the film again: it must have each frame of each clip, unchanged and in order."""
    film = _described(part)
    length = sum((clip.end - clip.start for clip in clips), Fraction())
    same = film.frames == [frame for clip in clips for frame in clip.frames]
    if not same or film.end - film.start != length:
        raise ValueError(f"{target} was not written: its frames would not be those of the clips")
