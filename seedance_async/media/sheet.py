"""A contact sheet: one picture of many clips, each with its name. Needs the extra `media`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from pathlib import Path

import attrs

from seedance_async.media.extra import media_required
from seedance_async.media.frames import poster
from seedance_async.media.sidecar import read_sidecar

with media_required():
    from PIL import Image, ImageDraw, ImageFont

#: Pixels that a sheet is wide at most, if nobody says how wide a picture is to be.
_WIDEST = 6400
_WIDTH = 320
_FEWEST_COLUMNS = 4

#: Of a picture's width.
_GAP, _TEXT = 1 / 20, 1 / 22

_PAPER, _BLACK, _INK, _PALE = "#16181d", "#000000", "#f2f2f2", "#a0a4ad"


@attrs.frozen
class _Tile:
    """One clip: its picture, or None where it cannot be read, and the lines under it."""

    picture: Image.Image | None
    name: str
    note: str


def contact_sheet(
    clips: Sequence[Path],
    *,
    columns: int | None = None,
    width: int | None = None,
    notes: Mapping[Path, str] | None = None,
) -> bytes:
    """A sheet of clips, in this order, as PNG. Blocks.

    Under each clip are its name and a note. A clip that cannot be read has an empty place.

    Args:
        clips: the clips.
        columns: how many stand side by side; by default as many as make a sheet of a usual shape.
        width: of one picture, in pixels; by default 320, or fewer if there are many columns.
        notes: by clip; by default its prompt, where a sidecar tells it.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        ValueError: there is no clip.
    """
    if not clips:
        raise ValueError("there is no clip to show")
    columns = min(len(clips), columns or max(_FEWEST_COLUMNS, ceil(sqrt(len(clips)))))
    width = width or min(_WIDTH, _WIDEST // columns)
    tiles = [_tile(clip, width, notes) for clip in clips]
    return _Sheet(columns, width, max(_height_of(tile, width) for tile in tiles)).drawn(tiles)


def _tile(clip: Path, width: int, notes: Mapping[Path, str] | None) -> _Tile:
    note = _prompt_of(clip) if notes is None else notes.get(clip, "")
    try:
        picture = Image.open(io.BytesIO(poster(clip, width)))
    except ValueError:
        return _Tile(None, clip.name, note)
    return _Tile(picture, clip.name, note)


def _prompt_of(clip: Path) -> str:
    try:
        return str(read_sidecar(clip).request.get("prompt", ""))
    except (OSError, ValueError):
        return ""


def _height_of(tile: _Tile, width: int) -> int:
    """No picture is higher than a square: upright ones are shown smaller."""
    if tile.picture is None:
        return width * 9 // 16
    return min(width, tile.picture.height)


class _Sheet:
    """Where everything is on a sheet.

    Args:
        columns: how many.
        width, height: of the place for one picture.
    """

    def __init__(self, columns: int, width: int, height: int) -> None:
        self._columns, self._width, self._height = columns, width, height
        self._gap, size = max(2, round(width * _GAP)), max(9, round(width * _TEXT))
        self._font, self._line = ImageFont.load_default(size), round(size * 1.4)
        self._margin = self._line // 4

    def drawn(self, tiles: Sequence[_Tile]) -> bytes:
        """The sheet as PNG."""
        across = self._width + self._gap
        down = self._height + self._margin + 2 * self._line + self._gap
        rows = ceil(len(tiles) / self._columns)
        size = self._columns * across + self._gap, rows * down + self._gap
        sheet = Image.new("RGB", size, _PAPER)
        pen = ImageDraw.Draw(sheet)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, self._columns)
            left, top = self._gap + column * across, self._gap + row * down
            self._draw_picture(sheet, pen, tile, left, top)
            for number, (text, ink) in enumerate(((tile.name, _INK), (tile.note, _PALE))):
                place = left, top + self._height + self._margin + number * self._line
                pen.text(place, self._cut(pen, text), fill=ink, font=self._font)
        target = io.BytesIO()
        sheet.save(target, "PNG")
        return target.getvalue()

    def _draw_picture(
        self, sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: _Tile, left: int, top: int
    ) -> None:
        box = (left, top, left + self._width - 1, top + self._height - 1)
        pen.rectangle(box, fill=_BLACK)
        if tile.picture is None:
            middle = left + self._width // 2, top + self._height // 2
            pen.text(middle, "cannot be read", fill=_PALE, font=self._font, anchor="mm")
            return
        picture = tile.picture.convert("RGB")
        picture.thumbnail((self._width, self._height))
        rest = self._width - picture.width, self._height - picture.height
        sheet.paste(picture, (left + rest[0] // 2, top + rest[1] // 2))

    def _cut(self, pen: ImageDraw.ImageDraw, text: str) -> str:
        """As much of a text as has room on one line."""
        text = " ".join(text.split())[:200]
        if pen.textlength(text, self._font) <= self._width:
            return text
        while text and pen.textlength(f"{text}…", self._font) > self._width:
            text = text[:-1]
        return f"{text}…"
