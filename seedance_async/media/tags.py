"""The sidecar of a video within the video itself: in the metadata of its MP4 file.

The prompt is its description, and the whole sidecar, as JSON, its comment, where players, `ffprobe`
and `exiftool` show them. Frames and sound stay as they are. The video was paid for: the new file is
written beside it, read again and compared packet by packet before it takes the name, and where
anything is unusual, the video is left as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from seedance_async.media.boxes import (
    box,
    child,
    children,
    movable_index,
    moved,
    places_of,
    with_child,
)
from seedance_async.media.sidecar import Sidecar

_COMMENT, _DESCRIPTION = b"\xa9cmt", b"desc"

#: The head of a list of tags as iTunes writes it: version and flags, and the handler.
_LIST_HEAD = bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
_TEXT = (1).to_bytes(4, "big") + bytes(4)

#: The `uuid` box of content credentials (C2PA), which sign the bytes of the file.
_CREDENTIALS = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")

_PIECE = 1 << 20


def write_tags(video: Path, sidecar: Sidecar) -> None:
    """Write a sidecar into the metadata of its video. Blocks.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        OSError: it cannot be read or written.
        ValueError: it cannot be done without a risk for the video, which is left as it is.
    """
    video = Path(os.path.realpath(video))
    part = video.with_name(f".{video.name[:80]}.tags")
    try:
        with video.open("rb") as source, part.open("wb") as target:
            _copy_with(source, target, sidecar)
            target.flush()
            os.fsync(target.fileno())
        _verify(video, part, sidecar)
        shutil.copystat(video, part)
        part.replace(video)
    except ValueError as error:
        raise ValueError(f"{video} is left without tags: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def read_tags(video: Path) -> Sidecar | None:
    """The sidecar in the metadata of a video; None if there is none. Blocks.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with video.open("rb") as file:
            index = movable_index(places_of(file))
            comment = _tag(_read(file, index.start + 8, index.end), _COMMENT)
        return None if comment is None else Sidecar.from_text(comment)
    except ValueError:
        return None


def _verify(video: Path, part: Path, sidecar: Sidecar) -> None:
    from seedance_async.media.packets import same_packets

    if read_tags(part) != sidecar or not same_packets(video, part):
        raise ValueError("with tags, it would not be the same")


def _copy_with(source: BinaryIO, target: BinaryIO, sidecar: Sidecar) -> None:
    """Copy a file, but for the box that has the tags and says where the frames are."""
    places = places_of(source)
    index = movable_index(places)
    if any(_is_credentials(source, place.start) for place in places if place.kind == b"uuid"):
        raise ValueError("it has content credentials, which tags would make invalid")
    content = _read(source, index.start + 8, index.end)
    if index.end - index.start - 8 > len(content) or _is_long(source, index.start):
        raise ValueError("its index is larger than any that is known")
    tagged = _with_tags(content, _texts(sidecar))
    tagged = moved(tagged, index.end, len(tagged) - len(content))
    _copy(source, target, 0, index.start)
    target.write(box(b"moov", tagged))
    _copy(source, target, index.end, places[-1].end)


def _texts(sidecar: Sidecar) -> dict[bytes, str]:
    comment = json.dumps(json.loads(sidecar.as_text()), ensure_ascii=False)
    return {_DESCRIPTION: str(sidecar.request.get("prompt", "")), _COMMENT: comment}


def _with_tags(index: bytes, texts: dict[bytes, str]) -> bytes:
    """The content of `moov` with these tags beside those that it has."""
    user_data = child(index, b"udta") or b""
    head, tags = _list_of(user_data)
    for kind, text in texts.items():
        data = box(b"data", _TEXT + text.encode("utf-8", "backslashreplace"))
        tags = with_child(tags, kind, data)
    meta = head + with_child(b"", b"ilst", tags)
    return with_child(index, b"udta", with_child(user_data, b"meta", meta))


def _list_of(user_data: bytes) -> tuple[bytes, bytes]:
    """What precedes the list of tags in its box, and the list."""
    meta = child(user_data, b"meta")
    if meta is None:
        return _LIST_HEAD, b""
    found = list(children(meta[4:]))
    if dict(found).get(b"hdlr", b"")[8:12] != b"mdir":
        raise ValueError("it has metadata of another kind")
    others = b"".join(box(kind, inner) for kind, inner in found if kind != b"ilst")
    return meta[:4] + others, dict(found).get(b"ilst", b"")


def _tag(index: bytes, kind: bytes) -> bytes | None:
    _, tags = _list_of(child(index, b"udta") or b"")
    data = child(child(tags, kind) or b"", b"data")
    return None if data is None else data[8:]


def _is_credentials(file: BinaryIO, start: int) -> bool:
    file.seek(start + 8)
    return file.read(16) == _CREDENTIALS


def _is_long(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    return int.from_bytes(file.read(4), "big") < 8


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    while start < end:
        piece = source.read(min(_PIECE, end - start))
        if not piece:
            raise ValueError("it was changed meanwhile")
        target.write(piece)
        start += len(piece)
