"""Whether two files hold the same frames and the same sound. Needs the extra `media`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from seedance_async.media.clips import opened_clip


def same_packets(one: Path, other: Path) -> bool:
    """Whether all packets of two files are the same: their bytes, their times, their order. Blocks.

    Raises:
        ValueError: one cannot be read.
    """
    return all(a == b for a, b in zip_longest(_packets(one), _packets(other)))


def _packets(path: Path) -> Iterator[tuple[Any, ...]]:
    with opened_clip(path) as (container, _):
        for packet in container.demux():
            if packet.size:
                times = packet.pts, packet.dts, packet.duration, packet.time_base
                yield packet.stream_index, *times, packet.is_keyframe, bytes(packet)
