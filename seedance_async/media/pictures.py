"""A picture fitted to an aspect ratio, its format kept. Needs the extra `media`.

Nothing is scaled: a picture is cropped around its centre, or gets black bars.
"""

from __future__ import annotations

import io
import re
from typing import Any, Literal, TypeAlias

from seedance_async.media.extra import media_required

with media_required():
    from PIL import Image, ImageOps

How: TypeAlias = Literal["crop", "pad"]

_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = 1

#: By format, what it is saved with where it has to be encoded again.
_SAVING: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4},
}


def fit(data: bytes, ratio: str, how: How) -> bytes:
    """A picture with an aspect ratio; the bytes that were given if it has that, and is upright.

    The orientation that EXIF names is applied first. An animation becomes its first picture.

    Args:
        data: a JPEG, PNG, WebP, GIF or BMP file.
        ratio: width to height, such as `16:9`.
        how: `crop` cuts off what is too much, `pad` adds black bars.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        ValueError: the ratio is none, or the data are no picture that can be decoded.
    """
    width, height = _parsed(ratio)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = ImageOps.exif_transpose(opened)
            size = _fitted(image.size, width, height, how)
            if size == image.size and _is_upright(opened):
                return data
            form = "JPEG" if opened.format == "MPO" else opened.format or "PNG"
            fitted = _cut(image, size) if how == "crop" else _on_black(image, size)
            return _encoded(fitted, form, image.info)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"must be a picture that can be decoded ({error})") from error


def _parsed(ratio: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,3}):([1-9][0-9]{0,3})", ratio, re.ASCII)
    if match is None:
        raise ValueError(f"must be a ratio such as 16:9 for a picture to be fitted, not {ratio!r}")
    return int(match[1]), int(match[2])


def _is_upright(image: Image.Image) -> bool:
    return bool(image.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT)


def _fitted(size: tuple[int, int], width: int, height: int, how: How) -> tuple[int, int]:
    """The largest size within another one, or the smallest around it, with a ratio.

    To the nearest pixel: what is as near as whole pixels allow has the ratio.
    """
    across, down = max(1, round(size[1] * width / height)), max(1, round(size[0] * height / width))
    if size[0] == across or size[1] == down:
        return size
    is_wide = size[0] > across
    return (across, size[1]) if is_wide == (how == "crop") else (size[0], down)


def _cut(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def _on_black(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.mode in ("P", "PA", "1"):  # a palette may have no black
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    canvas = Image.new(image.mode, size, "black")
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


def _encoded(image: Image.Image, form: str, info: dict[Any, Any]) -> bytes:
    kept = {name: info[name] for name in ("icc_profile", "exif") if info.get(name)}
    target = io.BytesIO()
    image.save(target, form, **_SAVING.get(form, {}), **kept)
    return target.getvalue()
