"""Whether bytes that pass by are a whole MP4: its boxes must fill it exactly.

This detects a video that was cut short even if the server gave no length. Nothing is kept of the
bytes but the first few, and the head of the box that is being read.
"""

from __future__ import annotations

_HEAD = 16  # bytes: a length, a kind, and a long length where the first one is 1
_BEGINNING = 64
_NO_MP4 = "the response is no MP4 file"


class Mp4Boxes:
    """The boxes of a video, followed as its bytes arrive.

    Attributes:
        size: bytes seen so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._beginning = b""
        self._head = b""
        self._next = 0  # where the next box begins
        self._is_open = False  # the last box has no length: it ends with the file
        self._has_movie = self._has_begun = False
        self._problem: str | None = None

    def feed(self, piece: bytes) -> None:
        """Follow the boxes through the next bytes."""
        if len(self._beginning) < _BEGINNING:
            self._beginning += piece[: _BEGINNING - len(self._beginning)]
        start, self.size = self.size, self.size + len(piece)
        while self._problem is None and not self._is_open and self._next < self.size:
            at = self._next + len(self._head) - start
            self._head += piece[at : at + _HEAD - len(self._head)]
            if len(self._head) < self._head_size():
                return
            self._enter_box()

    def problem(self) -> str | None:
        """What is wrong if the video ends here, or None."""
        if self._problem is not None:
            return self._problem
        is_whole = self._is_open or (self._next == self.size and not self._head)
        if is_whole and self._has_movie:
            return None
        return f"the MP4 file is cut short at {self.size} B"

    @property
    def is_page(self) -> bool:
        """Whether the bytes begin as a page of text or a JSON answer does."""
        return self._beginning.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[")

    def _head_size(self) -> int:
        return 16 if self._head[:4] == b"\x00\x00\x00\x01" else 8

    def _enter_box(self) -> None:
        head, self._head = self._head, b""
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            self._is_open, length = True, 8
        if not self._has_begun and kind != b"ftyp":
            self._problem = _NO_MP4
        elif length < 8:
            self._problem = "the MP4 file is damaged"
        self._has_begun, self._has_movie = True, self._has_movie or kind == b"moov"
        self._next += length
