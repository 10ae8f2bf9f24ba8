"""The file of a download: its name, the temporary file beside it, and whether it is whole.

Nothing here sends anything. What blocks is called off the event loop by `Downloader`.
"""

from __future__ import annotations

import errno
import hashlib
import logging
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
from seedance_async.jobs.downloads.mp4_boxes import Mp4Boxes
from seedance_async.jobs.downloads.transfers import BrokenTransferError, range_headers

try:
    import fcntl
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)

_SAFE_STEM = r"[A-Za-z0-9_-]{1,64}"
_RESERVED_ON_WINDOWS = r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])"


def safe_file_stem(request_id: str) -> str:
    """A file name without a suffix for a job's video: the request id, or a hash of an unsafe one.

    The server's ids are not documented beyond the example `req_1234567890` (API page "Image to
    Video"), so no path is built from one that has any other characters or is too long.
    """
    safe = re.fullmatch(_SAFE_STEM, request_id)
    if safe and not is_reserved_name(request_id):
        return request_id
    digest = hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"job-{digest[:32]}"


def is_reserved_name(stem: str) -> bool:
    """Whether Windows has a device of that name."""
    return re.fullmatch(_RESERVED_ON_WINDOWS, stem) is not None


def free_space(folder: Path) -> int | None:
    """The free bytes of a folder's disk, or None where the file system does not say."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


@attrs.define(eq=False, repr=False)
class PartFile:
    """The temporary file of a download, beside the target.

    `open`, `restart`, `write`, `verify` and `publish` block.

    Attributes:
        target: the video's final path.
        request_id: the job's id, for errors.
        size: bytes written so far.
        total: bytes of the whole video, where the server gave them.
        etag: the server's name for this version of the video, where it gave one.
        free: returns the free bytes of a folder's disk, or None where that is unknown.
    """

    target: Path
    request_id: str
    size: int = 0
    total: int | None = None
    etag: str | None = None
    free: Callable[[Path], int | None] = free_space
    _path: Path = attrs.field(init=False)
    _file: BinaryIO | None = attrs.field(default=None, init=False)
    _hash: Any = attrs.field(factory=hashlib.sha256, init=False)
    _boxes: Mp4Boxes = attrs.field(factory=Mp4Boxes, init=False)
    _room_checked: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._path = self.target.with_name(f"{self._stem}{secrets.token_hex(6)}.part")

    @property
    def _stem(self) -> str:
        return f".{self.target.name[:80]}."

    @property
    def sha256(self) -> str:
        """The hash of the bytes written so far, in hexadecimal."""
        return str(self._hash.hexdigest())

    def error(self, message: str, status: int | None = None) -> DownloadError:
        """A `DownloadError` about this file."""
        return DownloadError(message, request_id=self.request_id, path=self.target, status=status)

    def range_headers(self) -> dict[str, str]:
        """The headers that ask for the rest of the video."""
        return range_headers(self.size, self.etag)

    def expect(self, total: int | None, etag: str | None) -> None:
        """Set what the server says about the whole video: its size and its ETag."""
        self.total, self.etag, self._room_checked = total, etag, False

    def open(self) -> None:
        """Create the file, and remove the temporary files that killed processes left of it."""
        for other in self.target.parent.iterdir():
            if other.name.startswith(self._stem) and other.name.endswith(".part"):
                _remove_if_abandoned(other)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(self._path, flags, 0o666), "wb")
        _lock(self._file)

    def restart(self) -> None:
        """Empty the file."""
        file = self._opened()
        file.seek(0)
        file.truncate()
        self.size, self.total, self.etag = 0, None, None
        self._hash, self._boxes = hashlib.sha256(), Mp4Boxes()

    def write(self, pieces: Iterable[bytes]) -> None:
        """Append pieces. Before the first ones, check that the disk has room for the whole video.

        Raises:
            OSError: the disk has no room, or fails in another way.
        """
        self._check_room()
        file = self._opened()
        for piece in pieces:
            file.write(piece)
            self._hash.update(piece)
            self._boxes.feed(piece)
            self.size += len(piece)

    def _check_room(self) -> None:
        if self._room_checked:
            return
        self._room_checked = True
        free = self.free(self.target.parent)
        needed = 0 if self.total is None else self.total - self.size
        if free is not None and free < needed:
            message = f"the disk has no room: {needed:,} B are needed, {free:,} B are free"
            raise OSError(errno.ENOSPC, message)

    def verify(self) -> None:
        """Check that the video is complete, by its announced size, else by its MP4 boxes.

        A file of the announced size is kept whatever is in it, unless it is a page: the video is
        paid for, and fetching it again would bring the same.

        Raises:
            BrokenTransferError: it is not complete.
        """
        if self.total is not None and self.size < self.total:
            raise BrokenTransferError(f"cut short at {self.size} of {self.total} B")
        self._opened().flush()
        problem = self._boxes.problem()
        if problem is None:
            return
        if self.total == self.size and not self._boxes.is_page:
            _log.warning("the video of job %s is kept as it came: %s", self.request_id, problem)
            return
        self.restart()
        raise BrokenTransferError(problem)

    def publish(self, overwrite: bool) -> None:
        """Flush the file to the disk and give it its final name."""
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
        """Close the file and remove its temporary name."""
        if self._file is not None:
            with suppress(OSError):  # a full disk refuses the rest of the buffer again
                self._file.close()
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _opened(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def checked_target(generation: Generation, path: Path, overwrite: bool) -> Path:
    """The file to write, for a path that may be a folder.

    Raises:
        DownloadError: the path cannot be written, or a file exists and must not be replaced.
    """
    name = f"{safe_file_stem(generation.request_id)}.mp4"
    target = path
    try:
        target = path / name if path.is_dir() else path
        problem = _problem_with(target, overwrite)
    except OSError as error:  # its name is too long, or nobody may look there
        problem = error.strerror or str(error)
    if problem is not None:
        raise DownloadError(problem, request_id=generation.request_id, path=target)
    return target


def _problem_with(target: Path, overwrite: bool) -> str | None:
    if "\0" in str(target):
        return "no file name has a null character"
    if not target.parent.is_dir():
        return "its folder does not exist"
    if not overwrite and (target.exists() or target.is_symlink()):
        return "a file is there; pass overwrite=True to replace it"
    if target.is_dir():
        return "a folder is there"
    return None


def _rename_new(source: Path, target: Path) -> None:
    """Rename a file, but never over one that was created meanwhile."""
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
    """Mark the file as being written, for as long as this process lives."""
    if fcntl is not None:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_if_abandoned(path: Path) -> None:
    """Remove a temporary file unless a living process is writing it."""
    with suppress(OSError), path.open("rb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
