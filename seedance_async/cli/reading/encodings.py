"""The text of a file: UTF-8 or UTF-16, as editors and spreadsheets write them."""

from __future__ import annotations

import codecs
import re

from seedance_async import Violation
from seedance_async.cli.reading.record import UnreadableError

#: What tells UTF-16; text without such a mark is UTF-8.
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")

_SAVE_AS = "in a spreadsheet, save as “CSV UTF-8”"
_NO_TEXT = "is not text: a file of prompts is text, JSON or CSV"


def decoded(data: bytes) -> str:
    """The text. Raises UnreadableError if it is none, or in a legacy encoding."""
    if data.startswith((_ZIP, _OLE)):
        rule = f"is a spreadsheet or another packed file, not text; {_SAVE_AS}"
        raise UnreadableError("line 1", Violation("file", data[:4], rule))
    if data.startswith(_UTF_32):
        raise UnreadableError("line 1", Violation("file", data[:4], "must be UTF-8, not UTF-32"))
    text = _utf_16(data) if data.startswith(_UTF_16) else _utf_8(data)
    if bad := _CONTROL.search(text):
        where = f"line {text.count(chr(10), 0, bad.start()) + 1}"
        raise UnreadableError(where, Violation("file", bad[0], _NO_TEXT))
    return text.replace("\r", "\n") if "\n" not in text else text  # as Macs once did


def _utf_16(data: bytes) -> str:
    try:
        return data.decode("utf-16")
    except UnicodeDecodeError as error:
        bad = data[error.start : error.start + 2]
        raise UnreadableError(
            "line 1", Violation("file", bad, "begins as UTF-16 does and is not")
        ) from None


def _utf_8(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"line {data.count(10, 0, error.start) + 1}"
        rule = (
            "must be UTF-8 (or UTF-16 with its mark), and a legacy encoding cannot be told from "
            f"others: {_SAVE_AS}; elsewhere, `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`, with the "
            "encoding that it has"
        )
        bad = data[error.start : error.start + 1]
        raise UnreadableError(where, Violation("text", bad, rule)) from None
