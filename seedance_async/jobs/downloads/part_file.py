"""The file side of a download: its name, the temporary file beside it, and whether it is whole.

What blocks is called off the event loop by `downloads`. Nothing here knows of HTTP.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from seedance_async.api.errors import DownloadError
from seedance_async.api.models import Generation

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

_SAFE_NAME = r"[A-Za-z0-9_-]{1,64}"
_RESERVED = r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])"


def file_name(request_id: str) -> str:
    """A file name for a job's video that is safe whatever the server's id says."""
    if re.fullmatch(_SAFE_NAME, request_id) and not re.fullmatch(_RESERVED, request_id):
        return f"{request_id}.mp4"
    digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"job-{digest[:32]}.mp4"


class BrokenTransferError(Exception):
    """A transfer that has to be made again, from where it ended or from the start."""

    def __init__(self, told: str, *, status: int | None = None, transient: bool = True) -> None:
        self.status, self.transient = status, transient
        super().__init__(told)


def free_space(folder: Path) -> int | None:
    """Bytes that a folder has room for; None where the file system does not tell."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


@attrs.define(eq=False, repr=False)
class PartFile:
    """The temporary file beside the target. All its methods but the small ones block."""

    target: Path
    request_id: str
    size: int = 0
    total: int | None = None
    etag: str | None = None
    free: Callable[[Path], int | None] = free_space
    _path: Path = attrs.field(init=False)
    _file: BinaryIO | None = attrs.field(default=None, init=False)
    _hash: Any = attrs.field(factory=hashlib.sha256, init=False)
    _room_checked: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._path = self.target.with_name(f"{self._stem}{secrets.token_hex(6)}.part")

    @property
    def _stem(self) -> str:
        return f".{self.target.name[:80]}."

    @property
    def sha256(self) -> str:
        """Of what is written so far, in hexadecimal."""
        return str(self._hash.hexdigest())

    def error(self, told: str, status: int | None = None) -> DownloadError:
        """A `DownloadError` about this file."""
        return DownloadError(told, request_id=self.request_id, path=self.target, status=status)

    def range_headers(self) -> dict[str, str]:
        """The headers that ask for the rest of the video."""
        if not self.size:
            return {}
        headers = {"Range": f"bytes={self.size}-"}
        if self.etag is not None and not self.etag.startswith("W/"):
            headers["If-Range"] = self.etag
        return headers

    def expect(self, total: int | None, etag: str | None) -> None:
        """What the server tells of the whole video: its bytes, and its ETag."""
        self.total, self.etag, self._room_checked = total, etag, False

    def open(self) -> None:
        """Make the file, and sweep away what killed processes have left of this one."""
        for other in self.target.parent.iterdir():
            if other.name.startswith(self._stem) and other.name.endswith(".part"):
                _remove_if_forsaken(other)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self._path, flags, 0o666), "wb")
        _lock(self._file)

    def restart(self) -> None:
        """Forget what is written."""
        file = self._opened()
        file.seek(0)
        file.truncate()
        self.size, self.total, self.etag = 0, None, None
        self._hash = hashlib.sha256()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Append pieces; the first ones only if there is room for all that is to come.

        Raises:
            OSError: there is none, or the disk fails otherwise.
        """
        self._check_room()
        file = self._opened()
        for piece in pieces:
            file.write(piece)
            self._hash.update(piece)
            self.size += len(piece)

    def _check_room(self) -> None:
        if self._room_checked:
            return
        self._room_checked = True
        free = self.free(self.target.parent)
        needed = 0 if self.total is None else self.total - self.size
        if free is not None and free < needed:
            told = f"the disk has no room: {needed:,} bytes are needed, {free:,} are free"
            raise OSError(errno.ENOSPC, told)

    def verify(self) -> None:
        """Whether the video is whole: by its told length, and by the boxes of the MP4."""
        if self.total is not None and self.size < self.total:
            raise BrokenTransferError(f"cut short at {self.size} of {self.total} bytes")
        self._opened().flush()
        problem = mp4_problem(self._path)
        if problem is not None:
            self.restart()
            raise BrokenTransferError(problem)

    def publish(self, overwrite: bool) -> None:
        """Have the file on disk for good, and give it its name."""
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())
        file.close()
        if overwrite:
            self._path.replace(self.target)
        else:
            _rename_new(self._path, self.target)
        _sync_folder(self.target.parent)

    def discard(self) -> None:
        """Close the file and remove what is left of it."""
        if self._file is not None:
            with suppress(OSError):  # what is still in the buffer finds the disk full again
                self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def checked_target(generation: Generation, path: Path, overwrite: bool) -> Path:
    """The file to write, for a path that may be a folder. Raises `DownloadError` if it is taken."""
    target = path / file_name(generation.request_id) if path.is_dir() else path
    told = None
    if not target.parent.is_dir():
        told = "its folder does not exist"
    elif not overwrite and (target.exists() or target.is_symlink()):
        told = "a file is there; pass overwrite=True to replace it"
    elif target.is_dir():
        told = "a folder is there"
    if told is not None:
        raise DownloadError(told, request_id=generation.request_id, path=target)
    return target


def _rename_new(source: Path, target: Path) -> None:
    """Rename, but never over a file that came meanwhile."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the check is not atomic there
        if target.exists():
            raise FileExistsError(17, "a file is there", str(target)) from None
        source.rename(target)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(file: BinaryIO) -> None:
    """Show, for as long as this process lives, that the file is being written."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_if_forsaken(path: Path) -> None:
    """Remove a temporary file that no living process writes."""
    with suppress(OSError), path.open("rb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def mp4_problem(path: Path) -> str | None:
    """What is wrong with an MP4 file as a container, or None: its boxes must fill it exactly.

    This finds a file that was cut short even where the server told no length.
    """
    size = path.stat().st_size
    kinds: list[bytes] = []
    with path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            elif length == 0:
                length = size - at
            if not kinds and kind != b"ftyp":
                return "what came is no MP4 file"
            if length < 8:
                return "the MP4 file is damaged"
            kinds.append(kind)
            at += length
    if at != size or b"moov" not in kinds:
        return f"the MP4 file is cut short at {size} bytes"
    return None
