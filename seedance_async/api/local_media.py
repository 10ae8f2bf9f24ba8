"""Reference media on this machine: what they are, by their first bytes, and what identifies them.

A medium is known by the hash of its content, wherever it lies and wherever it was uploaded to.
Formats: API page "Image to Video", table "Supported Reference Types".
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard

import attrs

#: Begins the text that stands for the medium where a request is compared or kept.
STAND_IN = "sha256:"

#: The rule that it breaks where nobody can upload it.
NO_UPLOADER = (
    "must be a public https:// URL; to send a file from this machine, give the session an uploader"
)

#: Bytes of a medium, at most. The API's page names no limit; what is larger is no reference but a
#: mistake, and would be read into memory.
MAX_BYTES = 200 * 2**20

_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # one letter is a drive on Windows

#: By extension, the content type. Those of one family are told apart by nothing that matters here.
_TYPES = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
    ".gif": "image/gif", ".bmp": "image/bmp", ".mp4": "video/mp4", ".mov": "video/quicktime",
    ".m4v": "video/x-m4v", ".webm": "video/webm", ".mkv": "video/x-matroska",
    ".avi": "video/x-msvideo", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".m4a": "audio/mp4",
    ".aac": "audio/aac", ".ogg": "audio/ogg", ".flac": "audio/flac",
}  # fmt: skip
_FAMILIES = (
    frozenset({".jpg", ".jpeg"}),
    frozenset({".mp4", ".mov", ".m4v", ".m4a"}),
    frozenset({".webm", ".mkv"}),
)
_NAMES = {".jpg": "a JPEG image", ".mp4": "an MP4 file", ".webm": "a WebM or Matroska file"}


@attrs.frozen
class LocalMedium:
    """A file on this machine, or its content, as an uploader is given it.

    Attributes:
        name: of the file; one made of the hash for bytes. Its extension fits the content.
        content_type: such as `image/png`.
        size: bytes.
        sha256: of the content, in hexadecimal.
        identity: what it is known by: the hash of its content; of a medium that was made from
            another one, the identity of that and what was done to it.
        path: the file that it is, or was made from; None for bytes.
    """

    name: str
    content_type: str
    size: int
    sha256: str
    _source: Path | bytes | Callable[[], bytes] = attrs.field(repr=False, eq=False)
    identity: str = attrs.field(default=attrs.Factory(lambda self: self.sha256, takes_self=True))
    path: Path | None = None

    def read(self) -> bytes:
        """The content. Blocks.

        Raises:
            OSError: the file cannot be read.
            ValueError: it was changed since the request was checked.
        """
        data = _content(self._source)
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ValueError(f"{self.name} was changed after it was checked")
        return data

    @property
    def stand_in(self) -> str:
        """What stands for it in the journal: its identity, and its name for people to read."""
        return f"{STAND_IN}{self.identity}/{self.name}"


def _content(source: Path | bytes | Callable[[], bytes]) -> bytes:
    if isinstance(source, bytes):
        return source
    return source.read_bytes() if isinstance(source, Path) else source()


#: A file, by its path, or the content of one, or what is known of one.
LocalSource: TypeAlias = os.PathLike[str] | str | bytes | LocalMedium

#: Puts a medium where the API can fetch it, and returns its URL.
Uploader: TypeAlias = Callable[[LocalMedium], Awaitable[str]]


def is_local(value: object) -> TypeGuard[LocalSource]:
    """Whether a medium is on this machine: a path, text that is no URL, bytes, or what it is."""
    if isinstance(value, str):
        text = value.strip()
        return bool(text) and not _HAS_SCHEME.match(text) and not text.startswith("//")
    return isinstance(value, (bytes, os.PathLike, LocalMedium))


def content_of(value: Any) -> Any:
    """What an open file holds, from where it stands; anything else as it is. Blocks."""
    read = getattr(value, "read", None)
    if not callable(read) or isinstance(value, (os.PathLike, LocalMedium)):
        return value
    file: IO[Any] = value
    return file.read()


def local_medium(value: LocalSource) -> LocalMedium:
    """What a file, or its content, is. Blocks, for as long as reading it takes, the first time.

    Raises:
        ValueError: it cannot be used; the text is the rule that it breaks.
    """
    if isinstance(value, LocalMedium):
        return value
    if isinstance(value, bytes):
        return _described("", value, value)
    try:
        return _at(Path(os.fsdecode(value)))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError("must be a file that exists, or a public https:// URL") from None
    except OSError as error:
        raise ValueError(f"must be a file that can be read ({error.strerror})") from None
    except ValueError:
        raise
    except Exception as error:  # whatever a path of the caller's own may raise
        raise ValueError(f"must be a path ({error!r:.80})") from error


def _at(path: Path) -> LocalMedium:
    known = path.stat()
    if not path.is_file():
        raise ValueError("must be a file")
    _check_size(known.st_size)
    changes = known.st_mtime_ns, known.st_ctime_ns
    return _of_file(path.absolute(), known.st_size, known.st_ino, changes)


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES:,} bytes, and has {size:,}")


def suffix_of(value: LocalSource) -> str:
    """The extension of a file, in lower case; for bytes, the one that they should have."""
    if isinstance(value, bytes):
        return _sniffed(value) or ""
    if isinstance(value, LocalMedium):
        return Path(value.name).suffix.lower()
    try:
        return Path(os.fsdecode(value)).suffix.lower()
    except Exception:  # the rules refuse it
        return ""


@functools.lru_cache(maxsize=4096)
def _of_file(path: Path, _size: int, _number: int, _changes: tuple[int, int]) -> LocalMedium:
    """A file as long as it is not changed; thousands of jobs may have the same picture."""
    return _described(path.name, path.read_bytes(), path)


def _described(name: str, data: bytes, source: Path | bytes) -> LocalMedium:
    if not data:
        raise ValueError("must not be empty")
    _check_size(len(data))
    found, told = _sniffed(data), Path(name).suffix.lower()
    if found is None:
        raise ValueError("must be an image, a video or an audio file of a known format")
    if told in _TYPES and not _are_alike(told, found):
        raise ValueError(f"must be what its name says: it is {_named(found)}, not {told}")
    sha256 = hashlib.sha256(data).hexdigest()
    suffix = told if told in _TYPES else found
    full = name if told in _TYPES else f"{name or sha256[:16]}{found}"
    path = source if isinstance(source, Path) else None
    return LocalMedium(full, _TYPES[suffix], len(data), sha256, source, path=path)


def _are_alike(one: str, other: str) -> bool:
    return one == other or any(one in family and other in family for family in _FAMILIES)


def _named(suffix: str) -> str:
    return _NAMES.get(suffix, f"a {suffix[1:].upper()} file")


def _sniffed(data: bytes) -> str | None:
    """The extension that the first bytes ask for; None if they are of no known format."""
    for start, suffix in _BEGINNINGS:
        if data.startswith(start):
            return suffix
    if data[:4] == b"RIFF":
        return {b"WEBP": ".webp", b"WAVE": ".wav", b"AVI ": ".avi"}.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _of_brand(data[8:12])
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        return ".aac" if data[1] & 0xF6 == 0xF0 else ".mp3"
    return None


def _of_brand(brand: bytes) -> str | None:
    if brand in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"):
        return None  # pictures, in a format that the API does not name
    return ".m4a" if brand == b"M4A " else ".mp4"


_BEGINNINGS = (
    (b"\xff\xd8\xff", ".jpg"),
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
    (b"BM", ".bmp"),
    (b"\x1a\x45\xdf\xa3", ".webm"),
    (b"ID3", ".mp3"),
    (b"OggS", ".ogg"),
    (b"fLaC", ".flac"),
)
