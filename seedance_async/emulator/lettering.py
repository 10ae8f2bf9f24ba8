"""Text in pictures, whatever its script, with the one font that Pillow brings along.

That font has the letters of English alone, and one for Chinese, Japanese and Korean takes 5 to 20
MB, which is much for a picture in a test. So a letter with an accent is drawn without it, and each
other character that the font lacks as a box with its code point in it: 秋 is `79 CB`. So prompts
can be told apart, and clips are the same on every machine.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: The dashes of Unicode, and its minus sign.
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")

#: Characters of a text that are looked at.
_LONGEST = 2000
_INVISIBLE = ("Cc", "Cf", "Mn", "Me")


@lru_cache(maxsize=16)
def font_of(size: int) -> Font:
    """The font at a size in pixels."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def is_drawable(character: str) -> bool:
    """Whether the font has a picture of a character."""
    if character.isspace():
        return True
    font = font_of(20)
    return bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def drawable(text: str) -> str:
    """The text with what the font has in place of what it lacks, as far as that is the same."""
    return "".join(_known(character) for character in text.translate(_DASHES))


def _known(character: str) -> str:
    if is_drawable(character):
        return character
    base = "".join(c for c in unicodedata.normalize("NFKD", character) if _is_visible(c))
    return base if all(map(is_drawable, base)) else character


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE


def width_of(text: str, size: int) -> float:
    """The width of a drawable text in pixels."""
    font = font_of(size)
    return sum(size if is_box else font.getlength(run) for run, is_box in _runs(text))


def lines_of(text: str, size: int, width: float, most: int = 20) -> list[str]:
    """The drawable text, broken into lines of at most this width, and at most so many."""
    found = _lines(drawable(text[:_LONGEST]), size, width)
    return [line for line, _ in zip(found, range(most), strict=False)]


def _lines(text: str, size: int, width: float) -> Iterator[str]:
    line = ""
    for word in _words(text):
        whole = width_of(word.strip(), size) <= width
        for piece in [word] if whole else word:
            if line.strip() and width_of((line + piece).rstrip(), size) > width:
                yield line.rstrip()
                line = ""
            line = line + piece if line else piece.lstrip()
    if line.strip():
        yield line.rstrip()


def draw(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: str = "white"
) -> None:
    """Draw one line of drawable text, with boxes for what the font lacks."""
    left, top = at
    for run, is_box in _runs(text):
        if is_box:
            _draw_box(pen, (left, top), ord(run), size, fill)
            left += size
        else:
            pen.text((left, top), run, fill=fill, font=font_of(size))
            left += font_of(size).getlength(run)


def _draw_box(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], code: int, size: int, fill: str
) -> None:
    left, top = at[0] + 1, at[1] + size * 0.12
    side = size - 3
    pen.rectangle((left, top, left + side, top + side), outline=fill)
    digits = f"{code:04X}" if code < 0x10000 else f"{code:06X}"
    half, font = len(digits) // 2, font_of(max(6, int(size * (0.42 if code < 0x10000 else 0.3))))
    for row, text in enumerate((digits[:half], digits[half:])):
        middle = (left + side / 2, top + side * (0.28 + 0.46 * row))
        pen.text(middle, text, fill=fill, font=font, anchor="mm")


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces that the font has, and single characters that it lacks."""
    run = ""
    for character in text:
        if is_drawable(character):
            run += character
            continue
        if run:
            yield run, False
        run = ""
        if _is_visible(character):
            yield character, True
    if run:
        yield run, False


def _words(text: str) -> Iterator[str]:
    """Where a line may be broken: before a space, and around each character without a picture."""
    word = ""
    for character in text:
        if character.isspace() and word and not word[-1].isspace():
            yield word
            word = ""
        if not is_drawable(character):
            if word:
                yield word
            yield character
            word = ""
        else:
            word += " " if character.isspace() else character
    if word:
        yield word
