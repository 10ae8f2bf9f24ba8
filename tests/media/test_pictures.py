"""Pictures fitted to a ratio: the right part, upright, in their own format, never scaled."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seedance_async.media.pictures import fit
from tests.support.for_each import for_each
from tests.support.pictures import PNG

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP"]


def stripes(width, height, mode="RGB", form="PNG", **saving):
    """A picture that is red at the left, green in the middle, blue at the right, by thirds."""
    image = Image.new("RGB", (width, height), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, width // 3, height))
    image.paste((0, 0, 255), (width - width // 3, 0, width, height))
    target = io.BytesIO()
    image.convert(mode).save(target, form, **saving)
    return target.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def colour(data, place):
    image = opened(data).convert("RGB")
    red, green, blue = image.getpixel((int(place[0] * image.width), int(place[1] * image.height)))
    names = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (0, 0, 0): "black"}
    return names[red > 128, green > 128, blue > 128]


@for_each("form", FORMATS)
def test_a_picture_is_cropped_around_its_centre_in_its_own_format(form):
    found = fit(stripes(300, 90, form=form), "1:1", "crop")
    assert opened(found).format == form
    assert opened(found).size == (90, 90)
    assert {colour(found, (x, 0.5)) for x in (0.05, 0.5, 0.95)} == {"green"}


@for_each("form", FORMATS)
def test_a_picture_gets_black_bars_in_its_own_format(form):
    found = fit(stripes(300, 90, form=form), "1:1", "pad")
    assert opened(found).format == form
    assert opened(found).size == (300, 300)
    assert [colour(found, (x, 0.5)) for x in (0.05, 0.5, 0.95)] == ["red", "green", "blue"]
    assert {colour(found, (0.5, y)) for y in (0.05, 0.95)} == {"black"}


@for_each("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pictures_of_all_kinds_are_fitted(mode):
    for how, size in (("crop", (90, 90)), ("pad", (300, 300))):
        assert opened(fit(stripes(300, 90, mode), "1:1", how)).size == size


@for_each("mode", ["L", "CMYK"])
def test_a_jpeg_stays_what_it_is(mode):
    found = fit(stripes(300, 90, mode, "JPEG"), "1:1", "pad")
    assert opened(found).mode == mode
    assert colour(found, (0.5, 0.05)) == "black"


@for_each(
    ("size", "ratio", "cropped", "padded"),
    [
        ((1920, 1080), "1:1", (1080, 1080), (1920, 1920)),
        ((1920, 1080), "9:16", (608, 1080), (1920, 3413)),
        ((1000, 1000), "16:9", (1000, 562), (1778, 1000)),
        ((1366, 768), "16:9", (1366, 768), (1366, 768)),
        ((3, 1), "1:9", (1, 1), (3, 27)),
    ],
)
def test_the_size_is_right_to_the_pixel(size, ratio, cropped, padded):
    picture = stripes(*size)
    assert opened(fit(picture, ratio, "crop")).size == cropped
    assert opened(fit(picture, ratio, "pad")).size == padded


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    ratio=st.tuples(st.integers(1, 21), st.integers(1, 21)),
)
def test_nothing_is_scaled_and_what_is_fitted_once_is_left_alone(size, ratio):
    picture, wanted = stripes(*size, form="BMP"), f"{ratio[0]}:{ratio[1]}"
    cropped, padded = fit(picture, wanted, "crop"), fit(picture, wanted, "pad")
    inner, outer = opened(cropped).size, opened(padded).size
    assert all(a <= b <= c for a, b, c in zip(inner, size, outer, strict=True))
    assert any(a == b for a, b in zip(inner, size, strict=True))
    assert any(a == b for a, b in zip(size, outer, strict=True))
    assert fit(cropped, wanted, "crop") is cropped
    assert fit(padded, wanted, "pad") is padded


@for_each("form", FORMATS)
def test_a_picture_that_has_the_ratio_is_not_touched(form):
    picture = stripes(160, 90, form=form)
    assert fit(picture, "16:9", "crop") is picture
    assert fit(picture, "32:18", "pad") is picture


@for_each("form", ["JPEG", "PNG", "WEBP"])
@for_each("ratio", ["1:3", "1:1"])
def test_the_orientation_of_a_camera_is_applied(form, ratio):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: what is at the left comes to the top
    exif[0x010F] = "A camera"
    found = fit(stripes(300, 100, form=form, exif=exif), ratio, "pad")
    image = opened(found)
    assert image.size == ((100, 300) if ratio == "1:3" else (300, 300))
    assert [colour(found, (0.5, y)) for y in (0.05, 0.5, 0.95)] == ["red", "green", "blue"]
    assert image.getexif().get(0x0112) is None
    assert image.getexif()[0x010F] == "A camera"


def test_the_colour_profile_is_kept():
    found = fit(stripes(300, 90, form="JPEG", icc_profile=b"a profile"), "1:1", "crop")
    assert opened(found).info["icc_profile"] == b"a profile"


def test_transparent_parts_stay_transparent():
    picture = io.BytesIO()
    Image.new("RGBA", (30, 10), (255, 0, 0, 0)).save(picture, "PNG")
    found = fit(picture.getvalue(), "1:1", "pad")
    assert [opened(found).getpixel((15, y))[3] for y in (0, 15)] == [255, 0]


@for_each("ratio", ["adaptive", "16/9", "0:1", "16:0", "٣:1", "16:9 ", ""])
def test_what_is_no_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match="ratio such as 16:9"):
        fit(stripes(30, 30), ratio, "crop")


def test_what_is_no_whole_picture_is_refused():
    for data in (PNG, b"", stripes(300, 90)[:200]):
        with pytest.raises(ValueError, match="can be decoded"):
            fit(data, "1:1", "crop")
