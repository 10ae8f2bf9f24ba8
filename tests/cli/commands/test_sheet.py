"""`seedance sheet`, of the videos of a real batch."""

from pathlib import Path

from PIL import Image

from tests.cli.conftest import write_prompts
from tests.support.clips import write_clip


def test_the_videos_of_a_batch_are_on_one_sheet(seedance, seedance_emulator):
    write_prompts(5)
    assert seedance("batch", "prompts.txt").code == 0
    done = seedance("sheet", "videos", "-o", "sheet.png", "--columns", "3", "--width", "160")
    assert (done.code, done.out) == (0, "sheet.png\n")
    assert "5 videos on one sheet" in done.err
    with Image.open("sheet.png") as image:
        assert image.format == "PNG"
        assert image.width == 3 * 168 + 8
        assert image.height > 2 * 90


def test_a_picture_that_exists_is_replaced_only_if_asked(seedance):
    Path("videos").mkdir()
    write_clip(Path("videos/a.mp4"), 3)
    assert (seedance("sheet").code, Path("videos/sheet.png").exists()) == (0, True)
    Path("videos/sheet.png").write_bytes(b"mine")
    done = seedance("sheet")
    assert done.code == 2
    assert "videos/sheet.png exists; --overwrite replaces it" in done.err
    assert Path("videos/sheet.png").read_bytes() == b"mine"
    assert seedance("sheet", "--overwrite").code == 0
    assert Path("videos/sheet.png").read_bytes() != b"mine"


def test_a_sheet_that_cannot_be_made_is_told_in_one_line(seedance):
    Path("videos").mkdir()
    done = seedance("sheet")
    assert done.code == 2
    assert "videos has no videos" in done.err
    write_clip(Path("videos/a.mp4"), 3)
    done = seedance("sheet", "-o", "nowhere/sheet.png")
    assert done.code == 2
    assert "nowhere/sheet.png cannot be written: No such file" in done.err
