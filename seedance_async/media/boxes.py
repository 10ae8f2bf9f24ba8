"""The boxes of an MP4 file, read and put together again: ISO/IEC 14496-12, section 4.2.

Nothing here knows what a box means but `moov`, whose tables say where the frames are in the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import attrs

#: Boxes on the way from `moov` to the tables of places; every `trak` has its own.
_ON_THE_WAY = frozenset({b"trak", b"mdia", b"minf", b"stbl"})

#: Boxes of a file, or of its tables, that hold places which nothing here knows how to move.
_FRAGMENTS = frozenset({b"moof", b"mfra", b"sidx", b"ssix", b"meta"})
_AUXILIARY = b"saio"


@attrs.frozen
class Place:
    """Where a box is in a file."""

    kind: bytes
    start: int
    end: int


def places_of(file: BinaryIO) -> list[Place]:
    """The boxes of a file.

    Raises:
        ValueError: they do not fill it exactly.
    """
    size, at = file.seek(0, 2), 0
    found: list[Place] = []
    while at < size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            length = size - at
        if length < 8 or at + length > size:
            raise ValueError("it is no whole MP4 file")
        found.append(Place(kind, at, at + length))
        at += length
    return found


def movable_index(places: list[Place]) -> Place:
    """The one `moov` of a file whose frames can be moved.

    Raises:
        ValueError: there is none, or the file is made of fragments.
    """
    fragments = _FRAGMENTS & {place.kind for place in places}
    if fragments:
        raise ValueError(f"it is made of fragments ({sorted(fragments)[0].decode()})")
    index = [place for place in places if place.kind == b"moov"]
    if len(index) != 1:
        raise ValueError("it has no index, or several")
    return index[0]


def box(kind: bytes, content: bytes) -> bytes:
    """A box."""
    return struct.pack(">I", 8 + len(content)) + kind + content


def children(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in the content of one: kind and content of each.

    Raises:
        ValueError: they do not fill it. Four zeros at its end are allowed, as QuickTime writes.
    """
    at = 0
    while at < len(content) and content[at:] != bytes(4):
        length = int.from_bytes(content[at : at + 4], "big")
        if length < 8 or at + length > len(content):
            raise ValueError("a box in its index is damaged")
        yield content[at + 4 : at + 8], content[at + 8 : at + length]
        at += length


def child(content: bytes, kind: bytes) -> bytes | None:
    """The content of the first box of a kind in the content of another one."""
    return next((inner for found, inner in children(content) if found == kind), None)


def with_child(content: bytes, kind: bytes, inner: bytes) -> bytes:
    """The content of a box with one in it replaced, or added at its end."""
    kept = [(found, each) for found, each in children(content)]
    at = next((place for place, (found, _) in enumerate(kept) if found == kind), len(kept))
    kept[at : at + 1] = [(kind, inner)]
    return b"".join(box(found, each) for found, each in kept)


def moved(content: bytes, begins: int, by: int) -> bytes:
    """The content of `moov`, for a file in which all from a place on is so many bytes later.

    Raises:
        ValueError: a table cannot hold the new places, or is of a kind that is not known.
    """
    parts = []
    for kind, inner in children(content):
        if kind in _ON_THE_WAY:
            inner = moved(inner, begins, by)
        elif kind in (b"stco", b"co64"):
            inner = _moved_table(inner, "I" if kind == b"stco" else "Q", begins, by)
        elif kind == _AUXILIARY:
            raise ValueError("it has places that cannot be moved (saio)")
        parts.append(box(kind, inner))
    return b"".join(parts)


def _moved_table(table: bytes, form: str, begins: int, by: int) -> bytes:
    count = int.from_bytes(table[4:8], "big")
    try:
        old = struct.unpack(f">{count}{form}", table[8:])
        new = (place + by if place >= begins else place for place in old)
        return table[:8] + struct.pack(f">{count}{form}", *new)
    except struct.error as error:
        raise ValueError(f"its table of places cannot be written again ({error})") from None
